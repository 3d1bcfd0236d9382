-- Exchange: promote, settle in the given order, claim, in one step. Ends that are plain successes come first and take
-- a short way; the caller sends them so only where order makes no difference.

local member, claim_id, want, lease_us, fragile_left = arg(), arg(), num(), num(), num()

local function list()
  local values, seen = {}, {}
  for place = 1, num() do
    local value = arg()
    if not seen[value] then
      seen[value] = true
      values[#values + 1] = value
    end
  end
  return values, seen
end

local queues = list()
local _, tasks = list()
local born = births()
if #born == 0 then open_door() end
promote(queues, PROMOTED_MAX)
for _ = 1, num() do
  progress(arg(), arg(), arg())
end

-- --- settlements ----------------------------------------------------------------------------------------------------

local refused = {}
local ended = { claims = {} }

local function succeed(id, fence, digest, result)
  local key = P .. 'j:' .. id
  local v = call('HMGET', key, 'k', 't', 'l', 'h')
  if not v[1] then return false end
  local state, run_at, attempt, its_fence, lost, unfit, extra = match(v[3], '^(%d) (%S+) (%S+) (%S+) (%S+) (%S+) (%d)$')
  local kind = kind_of(v[1])
  if state ~= '2' or its_fence ~= fence or extra ~= '0' or kind.key then
    return settle({ id = id, fence = fence, digest = digest, verb = 'succeed', result = result, delay = 0, spawn = {} })
  end
  local started, length, rest = match(v[4], '^(%S+) (%d+) (.*)$')
  local tag = tag_of(match(v[2], '^%S+'), id)
  local life = '3 ' .. run_at .. ' ' .. attempt .. ' ' .. its_fence .. ' ' .. lost .. ' ' .. unfit .. ' 0'
  call('HSET', key, 'l', life, 'z', fence .. ' ' .. digest, 'e', int(now) .. ' ' .. started, 'r', result, 'h', '')
  put(P .. 'leases', tag, false)
  mark(P .. 'c:' .. string.sub(rest, 1, length), id, false)
  put(P .. 'f:3', tag, now)
  put(P .. 'prune', tag, now + math.max(kind.keep, kind.ttl))
  put(P .. 'drop', tag, now + kind.ttl)
  count(2, kind.queue, -1)
  count(3, kind.queue, 1)
  ends = true
  return true
end

for place = 1, num() do
  if not succeed(arg(), arg(), arg(), arg()) then refused[#refused + 1] = place end
end

for place = 1, num() do
  local s = { id = arg(), fence = arg(), digest = arg(), verb = arg(), delay = num(), unfit = arg() == '1' }
  s.result, s.dropped, s.cause, s.reason, s.problem, s.spawn = maybe(), maybe(), maybe(), maybe(), maybe(), {}
  local spawned = num()
  s.refused = spawned < 0 -- what it would spawn cannot be stored
  for number = 1, spawned do
    s.spawn[number] = { birth = born[num()], id = arg(), payload = arg() }
  end
  if not settle(s) then refused[#refused + 1] = -place end
end
flush()

-- --- claim ----------------------------------------------------------------------------------------------------------

local claimed, taken, skipped = {}, 0, 0

local function hand_out(id, kind, payload, attempt, fence, lost, age, wait)
  local at = #claimed
  claimed[at + 1], claimed[at + 2], claimed[at + 3], claimed[at + 4] = id, kind, payload, attempt
  claimed[at + 5], claimed[at + 6] = fence, lost
  claimed[at + 7], claimed[at + 8] = math.max(0, age), math.max(0, wait)
end

local running = call('SMEMBERS', P .. 'c:' .. claim_id)
for _, id in ipairs(running) do
  local row = load(id)
  if row then
    local payload = call('HGET', row.key, 'p')
    local age, wait = row.started - row.due, row.started - row.run_at
    hand_out(id, row.kind.text, payload, row.attempt, row.fence, row.lost, age, wait)
    taken = taken + 1
  end
end

local hold = int(now) .. ' ' .. #claim_id .. ' ' .. claim_id .. member
local until_ = now + lease_us
local at_claim = P .. 'c:' .. claim_id
local leases = P .. 'leases'

local function start(queue, lane, tag) -- false when it has expired
  local id = id_of(tag)
  local key = P .. 'j:' .. id
  local v = call('HMGET', key, 'k', 'p', 't', 'l')
  put(lane, tag, false)
  if not v[1] then return false end -- evicted, or deleted by hand: check() tells of it
  local due, expires = match(v[3], '^%S+ %S+ (%S+) (%S*)$')
  local _, run_at, attempt, fence, lost, unfit = match(v[4], '^(%d) (%S+) (%S+) (%S+) (%S+) (%S+)')
  if expires ~= '' then
    if tonumber(expires) <= now then
      put(aside_of(queue), tag, tonumber(run_at))
      local was = tonumber(call('HGET', P .. 'asides', queue)) or 0
      call('HSET', P .. 'asides', queue, int(math.max(was, now)))
      return false
    end
    put(P .. 'e', tag, false)
  end
  attempt, fence = attempt + 1, fence + 1
  call('HSET', key, 'l', '2 ' .. run_at .. ' ' .. attempt .. ' ' .. fence .. ' ' .. lost .. ' ' .. unfit .. ' 0', 'h', hold)
  put(leases, tag, until_)
  mark(at_claim, id, true)
  local kind = kind_of(v[1])
  if kind.key then
    local row = load(id)
    if not holds_key(row) then free_key(row) end
  end
  hand_out(id, v[1], v[2], attempt, fence, tonumber(lost), now - due, now - run_at)
  return true
end

-- A lane under way: its next jobs, fetched some at a time. Its rank is that of core.ready.
local function fetch(lane)
  local found = call('ZRANGE', lane.key, lane.read, lane.read + lane.some - 1, 'WITHSCORES')
  lane.read, lane.found, lane.at = lane.read + lane.some, found, 1
end

local function better(a, b)
  if a.rank ~= b.rank then return a.rank < b.rank end
  local apart = tonumber(a.found[a.at + 1]) - tonumber(b.found[b.at + 1])
  local worth = aging and (a.priority - b.priority) * aging or 0 -- compared apart: their difference may not be exact
  if apart ~= worth then return apart < worth end
  return a.found[a.at] < b.found[b.at]
end

local function lanes_here(queue)
  local here = {}
  local listed = call('ZRANGE', P .. 'r:' .. queue, 0, -1)
  for _, name in ipairs(listed) do
    local is_fragile, priority, task = match(name, '^(%d):(%S+):(.*)$')
    priority = tonumber(priority)
    if tasks[task] and (is_fragile == '0' or fragile_left > 0) then
      local key = P .. 'q:' .. #queue .. ':' .. queue .. ':' .. name
      lanes[key] = { P .. 'r:' .. queue, -priority, name }
      here[#here + 1] = {
        key = key, fragile = is_fragile == '1', priority = priority, rank = aging and 0 or -priority, read = 0,
      }
    end
  end
  return here
end

local function take_from(queue)
  local here = lanes_here(queue)
  for _, lane in ipairs(here) do
    lane.some = math.max(4, math.ceil((want - taken) / #here))
  end
  local begun, level = {}, 1
  while taken < want and skipped < SKIPPED_MAX do
    -- lanes come by descending priority: without aging none is looked at before all above it are empty
    while level <= #here and (#begun == 0 or here[level].rank == begun[1].rank) do
      local lane = here[level]
      level = level + 1
      fetch(lane)
      if lane.found[1] then begun[#begun + 1] = lane end
    end
    if #begun == 0 then return end
    local best = 1
    for place = 2, #begun do
      if better(begun[place], begun[best]) then best = place end
    end
    local lane = begun[best]
    if lane.fragile and fragile_left <= 0 then
      table.remove(begun, best)
    else
      if start(queue, lane.key, lane.found[lane.at]) then
        taken = taken + 1
        count(1, queue, -1)
        count(2, queue, 1)
        if lane.fragile then fragile_left = fragile_left - 1 end
      else
        skipped = skipped + 1
      end
      lane.at = lane.at + 2
      if not lane.found[lane.at] then fetch(lane) end
      if not lane.found[1] then table.remove(begun, best) end
    end
  end
end

local function take_back(queue, since) -- the clock ran back: what was set aside may not have expired
  if now >= tonumber(since) then return end
  for _, tag in ipairs(call('ZRANGE', P .. 'a:' .. queue, 0, -1)) do
    local row = load(id_of(tag))
    put(aside_of(queue), tag, false)
    put(lane_of(row.kind, fragile(row.kind, row.lost)), tag, row.run_at)
  end
  flush()
end

if #running == 0 then
  for _, queue in ipairs(queues) do
    if taken >= want or skipped >= SKIPPED_MAX then break end
    if call('SISMEMBER', P .. 'paused', queue) == 0 then
      local since = call('HGET', P .. 'asides', queue)
      if since then take_back(queue, since) end
      take_from(queue)
    end
  end
end
flush()

local due
if taken < want then due = skipped >= SKIPPED_MAX and now or next_due(queues) end
if #born > 0 then keep_seq() end
return done({ int(now), refused, claimed, cancels_of(member), due and int(due) or false })

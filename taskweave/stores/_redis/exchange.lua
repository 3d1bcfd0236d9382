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
local holds = {} -- text of a hold -> when it started, its claim's key, and the ends of the field e and of the set c

local function hold_of(text)
  local hold = holds[text]
  if not hold then
    local started, length, rest = match(text, '^(%S+) (%d+) (.*)$')
    hold = { ended = int(now) .. ' ' .. started, claim = P .. 'c:' .. string.sub(rest, 1, length), gone = {} }
    holds[text] = hold
  end
  return hold
end

local settled_tags, settled_in, ended_as = {}, {}, {}

-- A plain success of a job that has nothing but its attempts: what is written needs no look at most of the row.
local function succeed(id, fence, digest, result)
  local key = P .. 'j:' .. id
  local v = call('HMGET', key, 'k', 't', 'l', 'h')
  local life, expected = v[3], '2 0 ' .. fence .. ' '
  local kind = life and kind_of(v[1])
  if not life or kind.key or string.sub(life, 1, #expected) ~= expected then
    return settle({ id = id, fence = fence, digest = digest, verb = 'succeed', result = result, delay = 0, spawn = {} })
  end
  local hold = hold_of(v[4])
  call('HSET', key, 'l', '3 1' .. string.sub(life, 4), 'z', fence .. ' ' .. digest, 'e', hold.ended, 'r', result, 'h', '')
  local tag = string.sub(v[2], 1, 14) .. id
  settled_tags[#settled_tags + 1] = tag
  hold.gone[#hold.gone + 1] = id
  local class = kind.class or class_of(kind, 3, true)
  kind.class = class
  local tags = ended_as[class]
  if not tags then
    tags = {}
    ended_as[class] = tags
  end
  tags[#tags + 1] = now
  tags[#tags + 1] = tag
  settled_in[kind.queue] = (settled_in[kind.queue] or 0) + 1
  return true
end

local function write_successes()
  if #settled_tags == 0 then return end
  send('ZREM', P .. 'leases', settled_tags)
  for _, hold in pairs(holds) do
    send('SREM', hold.claim, hold.gone)
  end
  for class, tags in pairs(ended_as) do
    send('ZADD', class, tags)
    call('SADD', P .. 'classes', classes[class])
  end
  for queue, number in pairs(settled_in) do
    count(2, queue, -number)
    count(3, queue, number)
  end
  ends = true
end

for place = 1, num() do
  if not succeed(arg(), arg(), arg(), arg()) then refused[#refused + 1] = place end
end
write_successes()

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

local claimed, values, taken, skipped = {}, 0, 0, 0

local function hand_out(id, kind, payload, attempt, fence, lost, age, wait)
  claimed[values + 1], claimed[values + 2], claimed[values + 3], claimed[values + 4] = id, kind, payload, attempt
  claimed[values + 5], claimed[values + 6] = fence, lost
  claimed[values + 7], claimed[values + 8] = age > 0 and age or 0, wait > 0 and wait or 0
  values = values + 8
  taken = taken + 1
end

local running = call('SMEMBERS', P .. 'c:' .. claim_id)
for _, id in ipairs(running) do
  local row = load(id)
  if row then
    local payload = call('HGET', row.key, 'p')
    local age, wait = row.started - row.due, row.started - row.run_at
    hand_out(id, row.kind.text, payload, row.attempt, row.fence, row.lost, age, wait)
  end
end

local hold = int(now) .. ' ' .. #claim_id .. ' ' .. claim_id .. member
local until_ = now + lease_us
local leased, held = {}, {}

local function set_aside(queue, tag, run_at)
  put(aside_of(queue), tag, run_at)
  local was = tonumber(call('HGET', P .. 'asides', queue)) or 0
  call('HSET', P .. 'asides', queue, int(math.max(was, now)))
end

local function start(queue, tag, run_at) -- false when it has expired
  local id = id_of(tag)
  local key = P .. 'j:' .. id
  local v = call('HMGET', key, 'k', 'p', 't', 'l')
  local kind, life, dates = v[1], v[4], v[3]
  if not kind then return false end -- evicted, or deleted by hand: check() tells of it
  local due = string.sub(dates, 15)
  if string.find(due, ' ', 1, true) then
    local expires
    due, expires = match(due, '^(%S+) %S+ (%S*)$')
    if expires ~= '' then
      if tonumber(expires) <= now then
        set_aside(queue, tag, run_at)
        return false
      end
      put(P .. 'e', tag, false)
    end
  end
  local fence, attempt, lost, rest = match(life, '^%S+ %S+ (%S+) (%S+) (%S+)(.*)$')
  fence, attempt = fence + 1, attempt + 1
  call('HSET', key, 'l', '2 0 ' .. fence .. ' ' .. attempt .. ' ' .. lost .. rest, 'h', hold)
  leased[#leased + 1] = until_
  leased[#leased + 1] = tag
  held[#held + 1] = id
  if kind_of(kind).key then
    local row = load(id)
    if not holds_key(row) then free_key(row) end
  end
  hand_out(id, kind, v[2], attempt, fence, tonumber(lost), now - due, now - run_at)
  return true
end

-- A lane under way: its next jobs, fetched some at a time. Its rank is that of core.ready. What is taken of a lane is
-- always its beginning, which is removed as such in the end.
local function fetch(lane)
  local found = call('ZRANGE', lane.key, lane.read, lane.read + lane.some - 1, 'WITHSCORES')
  lane.read, lane.found, lane.at = lane.read + lane.some, found, 1
end

local function leave_lane(lane)
  if lane.used > 0 then
    call('ZREMRANGEBYRANK', lane.key, 0, lane.used - 1)
    list_lane(lane.key, lanes[lane.key], false)
  end
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
    local is_fragile, priority, task = match(name, '^(%d):(%-?%d+):(.*)$')
    priority = tonumber(priority)
    if tasks[task] and (is_fragile == '0' or fragile_left > 0) then
      local key = P .. 'q:' .. #queue .. ':' .. queue .. ':' .. name
      lanes[key] = { P .. 'r:' .. queue, -priority, name }
      here[#here + 1] = {
        key = key, fragile = is_fragile == '1', priority = priority, rank = aging and 0 or -priority, read = 0, used = 0,
      }
    end
  end
  return here
end

local function take_from(queue)
  local here, before = lanes_here(queue), taken
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
    if #begun == 0 then break end
    local best = 1
    for place = 2, #begun do
      if better(begun[place], begun[best]) then best = place end
    end
    local lane = begun[best]
    if lane.fragile and fragile_left <= 0 then
      table.remove(begun, best)
    else
      local started = start(queue, lane.found[lane.at], tonumber(lane.found[lane.at + 1]))
      if not started then skipped = skipped + 1 end
      if started and lane.fragile then fragile_left = fragile_left - 1 end
      lane.used, lane.at = lane.used + 1, lane.at + 2
      if not lane.found[lane.at] then fetch(lane) end
      if not lane.found[1] then table.remove(begun, best) end
    end
  end
  for _, lane in ipairs(here) do
    leave_lane(lane)
  end
  count(1, queue, before - taken)
  count(2, queue, taken - before)
end

local function take_back(queue, since) -- the clock ran back: what was set aside may not have expired
  if now >= tonumber(since) then return end
  for _, tag in ipairs(call('ZRANGE', P .. 'a:' .. queue, 0, -1)) do
    local row = load(id_of(tag))
    put(aside_of(queue), tag, false)
    if row then put(lane_of(row.kind, fragile(row.kind, row.lost)), tag, row.run_at) end
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
  send('ZADD', P .. 'leases', leased)
  send('SADD', P .. 'c:' .. claim_id, held)
end
flush()

local due
if taken < want then due = skipped >= SKIPPED_MAX and now or next_due(queues) end
if #born > 0 then keep_seq() end
return done({ int(now), refused, claimed, cancels_of(member), due and int(due) or false })

-- Rows: a job as a hash, and the indexes that its state puts it in.
--
-- j:<id>   k  its kind: the lines below     p  payload
--          t  seq of fixed width, then due_at alone, or due_at, created_at, expires_at where these differ or are
--          l  state, 1 if there is more (g or y of a running, r of a finished one), fence, attempt, lost_count,
--             unfit_count, run_at
--          h  while it runs: started_at, the length of claim_id, claim_id and member       z  settled fence, digest
--          e  finished_at, started_at       r  result      and rarely: x history, g progress, y cancel reason,
--          w error, u cause, o reason, d result_dropped
-- A tag is the fixed-width seq and the id: equal scores are ordered by seq.
--   all      by seq, all jobs                       s:<queue>   scheduled, by run_at
--   q:...    ready, one lane for each (queue, fragile, priority, task), by run_at; r:<queue> lists them by -priority
--   a:<queue> ready but met expired; asides: queue -> when the last was     leases  running, by lease_until
--   c:<claim> ids that run under it     x:<member> ids that it was asked to stop    e  unstarted, by expires_at
--   f:<state>:<retention>:<result_ttl or -> finished, by finished_at, so that what is due next heads one of them;
--   classes lists them. Where a unique window counts too, the retention is w, and prune has them by when they may go.
--   u  unique key -> id     n:<state> queue -> how many     paused  a set of queues
-- Numbers of states: 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 failed, 5 cancelled, 6 expired, 7 lost.

local KIND = '^' .. string.rep('([^\n]*)\n', 13) .. '(.*)$'
local kinds = {}

local function kind_of(text)
  local kind = kinds[text]
  if kind then return kind end
  local queue, task, priority, attempts, lost, once, ttl, keep, keep_failed, till, within, key, tags = match(text, KIND)
  kind = {
    text = text,
    queue = queue,
    task = task,
    priority = tonumber(priority) or PRIORITY,
    max_attempts = tonumber(attempts) or MAX_ATTEMPTS,
    max_lost = tonumber(lost) or MAX_LOST,
    once = once == '1',
    ttl = tonumber(ttl) or RESULT_TTL,
    keep = tonumber(keep) or RETENTION,
    keep_failed = tonumber(keep_failed) or RETENTION_FAILED,
    till = till,
    within = tonumber(within),
    key = key ~= '' and key or nil,
    tags = tags,
  }
  kinds[text] = kind
  return kind
end

local function tag_of(number, id)
  return fmt('%014d', number) .. id
end

local function id_of(tag)
  return string.sub(tag, 15)
end

local LIFE = '^(%d) (%d) (%S+) (%S+) (%S+) (%S+) (%S+)$'

local function row_of(id, kind, dates, life)
  local row = { id = id, key = P .. 'j:' .. id, kind = kind_of(kind) }
  local due, created, expires = match(dates, '^(%S+) ?(%S*) ?(%S*)$', 15)
  row.due, row.created, row.expires = tonumber(due), tonumber(created) or tonumber(due), tonumber(expires)
  row.seq, row.tag = tonumber(string.sub(dates, 1, 14)), string.sub(dates, 1, 14) .. id
  local state, extra, fence, attempt, lost, unfit, run_at = match(life, LIFE)
  row.state, row.run_at, row.attempt, row.fence = tonumber(state), tonumber(run_at), tonumber(attempt), tonumber(fence)
  row.lost, row.unfit, row.extra = tonumber(lost), tonumber(unfit), extra == '1'
  return row
end

local function load(id)
  local v = call('HMGET', P .. 'j:' .. id, 'k', 't', 'l', 'h')
  if not v[1] then return nil end
  local row = row_of(id, v[1], v[2], v[3])
  if row.state == 2 then
    local started, length, rest = match(v[4], '^(%S+) (%d+) (.*)$')
    row.started, row.claim = tonumber(started), string.sub(rest, 1, tonumber(length))
    row.member = string.sub(rest, tonumber(length) + 1)
    if row.extra then row.cancel = call('HGET', row.key, 'y') or nil end
  end
  return row
end

local function life_of(row)
  local extra = row.extra and 1 or 0
  return fmt('%d %d %.0f %d %d %d %.0f', row.state, extra, row.fence, row.attempt, row.lost, row.unfit, row.run_at)
end

local function dates_text(created, due, expires)
  if created == due and not expires then return int(due) end
  return int(due) .. ' ' .. int(created) .. ' ' .. (expires and int(expires) or '')
end

local function dates_of(row)
  return fmt('%014d', row.seq) .. dates_text(row.created, row.due, row.expires)
end

-- --- what core.life derives from a row ------------------------------------------------------------------------------

local function fragile(kind, lost)
  return lost > 0 and not kind.once and lost + 1 >= kind.max_lost
end

local function holds_key(row)
  local kind = row.kind
  if not kind.key then return false end
  if kind.within then return now < row.created + kind.within end
  if kind.till == 's' then return row.fence == 0 and row.state < 2 end
  return row.state < 3
end

-- Where a finished row stands, and how long after its end it may be removed: at least its retention and its result.
local function class_of(kind, state, with_result)
  local keep = (state == 4 or state == 7) and kind.keep_failed or kind.keep
  local name = state .. ':' .. (kind.within and 'w' or int(keep)) .. ':' .. (with_result and int(kind.ttl) or '-')
  local key = P .. 'f:' .. name
  classes[key] = name
  return key, with_result and math.max(keep, kind.ttl) or keep
end

-- --- unique keys ----------------------------------------------------------------------------------------------------

local function free_key(row)
  local key = row.kind.key
  if key and call('HGET', P .. 'u', key) == row.id then call('HDEL', P .. 'u', key) end
end

local function holder_of(key)
  local id = call('HGET', P .. 'u', key)
  local row = id and load(id)
  return row and holds_key(row) and row or nil
end

-- --- entering and leaving the indexes -------------------------------------------------------------------------------

local function lane_of(kind, is_fragile)
  local name = (is_fragile and '1:' or '0:') .. kind.priority .. ':' .. kind.task
  local key = P .. 'q:' .. #kind.queue .. ':' .. kind.queue .. ':' .. name
  if not lanes[key] then lanes[key] = { P .. 'r:' .. kind.queue, -kind.priority, name } end
  return key
end

local function aside_of(queue)
  local key = P .. 'a:' .. queue
  asides[key] = queue
  return key
end

local function leave(row)
  local state, tag, queue = row.state, row.tag, row.kind.queue
  count(state, queue, -1)
  if state == 0 then
    put(P .. 's:' .. queue, tag, false)
  elseif state == 1 then
    put(lane_of(row.kind, fragile(row.kind, row.lost)), tag, false)
    if row.expires then put(aside_of(queue), tag, false) end
  elseif state == 2 then
    put(P .. 'leases', tag, false)
    mark(P .. 'c:' .. row.claim, row.id, false)
    if row.cancel then mark(P .. 'x:' .. row.member, row.id, false) end
  else
    local class = class_of(row.kind, state, row.extra)
    put(class, tag, false)
    if row.kind.within then put(P .. 'prune', tag, false) end
  end
  if state < 2 and row.expires then put(P .. 'e', tag, false) end
end

local function enter(row) -- one that waits
  local queue = row.kind.queue
  count(row.state, queue, 1)
  if row.state == 0 then
    put(P .. 's:' .. queue, row.tag, row.run_at)
  else
    put(lane_of(row.kind, fragile(row.kind, row.lost)), row.tag, row.run_at)
  end
  if row.expires then put(P .. 'e', row.tag, row.expires) end
end

local function enter_finished(row, finished) -- row.extra says whether it has a result
  local kind = row.kind
  local class, keep = class_of(kind, row.state, row.extra)
  count(row.state, kind.queue, 1)
  put(class, row.tag, finished)
  if kind.within then put(P .. 'prune', row.tag, math.max(finished + keep, row.created + kind.within)) end
  ends = true
end

local function remove(row)
  leave(row)
  put(P .. 'all', row.tag, false)
  free_key(row)
  call('DEL', row.key)
end

-- A new row; it takes its unique key, from whoever had it. `birth` is what depends on the spec's kind alone.
local function add(birth, id, payload)
  seq = seq + 1
  local kind, number = birth.kind, fmt('%014d', seq)
  local tag = number .. id
  call('HSET', P .. 'j:' .. id, 'k', kind.text, 'p', payload, 't', number .. birth.dates, 'l', birth.life)
  put(P .. 'all', tag, seq)
  put(birth.index, tag, birth.due)
  count(birth.state, kind.queue, 1)
  if birth.expires then put(P .. 'e', tag, birth.expires) end
  if kind.key then call('HSET', P .. 'u', kind.key, id) end
  wake(kind.queue)
end

-- The kinds of new jobs among the arguments: how many, then for each its text, delay or '@' and instant, expiry span.
local function births()
  local list = {}
  for place = 1, num() do
    local kind, due, expires, on_conflict = kind_of(arg()), arg(), tonumber(arg()), arg()
    due = tonumber(match(due, '^@(.*)$')) or now + due
    expires = expires and now + expires
    local state = due > now and 0 or 1
    list[place] = {
      kind = kind,
      due = due,
      expires = expires,
      state = state,
      on_conflict = on_conflict,
      dates = dates_text(now, due, expires),
      life = fmt('%d 0 0 0 0 0 %.0f', state, due),
      index = state == 0 and P .. 's:' .. kind.queue or lane_of(kind, false),
    }
  end
  return list
end

local function keep_seq()
  call('HSET', KEYS[1], 'seq', int(seq))
end

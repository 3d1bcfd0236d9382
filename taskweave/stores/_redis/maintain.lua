-- Maintenance: promote, reap, expire, drop results, prune, each at most `limit` rows and by an index on its instant.
-- It alone writes the floor of store time. A maintenance that finds nothing writes nothing, but for the floor in steps.

local lease_us, limit = num(), num()

local function due(key, most)
  return call('ZRANGEBYSCORE', P .. key, '-inf', int(now), 'LIMIT', 0, most)
end

local function step(key, change)
  local found = due(key, limit)
  for _, tag in ipairs(found) do
    local row = load(id_of(tag))
    if row then
      change(row)
    else
      put(P .. key, tag, false)
    end
  end
  flush()
  return #found
end

local function reap(row)
  row.lost = row.lost + 1
  local state, cause, reason = 0, nil, 'its worker vanished'
  if row.cancel then
    state, cause, reason = 5, 'cancelled', row.cancel
  elseif row.kind.once then
    state, cause = 7, 'lease_lost'
  elseif row.lost >= row.kind.max_lost then
    state, cause, reason = 4, 'poison', row.lost .. ' workers vanished while running it'
  end
  local history = recorded(row, 'lose', row.attempt, row.fence, row.member, row.started, nil, reason)
  if state == 0 then
    again(row, row.run_at, row.attempt - 1, history, nil)
  else
    finish(row, state, { started = row.started, cause = cause, reason = reason, history = history })
  end
end

local function expire(row)
  finish(row, 6, { cause = 'expired', reason = 'it could not start before its deadline' })
end

local function drop(row)
  call('HDEL', row.key, 'r')
  call('HSET', row.key, 'd', 'ttl')
  put(P .. 'drop', row.tag, false)
  put(P .. 'prune', row.tag, prune_at(row, tonumber(match(call('HGET', row.key, 'e'), '^%S+')), false))
end

open_door()
local jumped = floor > 0 and now - floor > math.max(GAP_LEASES * lease_us, GAP_MIN_US)
if jumped then -- the leases say nothing about their owners: each gets its whole time again
  local until_ = now + lease_us
  for _, tag in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. int(until_))) do
    put(P .. 'leases', tag, until_)
  end
  flush()
end
if floor == 0 or now - floor >= FLOOR_STEP_US then call('HSET', KEYS[1], 'floor', int(now)) end

local queues = call('HKEYS', P .. 'n:0')
local promoted = promote(queues, limit, wake)
local reaped, expired, dropped = step('leases', reap), step('e', expire), step('drop', drop)
local pruned = step('prune', remove)
ends = ends or pruned > 0
local more = promoted == limit or reaped == limit or expired == limit or dropped == limit or pruned == limit
local answer = done({ int(now), promoted, reaped, expired, dropped, pruned, more and 1 or 0, false })
local next_at = next_due(call('HKEYS', P .. 'n:0'))
if next_at then answer[8] = int(next_at) end
return answer

-- Maintenance: promote, reap, expire, drop results, prune, each at most `limit` rows and by an index on its instant.
-- It alone writes the floor of store time. A maintenance that finds nothing writes nothing, but for the floor in steps.

local lease_us, limit = num(), num()

local function due(found, key, after) -- adds what of this index is due some time after its score
  local some = call('ZRANGEBYSCORE', key, '-inf', int(now - after), 'WITHSCORES', 'LIMIT', 0, limit)
  for place = 1, #some, 2 do
    found[#found + 1] = { tonumber(some[place + 1]) + after, some[place], key }
  end
end

local function step(found, change) -- by instant and seq
  table.sort(found, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  local taken = math.min(limit, #found)
  for place = 1, taken do
    local row = load(id_of(found[place][2]))
    if row then
      change(row)
    else
      put(found[place][3], found[place][2], false)
    end
  end
  flush()
  return taken
end

local function each_due(key, change)
  local found = {}
  due(found, P .. key, 0)
  return step(found, change)
end

local function of_classes(span_of) -- finished rows; span_of: how long after its end a row of a class is due, or nil
  local found = {}
  for _, name in ipairs(call('SMEMBERS', P .. 'classes')) do
    local keep, ttl = match(name, '^%d:(%S+):(%S+)$')
    local span = span_of(tonumber(keep), tonumber(ttl))
    if span then due(found, P .. 'f:' .. name, span) end
  end
  return found
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
  leave(row)
  row.extra = false
  call('HDEL', row.key, 'r')
  call('HSET', row.key, 'd', 'ttl', 'l', life_of(row))
  enter_finished(row, tonumber(match(call('HGET', row.key, 'e'), '^%S+')))
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
local reaped, expired = each_due('leases', reap), each_due('e', expire)
local ended = ends
local dropped = step(of_classes(function(_, ttl) return ttl end), drop)
local prunes = of_classes(function(keep, ttl) return keep and math.max(keep, ttl or 0) end)
due(prunes, P .. 'prune', 0)
local pruned = step(prunes, remove)
ends = ended or pruned > 0 -- a dropped result is no end
local more = promoted == limit or reaped == limit or expired == limit or dropped == limit or pruned == limit
local answer = done({ int(now), promoted, reaped, expired, dropped, pruned, more and 1 or 0, false })
local next_at = next_due(call('HKEYS', P .. 'n:0'))
if next_at then answer[8] = int(next_at) end
return answer

-- Find: rows newest first, of those looked at in one step: at most LOOKED_MAX, so that nobody waits long. Answers the
-- rows that match and from where to go on, if there may be more.

local after, want, queue, task = arg(), num(), maybe(), maybe()
local states, tags, few = {}, {}, true
for _ = 1, num() do
  local state = arg()
  states[state] = true
  few = few and (state == '2' or tonumber(state) > 3)
end
for place = 1, num() do
  tags[place] = arg()
end

local LOOKED_MAX = 2000
local newest = {}
if few and next(states) then -- those of short indexes are all looked at
  local keys = states['2'] and { P .. 'leases' } or {}
  for _, name in ipairs(call('SMEMBERS', P .. 'classes')) do
    if states[string.sub(name, 1, 1)] then keys[#keys + 1] = P .. 'f:' .. name end
  end
  for _, key in ipairs(keys) do
    for _, tag in ipairs(call('ZRANGE', key, 0, -1)) do
      if after == '' or tonumber(string.sub(tag, 1, 14)) < tonumber(after) then newest[#newest + 1] = tag end
    end
  end
  table.sort(newest, function(a, b) return a > b end)
else
  newest = call('ZREVRANGEBYSCORE', P .. 'all', after == '' and '+inf' or '(' .. after, '-inf', 'LIMIT', 0, LOOKED_MAX)
end

local rows = {}
local looked = math.min(#newest, LOOKED_MAX)
for place = 1, looked do
  local tag = newest[place]
  local row = load(id_of(tag))
  local wanted = row and (not next(states) or states[tostring(row.state)])
    and (not queue or row.kind.queue == queue) and (not task or row.kind.task == task)
  for _, each in ipairs(tags) do
    wanted = wanted and string.find(row.kind.tags, each, 1, true)
  end
  if wanted then rows[#rows + 1] = whole(row.id) end
  if #rows == want then
    looked = place
    break
  end
end
local last = newest[looked]
local more = last and (looked < #newest or #newest == LOOKED_MAX)
return { rows, more and int(tonumber(string.sub(last, 1, 14))) or false }

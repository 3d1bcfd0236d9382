-- Count: counted as rows change, never by a scan. The oldest ready job of a queue heads one of its lanes.

local answer = { int(now), {}, {}, call('SMEMBERS', P .. 'paused') }
for state = 0, 7 do
  answer[2][state + 1] = call('HGETALL', P .. 'n:' .. state)
end
for _, queue in ipairs(call('HKEYS', P .. 'n:1')) do
  local oldest
  local function look(key)
    local at = tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if at and (not oldest or at < oldest) then oldest = at end
  end
  look(P .. 'a:' .. queue)
  for _, name in ipairs(call('ZRANGE', P .. 'r:' .. queue, 0, -1)) do
    look(P .. 'q:' .. #queue .. ':' .. queue .. ':' .. name)
  end
  if oldest then
    answer[3][#answer[3] + 1] = queue
    answer[3][#answer[3] + 1] = int(oldest)
  end
end
return answer

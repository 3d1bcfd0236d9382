-- Check of the counts: by state the sum over the queues beside the size of the indexes, all at one instant.

local answer = {}
for state = 0, 7 do
  local counted, there = 0, 0
  for _, number in ipairs(call('HVALS', P .. 'n:' .. state)) do
    counted = counted + number
  end
  if state == 2 then
    there = call('ZCARD', P .. 'leases')
  elseif state > 2 then
    for _, name in ipairs(call('SMEMBERS', P .. 'classes')) do
      if string.sub(name, 1, 1) == tostring(state) then there = there + call('ZCARD', P .. 'f:' .. name) end
    end
  else
    for _, queue in ipairs(call('HKEYS', P .. 'n:' .. state)) do
      if state == 0 then
        there = there + call('ZCARD', P .. 's:' .. queue)
      else
        there = there + call('ZCARD', P .. 'a:' .. queue)
        for _, name in ipairs(call('ZRANGE', P .. 'r:' .. queue, 0, -1)) do
          there = there + call('ZCARD', P .. 'q:' .. #queue .. ':' .. queue .. ':' .. name)
        end
      end
    end
  end
  answer[state + 1] = { counted, there }
end
return { answer, call('ZCARD', P .. 'all'), int(seq) }

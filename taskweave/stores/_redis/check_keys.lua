-- Check, key by key: those of the namespace that are no rows, with their types, and the rows that no index lists.

local found = call('SCAN', arg(), 'MATCH', P .. '*', 'COUNT', 500)
local answer = { found[1], {}, {} }
for _, key in ipairs(found[2]) do
  local id = match(key, '^' .. string.gsub(P, '[{}]', '%%%0') .. 'j:(.*)$')
  if not id then
    answer[2][#answer[2] + 1] = key
    answer[2][#answer[2] + 1] = call('TYPE', key).ok
  else
    local dates = call('TYPE', key).ok == 'hash' and call('HGET', key, 't') or ''
    if not call('ZSCORE', P .. 'all', string.sub(dates, 1, 14) .. id) then answer[3][#answer[3] + 1] = id end
  end
end
return answer

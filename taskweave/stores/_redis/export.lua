-- Export: whole rows, oldest first, until the page has its rows or its bytes.

local after, limit, bytes_max = arg(), num(), num()
local tags = call('ZRANGEBYSCORE', P .. 'all', '(' .. after, '+inf', 'LIMIT', 0, limit + 1)
local rows, total, looked = {}, 0, 0
for place, tag in ipairs(tags) do
  if place > limit or total >= bytes_max then break end
  looked = place
  local id = id_of(tag)
  local key = P .. 'j:' .. id
  rows[#rows + 1] = whole(id)
  total = total + call('HSTRLEN', key, 'p') + call('HSTRLEN', key, 'r')
end
local following = looked < #tags and string.sub(tags[looked], 1, 14) or false
return { int(now), rows, following, call('SMEMBERS', P .. 'paused'), aging and int(aging) or false }

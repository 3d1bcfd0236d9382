-- Export: whole rows, oldest first, until the page has its rows or its bytes.

local after, limit, bytes_max = arg(), num(), num()
local tags = call('ZRANGEBYSCORE', P .. 'all', '(' .. after, '+inf', 'LIMIT', 0, limit + 1)
local rows, total = {}, 0
for _, tag in ipairs(tags) do
  if #rows == limit or total >= bytes_max then break end
  local id = id_of(tag)
  local key = P .. 'j:' .. id
  rows[#rows + 1] = whole(id)
  total = total + call('HSTRLEN', key, 'p') + call('HSTRLEN', key, 'r')
end
return { int(now), rows, #rows < #tags and 1 or 0, call('SMEMBERS', P .. 'paused'), aging and int(aging) or false }

-- Check, index by index: some entries of a set or sorted set, each with its row, for strays that no row knows of.

local key, cursor = arg(), arg()
local type_of = call('TYPE', key).ok
local found = call(type_of == 'zset' and 'ZSCAN' or 'SSCAN', key, cursor, 'COUNT', 200)
local answer = { found[1], {} }
for place = 1, #found[2], type_of == 'zset' and 2 or 1 do
  local member = found[2][place]
  answer[2][#answer[2] + 1] = { member, whole(type_of == 'zset' and id_of(member) or member) or false }
end
return answer

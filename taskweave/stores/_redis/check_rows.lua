-- Check, row by row: some rows, each with every index entry that it has, for the client to compare with what the core
-- says. Asked for some at a time, so that workers get between; each row and its entries are one instant.

local after, limit = arg(), num()
local answer = { call('ZRANGEBYSCORE', P .. 'all', '(' .. after, '+inf', 'LIMIT', 0, limit), {} }

local function entries_of(row)
  local kind, found = row.kind, {}
  local keys = { 's:' .. kind.queue, 'a:' .. kind.queue, 'leases', 'e', 'prune' }
  for _, name in ipairs(call('SMEMBERS', P .. 'classes')) do
    keys[#keys + 1] = 'f:' .. name
  end
  for is_fragile = 0, 1 do
    keys[#keys + 1] = 'q:' .. #kind.queue .. ':' .. kind.queue .. ':' .. is_fragile .. ':' .. kind.priority .. ':' .. kind.task
  end
  for _, key in ipairs(keys) do
    local score = call('ZSCORE', P .. key, row.tag)
    if score then
      found[#found + 1] = key
      found[#found + 1] = score
    end
  end
  if row.state == 2 and call('SISMEMBER', P .. 'c:' .. row.claim, row.id) == 1 then found[#found + 1] = 'claim' end
  if row.state == 2 and call('SISMEMBER', P .. 'x:' .. row.member, row.id) == 1 then found[#found + 1] = 'cancel' end
  return found
end

for place, tag in ipairs(answer[1]) do
  local row = load(id_of(tag))
  local holder = row and row.kind.key and call('HGET', P .. 'u', row.kind.key) or false
  answer[2][place] = row and { whole(row.id), entries_of(row), holder } or false
end
return answer

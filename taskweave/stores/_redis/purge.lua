-- Purge: deletes unstarted jobs of a queue, the earliest due first, by (run_at, seq).

local queue, limit = arg(), num()
local found = {}

local function gather(key)
  local some = call('ZRANGE', key, 0, limit - 1, 'WITHSCORES')
  for place = 1, #some, 2 do
    found[#found + 1] = { tonumber(some[place + 1]), some[place] }
  end
end

if limit > 0 then
  gather(P .. 's:' .. queue)
  gather(P .. 'a:' .. queue)
  for _, name in ipairs(call('ZRANGE', P .. 'r:' .. queue, 0, -1)) do
    gather(P .. 'q:' .. #queue .. ':' .. queue .. ':' .. name)
  end
end
table.sort(found, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)
local purged = math.min(limit, #found)
for place = 1, purged do
  local row = load(id_of(found[place][2]))
  if row then remove(row) end
  ends = true
end
return done(math.max(0, purged))

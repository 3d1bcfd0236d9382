-- Open: answers the mark of the dataset that is there, after making it where it may be made. No frame: there may be
-- no dataset yet.

local P, call = ARGV[1], redis.call
local create, aging, version, read_only = ARGV[4] == '1', ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local made = call('HGET', KEYS[1], 'made')
if not made then
  if call('EXISTS', KEYS[1], P .. 'all', P .. 'leases', P .. 'u') > 0 then return { 'not_a_store', '' } end
  if not create then return { 'missing', '' } end
  local time = call('TIME')
  made = time[1] .. '.' .. time[2]
  call('HSET', KEYS[1], 'made', made, 'version', version, 'seq', 0, 'floor', 0)
end
local found = tonumber(call('HGET', KEYS[1], 'version'))
if not found then return { 'not_a_store', '' } end
if found > version then return { 'too_new', tostring(found) } end
if found < version then return { 'too_old', tostring(found) } end
if aging ~= '' and not read_only and call('HGET', KEYS[1], 'aging') ~= aging then
  if aging == '0' then
    call('HDEL', KEYS[1], 'aging')
  else
    call('HSET', KEYS[1], 'aging', aging)
  end
end
return { 'open', made }

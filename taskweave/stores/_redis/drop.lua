-- Drop: removes some of the namespace's keys and answers the cursor to go on with; the marker goes first, so that no
-- process that has the store open can write again. No frame: the marker may be gone.

local P, call = ARGV[1], redis.call
call('DEL', KEYS[1])
local found = call('SCAN', ARGV[4], 'MATCH', P .. '*', 'COUNT', 1000)
if #found[2] > 0 then call('UNLINK', unpack(found[2])) end
return found[1]

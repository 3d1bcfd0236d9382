-- Dump: all that the store means, for tests that compare stores and for the check of its rows.

local rows = {}
for place, tag in ipairs(call('ZRANGE', P .. 'all', 0, -1)) do
  rows[place] = whole(id_of(tag)) or id_of(tag)
end
return { rows, call('SMEMBERS', P .. 'paused'), call('HGETALL', P .. 'u'), int(floor), int(now) }

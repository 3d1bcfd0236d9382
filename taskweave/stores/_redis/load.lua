-- Load: whole rows, in the order asked for.

local rows = {}
for place = 1, num() do
  rows[place] = whole(arg()) or false
end
return rows

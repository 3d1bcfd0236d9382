-- Delete: removes jobs that are not running.

local answer = {}
open_door()
for place = 1, num() do
  local row = load(arg())
  if not row then
    answer[place] = 'unknown'
  elseif row.state == 2 then
    answer[place] = 'refused 2'
  else
    remove(row)
    ends = true
    answer[place] = 'done'
  end
end
return done(answer)

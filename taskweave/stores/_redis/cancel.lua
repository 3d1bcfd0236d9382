-- Cancel: unstarted jobs at once; running ones get a flag, and the first reason stays.

local reason = arg()
local answer = {}
open_door()
for place = 1, num() do
  local row = load(arg())
  if not row then
    answer[place] = 'unknown'
  elseif row.state > 2 then
    answer[place] = 'refused ' .. row.state
  elseif row.state == 2 then
    answer[place] = 'requested 2'
    if not row.cancel then
      row.extra = true
      call('HSET', row.key, 'y', reason, 'l', life_of(row))
      mark(P .. 'x:' .. row.member, row.id, true)
      wake(row.kind.queue)
    end
  else
    finish(row, 5, { cause = 'cancelled', reason = reason })
    answer[place] = 'done 5'
  end
end
return done(answer)

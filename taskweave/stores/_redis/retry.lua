-- Retry: finished jobs that did not succeed run again, unless another job holds their unique key now.

local by = arg()
local answer = {}
open_door()
for place = 1, num() do
  local row = load(arg())
  local holder = row and row.kind.key and holder_of(row.kind.key)
  if not row then
    answer[place] = 'unknown'
  elseif row.state < 4 then
    answer[place] = 'refused ' .. row.state
  elseif holder and holder.id ~= row.id then
    answer[place] = 'key_taken ' .. row.state .. ' ' .. holder.id
  else
    local history = recorded(row, 'revive', row.attempt, row.fence, by, now, nil, nil)
    edit(row, function()
      row.attempt, row.lost, row.unfit, row.fence, row.expires = 0, 0, 0, row.fence + 1, nil
      postpone(row, now)
    end, 'x', history)
    call('HDEL', row.key, 'e', 'r', 'd', 'u', 'o', 'w')
    answer[place] = 'done ' .. row.state
  end
end
return done(answer)

-- Update: another priority or due time for a job that waits.

local row, priority, delay = load(arg()), num(), num()
if not row then return done({ 'unknown' }) end
if row.state > 1 then return done({ 'refused ' .. row.state }) end
open_door()
edit(row, function()
  if priority then
    local head, tail = match(row.kind.text, '^([^\n]*\n[^\n]*\n)[^\n]*(.*)$')
    row.kind = kind_of(head .. (priority == PRIORITY and '' or int(priority)) .. tail)
  end
  if delay then postpone(row, now + delay) end
end)
return done({ 'done ' .. row.state })

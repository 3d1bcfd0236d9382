-- Renew: these leases move on unless they are lost; a lease that has run out cannot be renewed.

local member, until_ = arg(), now + num()
local lost = {}
for place = 1, num() do
  local row, fence = load(arg()), arg()
  local ends_at = row and row.state == 2 and int(row.fence) == fence and call('ZSCORE', P .. 'leases', row.tag)
  if ends_at and now < tonumber(ends_at) then
    put(P .. 'leases', row.tag, until_)
  else
    lost[#lost + 1] = place
  end
end
open_door()
for _ = 1, num() do
  progress(arg(), arg(), arg())
end
return done({ int(now), lost, cancels_of(member) })

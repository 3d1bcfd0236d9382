-- Prune: deletes finished jobs of some states, the earliest ended first; what holds a unique window is kept.

local before, limit = now - num(), num()
local heads, states = {}, {}
for _ = 1, num() do
  states[arg()] = true
end
for _, name in ipairs(call('SMEMBERS', P .. 'classes')) do
  if states[string.sub(name, 1, 1)] then
    heads[#heads + 1] = { key = P .. 'f:' .. name, read = 0, found = {}, at = 1 }
  end
end

local function head_of(order) -- its next tag and when that ended, if early enough
  if not order.found[order.at] then
    order.found = call('ZRANGEBYSCORE', order.key, '-inf', int(before), 'WITHSCORES', 'LIMIT', order.read, 100)
    order.read, order.at = order.read + 100, 1
  end
  return order.found[order.at], tonumber(order.found[order.at + 1])
end

local pruned = 0
while pruned < limit do
  local first, first_tag, first_at
  for _, order in ipairs(heads) do
    local tag, at = head_of(order)
    if tag and (not first or at < first_at or (at == first_at and tag < first_tag)) then
      first, first_tag, first_at = order, tag, at
    end
  end
  if not first then break end
  first.at = first.at + 2
  local row = load(id_of(first_tag))
  if row and not holds_key(row) then
    remove(row)
    pruned = pruned + 1
    ends = true
  end
end
return done(pruned)

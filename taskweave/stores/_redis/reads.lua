-- A whole row, for the client to decode: its fields, with its seq and id, and the end of its lease while it runs.

local function whole(id)
  local fields = call('HGETALL', P .. 'j:' .. id)
  if #fields == 0 then return nil end
  local row = load(id)
  return { id, fields, row.state == 2 and call('ZSCORE', P .. 'leases', row.tag) or false }
end

-- What makes another job of a row: an operator's retry, an update, a replacement (core.life.revive, changed, replaced).

-- `life` changes the row; its fields are those of core.queue.table.Table.edit.
local function edit(row, life, ...)
  leave(row)
  free_key(row)
  life(row)
  call('HSET', row.key, 'k', row.kind.text, 't', dates_of(row), 'l', life_of(row), ...)
  enter(row)
  local key = row.kind.key
  if key and holds_key(row) and not holder_of(key) then call('HSET', P .. 'u', key, row.id) end
  wake(row.kind.queue)
end

local function postpone(row, due)
  row.due, row.run_at, row.state = due, due, due > now and 0 or 1
end

local function replace(row, birth, payload)
  edit(row, function()
    row.kind, row.expires = birth.kind, birth.expires
    postpone(row, birth.due)
  end, 'p', payload)
end

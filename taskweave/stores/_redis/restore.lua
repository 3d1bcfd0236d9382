-- Restore: jobs of another store as they were, under new seqs, all or nothing; planned before anything is written.

local answer, fresh, taken = {}, {}, {}
for place = 1, num() do
  local id, kind, payload, dates, life = arg(), arg(), arg(), arg(), arg()
  local row = row_of(id, kind, tag_of(0, dates), life)
  row.payload, row.finished, row.fields = payload, num(), {}
  for number = 1, num() do
    row.fields[number] = arg()
  end
  local there = call('HGET', row.key, 'l')
  local key = row.kind.key
  local holder = key and holds_key(row) and (holder_of(key) or taken[key])
  if there then
    answer[place] = 'existing ' .. string.sub(there, 1, 1)
  elseif holder then
    answer[place] = 'key_taken - ' .. holder.id
  else
    if key and holds_key(row) then taken[key] = row end
    fresh[#fresh + 1] = row
    answer[place] = 'done ' .. row.state
  end
end

for _, row in ipairs(fresh) do
  seq = seq + 1
  row.seq, row.tag = seq, tag_of(seq, row.id)
  call('HSET', row.key, 'k', row.kind.text, 'p', row.payload, 't', dates_of(row), 'l', life_of(row), unpack(row.fields))
  put(P .. 'all', row.tag, seq)
  if row.state > 2 then
    enter_finished(row, row.finished)
  else
    enter(row)
    wake(row.kind.queue)
  end
  if holds_key(row) then call('HSET', P .. 'u', row.kind.key, row.id) end
end
if #fresh > 0 then keep_seq() end
return done(answer)

-- Enqueue: all or nothing. A batch is planned before anything is written (core.queue.enqueue); most batches have
-- neither unique keys nor an id that is there, and need no plan.

local born = births()
local ids, keys, places, payloads, keyed = {}, {}, {}, {}, false
for place = 1, num() do
  ids[place], places[place], payloads[place] = arg(), num(), arg()
  keys[place] = P .. 'j:' .. ids[place]
  keyed = keyed or born[places[place]].kind.key
end

local answer, fresh, replacements, taken = {}, {}, {}, {}

local function say(place, id, how)
  answer[place * 2 - 1], answer[place * 2] = id, how
end

local function take_unique(place, birth) -- the holder where this is a conflict that raises
  local key, id = birth.kind.key, ids[place]
  local holder, row = taken[key], nil
  if not holder then
    row = holder_of(key)
    if not row then
      fresh[#fresh + 1] = place
      taken[key] = id
      say(place, id, 'created')
      return nil
    end
    holder = row.id
  end
  if birth.on_conflict == 'raise' then return holder end
  if birth.on_conflict == 'replace' and row and row.state < 2 and row.fence == 0 then
    replacements[#replacements + 1] = { row, birth, payloads[place] }
    taken[key] = holder
    say(place, holder, 'replaced')
  else
    say(place, holder, 'existing')
  end
  return nil
end

-- New jobs without unique keys: what add() does for one, for many at once.
local function add_all()
  local all, entries = {}, {}
  for place, id in ipairs(ids) do
    local birth = born[places[place]]
    seq = seq + 1
    local number = fmt('%014d', seq)
    local tag, mine = number .. id, entries[birth]
    if not mine then
      mine = {}
      entries[birth] = mine
    end
    local payload = payloads[place]
    call('HSET', keys[place], 'k', birth.kind.text, 'p', payload, 't', number .. birth.dates, 'l', birth.life)
    all[place * 2 - 1], all[place * 2] = seq, tag
    mine[#mine + 1] = birth.due
    mine[#mine + 1] = tag
    if birth.expires then put(P .. 'e', tag, birth.expires) end
  end
  send('ZADD', P .. 'all', all)
  for birth, mine in pairs(entries) do
    send('ZADD', birth.index, mine)
    if lanes[birth.index] then list_lane(birth.index, lanes[birth.index], true) end
    count(birth.state, birth.kind.queue, #mine / 2)
    wake(birth.kind.queue)
  end
end

local simple = not keyed and chunked('EXISTS', keys) == 0
if simple then
  add_all()
else
  for place, id in ipairs(ids) do
    local birth = born[places[place]]
    if call('EXISTS', keys[place]) == 1 then
      say(place, id, 'existing')
    elseif not birth.kind.key then
      fresh[#fresh + 1] = place
      say(place, id, 'created')
    else
      local holder = take_unique(place, birth)
      if holder then return { 'conflict', birth.kind.key, holder } end
    end
  end
  for _, each in ipairs(replacements) do
    replace(each[1], each[2], each[3])
  end
  for _, place in ipairs(fresh) do
    add(born[places[place]], ids[place], payloads[place])
  end
end
if simple and #ids > 0 or #fresh > 0 then keep_seq() end
return done({ simple and 'created' or 'planned', answer })

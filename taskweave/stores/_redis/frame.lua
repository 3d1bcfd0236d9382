-- The frame of every script: its arguments, store time, and indexes that are written in batches.
--
-- KEYS[1] is the dataset's marker, ARGV[1] the prefix of all keys, ARGV[2] the mark of the dataset that the caller
-- opened, ARGV[3] an instant or nothing; the verb's own arguments follow. Numbers are doubles: exact to 2^53, which
-- instants and seqs stay below. They are written by int(), since Lua's own text of a number has 14 digits.

local P, call, fmt, match = ARGV[1], redis.call, string.format, string.match

local arg_at = 3
local function arg()
  arg_at = arg_at + 1
  return ARGV[arg_at]
end
local function num()
  return tonumber(arg())
end
local function maybe() -- '-' is nothing, '=...' a text
  local text = arg()
  if text == '-' then return nil end
  return string.sub(text, 2)
end
local function int(number)
  return fmt('%.0f', number)
end

local meta = call('HMGET', KEYS[1], 'made', 'seq', 'floor', 'aging')
if meta[1] ~= ARGV[2] then
  return redis.error_reply(meta[1] and 'TWREPLACED' or 'TWGONE')
end
local seq, floor, aging = tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
local now = tonumber(ARGV[3])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
if now < floor then now = floor end

-- --- indexes: what was put last wins, and is written by flush() -----------------------------------------------------

local CHUNK = 4000 -- arguments of one command; unpack() takes 8,000 at most
local orders, sets, lanes, asides, classes = {}, {}, {}, {}, {}
local wakes, ends = {}, false

local function put(key, member, score) -- into a sorted set; false takes it out
  local order = orders[key]
  if not order then
    order = {}
    orders[key] = order
  end
  order[member] = score
end

local function mark(key, member, there) -- into a set, or out of it
  local set = sets[key]
  if not set then
    set = {}
    sets[key] = set
  end
  set[member] = there
end

local function send(command, key, values)
  for first = 1, #values, CHUNK do
    call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

local function list_lane(key, lane, there) -- lane: the key of its queue's list, its score and its name there
  if there then
    call('ZADD', lane[1], lane[2], lane[3])
  elseif call('EXISTS', key) == 0 then
    call('ZREM', lane[1], lane[3])
  end
end

local function write_order(key, order)
  local added, removed = {}, {}
  for member, score in pairs(order) do
    if score then
      added[#added + 1] = score
      added[#added + 1] = member
    else
      removed[#removed + 1] = member
    end
  end
  send('ZREM', key, removed)
  send('ZADD', key, added)
  return #added > 0
end

local function flush()
  for key, order in pairs(orders) do
    orders[key] = nil
    local added = write_order(key, order)
    if lanes[key] then
      list_lane(key, lanes[key], added)
    elseif classes[key] and added then
      call('SADD', P .. 'classes', classes[key])
    elseif not added and (classes[key] or asides[key]) and call('EXISTS', key) == 0 then
      if classes[key] then call('SREM', P .. 'classes', classes[key]) end
      if asides[key] then call('HDEL', P .. 'asides', asides[key]) end
    end
  end
  for key, set in pairs(sets) do
    sets[key] = nil
    local added, removed = {}, {}
    for member, there in pairs(set) do
      local list = there and added or removed
      list[#list + 1] = member
    end
    send('SREM', key, removed)
    send('SADD', key, added)
  end
end

-- --- counts, and the end of a script --------------------------------------------------------------------------------

local counts = {}
local function count(state, queue, by)
  local name = state .. queue
  counts[name] = (counts[name] or 0) + by
end

local function wake(queue)
  wakes[queue] = true
end

local function done(answer)
  flush()
  for name, by in pairs(counts) do
    local key, queue = P .. 'n:' .. string.sub(name, 1, 1), string.sub(name, 2)
    if by ~= 0 and call('HINCRBY', key, queue, by) == 0 then
      call('HDEL', key, queue)
    end
  end
  for queue in pairs(wakes) do
    call('PUBLISH', P .. 'w:' .. queue, '1')
  end
  if ends then call('PUBLISH', P .. 'ends', '1') end
  return answer
end

local function chunked(command, keys) -- the sum of what a command answers for all these keys
  local sum = 0
  for first = 1, #keys, CHUNK do
    sum = sum + call(command, unpack(keys, first, math.min(first + CHUNK - 1, #keys)))
  end
  return sum
end

-- With all memory in use Redis refuses a script's first write that needs more, and lets it finish once it has written.
-- Verbs that end jobs or hand them out open the door: a full store must be able to drain.
local function open_door()
  call('DEL', P .. 'door')
end

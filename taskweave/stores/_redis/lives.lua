-- The steps of core.life that depend on what a row is when the step is taken. A step writes its row at once and its
-- indexes with the next flush().

-- --- texts in a row: '3:abc', or '-' for nothing --------------------------------------------------------------------

local function packed(...)
  local out = {}
  for place = 1, select('#', ...) do
    local value = select(place, ...)
    if value == nil then
      out[place] = '-'
    else
      if type(value) == 'number' then value = int(value) end
      out[place] = #value .. ':' .. value
    end
  end
  return table.concat(out)
end

local function ends_of(texts) -- where each of them ends
  local places, at = {}, 1
  while at <= #texts do
    local length, after = match(texts, '^(%d+):()', at)
    at = after + length
    places[#places + 1] = at - 1
  end
  return places
end

local function recorded(row, verb, attempt, fence, member, started, problem, reason)
  local history = call('HGET', row.key, 'x') or ''
  local entry = packed(verb, attempt, fence, member, started, now, problem, reason)
  history = history .. #entry .. ':' .. entry
  local places = ends_of(history)
  if #places > HISTORY_MAX then history = string.sub(history, places[#places - HISTORY_MAX] + 1) end
  return history
end

-- --- promotion ------------------------------------------------------------------------------------------------------

local function promote(queues, limit, tell) -- what is due in these queues, by (run_at, seq) across them
  local due = {}
  for _, queue in ipairs(queues) do
    local found = call('ZRANGEBYSCORE', P .. 's:' .. queue, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, limit)
    for place = 1, #found, 2 do
      due[#due + 1] = { tonumber(found[place + 1]), found[place], queue }
    end
  end
  if #queues > 1 then
    table.sort(due, function(a, b)
      if a[1] ~= b[1] then return a[1] < b[1] end
      return a[2] < b[2]
    end)
  end
  local promoted = math.min(limit, #due)
  for place = 1, promoted do
    local row = load(id_of(due[place][2]))
    if row then
      leave(row)
      row.state = 1
      call('HSET', row.key, 'l', life_of(row))
      enter(row)
      if tell then tell(row.kind.queue) end
    else
      put(P .. 's:' .. due[place][3], due[place][2], false) -- evicted, or deleted by hand
    end
  end
  flush()
  return promoted
end

local function next_due(queues) -- when the first scheduled job of these queues, paused ones left out, is due
  local first
  for _, queue in ipairs(queues) do
    local head = call('ZRANGE', P .. 's:' .. queue, 0, 0, 'WITHSCORES')
    local at = tonumber(head[2])
    if at and (not first or at < first) and call('SISMEMBER', P .. 'paused', queue) == 0 then first = at end
  end
  return first
end

-- --- ends -----------------------------------------------------------------------------------------------------------

local function let_go(row) -- what only a running row has
  if row.extra then
    call('HDEL', row.key, 'g', 'y')
    row.extra = false
  end
end

local function finish(row, state, given) -- given: started, result, dropped, cause, reason, problem, all optional
  leave(row)
  let_go(row)
  row.state, row.extra = state, given.result ~= nil
  local values = { 'l', life_of(row), 'h', '', 'e', int(now) .. ' ' .. (given.started and int(given.started) or '') }
  local function also(field, value)
    if value then
      values[#values + 1] = field
      values[#values + 1] = value
    end
  end
  also('z', given.settled)
  also('x', given.history)
  also('r', given.result)
  also('d', given.dropped)
  also('u', given.cause)
  also('o', given.reason)
  also('w', given.problem)
  call('HSET', row.key, unpack(values))
  enter_finished(row, now)
  if not holds_key(row) then free_key(row) end
end

local function again(row, run_at, attempt, history, settled) -- out of running, alive
  leave(row)
  let_go(row)
  row.state, row.run_at, row.attempt, row.fence = run_at > now and 0 or 1, run_at, attempt, row.fence + 1
  local values = { 'l', life_of(row), 'h', '', 'x', history }
  if settled then
    values[7], values[8] = 'z', settled
  end
  call('HSET', row.key, unpack(values))
  enter(row)
  if not holds_key(row) then free_key(row) end
  wake(row.kind.queue)
end

-- The verb that really applies, as a state, with its cause and reason: bounds and a cancel request beat what was asked.
local function verdict(row, s)
  if s.verb == 'succeed' then return 3, s.cause, s.reason end
  if s.verb == 'fail' then return 4, s.cause, s.reason end
  if s.verb == 'cancel' then return 5, s.cause, s.reason end
  if row.cancel then return 5, 'cancelled', row.cancel end
  if row.kind.once then
    if s.verb == 'release' and not s.unfit then return 7, s.cause or 'released', s.reason end
    return 4, s.cause or 'at_most_once', s.reason
  end
  if s.verb == 'retry' and row.attempt >= row.kind.max_attempts then return 4, s.cause or 'exhausted', s.reason end
  if s.verb == 'release' and s.unfit and row.unfit + 1 >= UNFIT_MAX then return 4, s.cause or 'unfit', s.reason end
  return 0, s.cause, s.reason
end

local function settle(s) -- true when it counts, or is a repeat
  local row = load(s.id)
  if not row then return false end
  local settled = s.fence .. ' ' .. s.digest
  if row.state ~= 2 or int(row.fence) ~= s.fence then
    return call('HGET', row.key, 'z') == settled
  end
  if s.refused then return false end
  local state, cause, reason = verdict(row, s)
  local history
  if s.verb ~= 'succeed' then
    history = recorded(row, s.verb, row.attempt, row.fence, row.member, row.started, s.problem, reason)
    if s.unfit and s.verb == 'release' then row.unfit = row.unfit + 1 end
  end
  if state > 2 then
    finish(row, state, {
      started = row.started, result = s.result, dropped = s.dropped, cause = cause, reason = reason,
      problem = s.problem, history = history, settled = settled,
    })
  else
    local run_at = now + s.delay
    if s.verb == 'release' and s.delay == 0 then run_at = row.run_at end
    again(row, run_at, s.verb == 'retry' and row.attempt or row.attempt - 1, history, settled)
  end
  for _, job in ipairs(s.spawn) do
    local key = job.birth.kind.key
    if call('EXISTS', P .. 'j:' .. job.id) == 0 and not (key and holder_of(key)) then add(job.birth, job.id, job.payload) end
  end
  return true
end

local function progress(id, fence, report)
  local row = load(id)
  if row and row.state == 2 and int(row.fence) == fence then
    row.extra = true
    call('HSET', row.key, 'g', report, 'l', life_of(row))
  end
end

local function cancels_of(member)
  local answer = {}
  for _, id in ipairs(call('SMEMBERS', P .. 'x:' .. member)) do
    local row = load(id)
    if row then answer[#answer + 1] = { id, int(row.fence), row.cancel or '' } end
  end
  return answer
end

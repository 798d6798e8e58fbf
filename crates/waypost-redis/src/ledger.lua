-- The counts of one organization, changed by one call. Bounded: each counter of a call costs a few commands and
-- looks at no more than 302 buckets; docs/REDIS.md tells the keys.
--
-- KEYS: message under way, leases, mark of the node, what it told lately, then a key for each counter.
-- ARGV: operation, time in ms (-1: of Redis), prefix of messages under way, then as told at each operation.

local call = redis.call

-- Scores of recipients: the bucket of the last message; HELD times the number of holders more while messages
-- under way hold it; FRESH and the number of holders where there was no message before.
local HELD, FRESH = 33554432, 1125899906842624
-- Nothing is kept longer unless it is used again: 26 hours.
local KEEP = '93600000'
-- What one call gives back of nodes that are gone, and forgets of recipients that have left the window.
local SWEPT, PRUNED = 32, 128
-- More buckets than a window has.
local SPAN = 304

local MESSAGE, LEASES, MARK, TOLD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function whole(x) return string.format('%.0f', x) end

local position = 0
local function take()
  position = position + 1
  return ARGV[position]
end
local function number() return tonumber(take()) end

local operation, now, messages = take(), number(), take()
if now < 0 then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Counters. Kinds: m messages and t recipients, in a hash of buckets; u different recipients, in a sorted set.

local function counter(kind, bucket, window, key)
  -- A bucket counts until a window after its end.
  return { kind = kind, bucket = bucket, key = key, window = window, first = math.floor((now - window) / bucket) }
end

local function counters()
  local all = {}
  for i = 1, number() do
    local kind, bucket, window, allowed = take(), number(), number(), number()
    all[i] = counter(kind, bucket, window, KEYS[4 + i])
    all[i].allowed = allowed
  end
  return all
end

local function load(c)
  if c.kind == 'u' then
    c.sent = call('ZCOUNT', c.key, whole(c.first), '(' .. whole(HELD))
    c.known = call('ZCOUNT', c.key, whole(HELD), '(' .. whole(FRESH))
    c.fresh = call('ZCOUNT', c.key, whole(FRESH), '+inf')
    return
  end
  local got = call('HMGET', c.key, 's', 'o', 'p')
  c.sum, c.oldest, c.pending = tonumber(got[1]) or 0, tonumber(got[2]), tonumber(got[3]) or 0
  if not c.oldest or c.oldest >= c.first then return end
  local fields = {}
  for bucket = c.oldest, math.min(c.first - 1, c.oldest + SPAN) do fields[#fields + 1] = whole(bucket) end
  for i, counted in ipairs(call('HMGET', c.key, unpack(fields))) do
    if counted then c.sum = c.sum - counted end
  end
  call('HDEL', c.key, unpack(fields))
  c.sum, c.oldest = math.max(0, c.sum), c.first
  call('HSET', c.key, 's', whole(c.sum), 'o', whole(c.oldest))
end

local function uses(c)
  if c.kind == 'u' then return c.sent + c.known, c.fresh end
  return c.sum, c.pending
end

-- When one more has room: -1 for now, or for never where nothing is allowed.
local function room(c)
  local used, reserved = uses(c)
  local beyond = used + reserved + 1 - c.allowed
  if beyond <= 0 or c.allowed == 0 then return -1 end
  if c.asked == beyond then return c.room end
  local bucket
  if c.kind == 'u' then
    local place = call('ZCOUNT', c.key, '-inf', '(' .. whole(c.first)) + beyond - 1
    local score = tonumber(call('ZRANGE', c.key, whole(place), whole(place), 'WITHSCORES')[2])
    if score and score < HELD then bucket = score end
  elseif c.oldest then
    local fields, left = {}, beyond
    for one = c.oldest, math.min(math.floor(now / c.bucket), c.oldest + SPAN) do fields[#fields + 1] = whole(one) end
    for i, counted in ipairs(#fields > 0 and call('HMGET', c.key, unpack(fields)) or {}) do
      left = left - (counted or 0)
      if left <= 0 then
        bucket = c.oldest + i - 1
        break
      end
    end
  end
  c.asked = beyond
  c.room = bucket and (bucket + 1) * c.bucket + c.window or now + c.bucket + c.window
  return c.room
end

local function count(c, bucket, n)
  c.sum, c.oldest = c.sum + n, math.min(c.oldest or bucket, bucket)
  call('HINCRBY', c.key, whole(bucket), whole(n))
  call('HSET', c.key, 's', whole(c.sum), 'o', whole(c.oldest))
end

local function count_recipient(c, bucket, digest)
  local score, new = tonumber(call('ZSCORE', c.key, digest)), nil
  if not score or score < HELD then
    new = math.max(score or 0, bucket)
  elseif score < FRESH then
    local holders = math.floor(score / HELD)
    new = holders * HELD + math.max(score - holders * HELD, bucket)
  else
    new = (score - FRESH) * HELD + bucket
  end
  if new ~= score then call('ZADD', c.key, whole(new), digest) end
end

local function is_known(c, digest)
  local score = tonumber(call('ZSCORE', c.key, digest))
  return score and score >= c.first
end

local function hold_recipient(c, digest)
  local score, new = tonumber(call('ZSCORE', c.key, digest)), nil
  if not score or score < c.first then
    new, c.fresh = FRESH + 1, c.fresh + 1
  elseif score < HELD then
    new, c.known, c.sent = score + HELD, c.known + 1, c.sent - 1
  elseif score < FRESH then
    new = score + HELD
  else
    new = score + 1
  end
  call('ZADD', c.key, whole(new), digest)
  -- What was sent may be held now: the room that was found is that of before.
  c.asked = nil
end

local function let_go_recipient(c, digest)
  local score = tonumber(call('ZSCORE', c.key, digest))
  if not score or score < HELD then return end
  local new
  if score >= FRESH then
    if score - FRESH > 1 then new = score - 1 end
  else
    local left = score - HELD
    if left >= HELD or left >= c.first then new = left end
  end
  if new then call('ZADD', c.key, whole(new), digest) else call('ZREM', c.key, digest) end
end

local function let_go(key, n)
  local pending = tonumber(call('HGET', key, 'p'))
  if pending then call('HSET', key, 'p', whole(math.max(0, pending - n))) end
end

-- Messages under way: a list of what they count for, then of a digest for each recipient.

local function described(all)
  local lines = {}
  for i, c in ipairs(all) do
    lines[i] = table.concat({ c.kind, whole(c.bucket), whole(c.window), c.key }, ' ')
  end
  return table.concat(lines, '\n')
end

local function each_described(description, visit)
  for kind, bucket, window, key in string.gmatch(description, '(%a) (%d+) (%d+) ([^\n]+)') do
    visit(counter(kind, tonumber(bucket), tonumber(window), key))
  end
end

local function give_back(message)
  local held = call('LRANGE', message, 0, -1)
  if #held == 0 then return end
  each_described(held[1], function(c)
    if c.kind == 'u' then
      for i = 2, #held do let_go_recipient(c, held[i]) end
    else
      let_go(c.key, c.kind == 'm' and 1 or #held - 1)
    end
  end)
  call('DEL', message)
end

local function give_back_one(message, digest)
  if call('LREM', message, -1, digest) == 0 then return end
  local is_last = call('LLEN', message) == 1
  each_described(call('LINDEX', message, 0), function(c)
    if c.kind == 'u' then
      let_go_recipient(c, digest)
    elseif c.kind == 't' or is_last then
      let_go(c.key, 1)
    end
  end)
  if is_last then
    call('DEL', message)
    return true
  end
end

-- What nodes held that have not renewed it in time.
local function sweep()
  local gone = call('ZRANGEBYSCORE', LEASES, '-inf', whole(now), 'LIMIT', 0, SWEPT)
  for _, id in ipairs(gone) do
    give_back(messages .. id)
    call('ZREM', LEASES, id)
  end
end

-- reserve: id, lease in ms, whether limits are enforced, counters in the order in which they refuse, digests.
-- Answers for each digest: whether it has a place, number of the counter it is beyond or 0, used, reserved,
-- room; then for each counter: used, reserved, room.
if operation == 'reserve' then
  local id, lease, enforced = take(), number(), take() == '1'
  sweep()
  local all, answer, added = counters(), {}, {}
  for _, c in ipairs(all) do load(c) end
  local is_first = call('EXISTS', MESSAGE) == 0
  local begins = is_first
  for i = position + 1, #ARGV do
    local digest, beyond, number_of = ARGV[i], nil, 0
    for n, c in ipairs(all) do
      local used, reserved = uses(c)
      if used + reserved >= c.allowed then
        local asks = c.kind == 't' or c.kind == 'm' and is_first or c.kind == 'u' and not is_known(c, digest)
        if asks then
          beyond, number_of = c, n
          break
        end
      end
    end
    local place = not (beyond and enforced)
    local used, reserved, free = 0, 0, -1
    if beyond then
      used, reserved = uses(beyond)
      free = room(beyond)
    end
    for _, value in ipairs({ place and 1 or 0, number_of, used, reserved, free }) do answer[#answer + 1] = value end
    if place then
      for _, c in ipairs(all) do
        if c.kind == 'u' then
          hold_recipient(c, digest)
        elseif c.kind == 't' or is_first then
          c.pending = c.pending + 1
        end
      end
      added[#added + 1], is_first = digest, false
    end
  end
  if #added > 0 then
    if begins then table.insert(added, 1, described(all)) end
    call('RPUSH', MESSAGE, unpack(added))
    call('PEXPIRE', MESSAGE, KEEP)
    call('ZADD', LEASES, whole(now + lease), id)
    call('PEXPIRE', LEASES, KEEP)
    for _, c in ipairs(all) do
      if c.kind ~= 'u' then call('HSET', c.key, 'p', whole(c.pending)) end
      call('PEXPIRE', c.key, KEEP)
    end
  end
  for _, c in ipairs(all) do
    local used, reserved = uses(c)
    answer[#answer + 1] = used
    answer[#answer + 1] = reserved
    answer[#answer + 1] = room(c)
  end
  return answer
end

-- commit: id, start of the node, its number, when by the node's clock, how long ago in ms, its name, how long in ms
-- names are kept behind the last commit, counters, digests. Answers 1, or 0 for what was counted before.
if operation == 'commit' then
  local id, start, order, at, age, name, named = take(), take(), number(), number(), number(), take(), number()
  local mark = call('HMGET', MARK, 's', 'n', 'a')
  if mark[1] == start and tonumber(mark[2]) >= order then return { 0 } end
  local last = math.max(tonumber(mark[3]) or 0, at)
  call('HSET', MARK, 's', start, 'n', whole(order), 'a', whole(last))
  call('PEXPIRE', MARK, KEEP)
  call('ZADD', TOLD, whole(at), name)
  call('ZREMRANGEBYSCORE', TOLD, '-inf', '(' .. whole(last - named))
  call('PEXPIRE', TOLD, KEEP)
  for _, c in ipairs(counters()) do
    local bucket = math.floor((now - age) / c.bucket)
    if bucket >= c.first then
      if c.kind == 'u' then
        local dead = call('ZCOUNT', c.key, '-inf', '(' .. whole(c.first))
        if dead > 0 then call('ZREMRANGEBYRANK', c.key, 0, math.min(dead, PRUNED) - 1) end
        for i = position + 1, #ARGV do count_recipient(c, bucket, ARGV[i]) end
      else
        load(c)
        count(c, bucket, c.kind == 'm' and 1 or #ARGV - position)
      end
      call('PEXPIRE', c.key, KEEP)
    end
  end
  give_back(MESSAGE)
  call('ZREM', LEASES, id)
  return { 1 }
end

-- release: id, then digests of which one place each is given back, or none for all.
if operation == 'release' then
  local id, ends = take(), position == #ARGV
  if ends then give_back(MESSAGE) end
  for i = position + 1, #ARGV do ends = give_back_one(MESSAGE, ARGV[i]) or ends end
  if ends then call('ZREM', LEASES, id) end
  return { 1 }
end

-- renew: lease in ms, ids of messages still under way.
if operation == 'renew' then
  local lease = number()
  for i = position + 1, #ARGV do
    call('ZADD', LEASES, 'XX', whole(now + lease), ARGV[i])
    call('PEXPIRE', messages .. ARGV[i], KEEP)
  end
  call('PEXPIRE', LEASES, KEEP)
  sweep()
  return { 1 }
end

return redis.error_reply('ERR no such operation')

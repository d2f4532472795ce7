-- Put before every script: how the state of one key is read, and when something read is valid.
--
-- The decisions are core/lease.py's, function by function; a test over random states holds the two together. All times
-- are this server's, read once a script. Numbers stay below 2^53, so that a double holds them, and are written by
-- `text`, since Lua's own tostring makes 1.7e+15 of an order. Reads come before writes: a key of another type in our
-- way then ends the script before it changed anything.

local LEASE_LIFE, LOG_LIFE, TAPE_LIFE = 900000, 900000, 60000
local BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_CAP = 1000, 30000, 300000
local TTL_CAP, NEVER = 4294967295, -1
local PRIME = 4294967291
local FORMS = {v = 0, j = 1, s = 2}

local function clock()
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

local function text(number) return string.format('%.0f', number) end

-- Two halves and not I8: where a C long has 32 bits, struct would drop the upper one.
local function u64(high, low) return high * 4294967296 + low end
local function packed(number) return struct.pack('>I4I4', math.floor(number / 4294967296), number % 4294967296) end

local function generations(name)
  local found = redis.call('HMGET', name, 'ep', 'clk', 'floor')
  local epoch = found[1] and #found[1] == 8 and found[1]
  return {name = name, epoch = epoch, clock = tonumber(found[2]) or 0, floor = tonumber(found[3]) or 0}
end

local function moved(g, fields, since)
  for at = 1, #fields - 1, 2 do
    local high, low = fields:byte(at, at + 1)
    local when = redis.call('HGET', g.name, 't:' .. (high * 256 + low))
    -- What is no number is not ours, and must not keep an answer alive.
    if when and (tonumber(when) or math.huge) > since then return true end
  end
  return false
end

local function valid(g, of, fields)
  if not g.epoch or of.epoch ~= g.epoch or of.clock < g.floor then return false end
  return of.clock == g.clock or not (moved(g, of.fields, of.clock) or moved(g, fields, of.clock))
end

-- The packed fields of an entry's own tags; nil when the lengths in its header do not add up.
local function entry_fields(name, start, length)
  if length > #start then start = redis.call('GETRANGE', name, 0, length - 1) end
  if length > #start then return nil end
  local at, fields = 120, ''
  while at + 3 <= length do
    local kind, high, low = start:byte(at + 1, at + 3)
    local last = at + 3 + high * 256 + low
    if kind == 1 then fields = start:sub(at + 4, last) end
    at = last
  end
  return at == length and #fields % 2 == 0 and fields or nil
end

-- The head of the entry, or nil for none, another question's, another format's, one that carries what we do not know.
local function read_head(name, digest, form)
  local start = redis.call('GETRANGE', name, 0, 511)
  if #start < 120 then return nil end
  local magic, format, flags, length, whose, fill, oh, ol, epoch, clock, ttl, _, ch, cl, fh, fl, sh, sl, eh, el, check =
    struct.unpack('>c2BBI4c32c16I4I4c8I4I4I4I4I4I4I4I4I4I4I4I4', start)
  -- Term by term: the sum of what is no date may pass 2^53.
  local function rest(high, low) return (high % PRIME * (4294967296 % PRIME) + low) % PRIME end
  local sum = (rest(ch, cl) + 3 * rest(fh, fl) + 5 * rest(sh, sl) + 7 * rest(eh, el)) % PRIME
  -- 16: odd extensions; 64: and they are the ones that every reader knows.
  if magic ~= 'ao' or format ~= 1 or (flags % 32 >= 16 and flags % 128 < 64) or check ~= sum then return nil end
  if whose ~= digest or flags % 4 ~= FORMS[form] then return nil end
  local fields = entry_fields(name, start, length)
  if not fields then return nil end
  local head = {fill = fill, order = u64(oh, ol), epoch = epoch, clock = clock, ttl = ttl, fields = fields,
    created = u64(ch, cl), fresh = u64(fh, fl), stale = u64(sh, sl), error = u64(eh, el)}
  head.hard = math.max(head.fresh, head.stale, head.error)
  return head
end

local function read_lease(name, now)
  local found = redis.call('HMGET', name, 'id', 'order', 'dl', 'ep', 's', 't', 'x', 'want', 'idle', 'fails')
  local lease = {id = found[1], order = tonumber(found[2]), deadline = tonumber(found[3]), epoch = found[4],
    clock = tonumber(found[5]), fields = found[6] or '', expire = tonumber(found[7]), want = found[8] == '1',
    idle = found[9] == '1', fails = tonumber(found[10]) or 0}
  local whole = lease.id and lease.order and lease.deadline and lease.epoch and lease.clock and lease.expire
  return whole and now < lease.expire and lease or nil
end

local function holds(lease, flight, order)
  return lease and lease.id == flight and lease.order == order and not lease.idle
end

-- The index of a partition's flights: `askonce flights` and pages read it, and no decision does. It is written after what
-- counts, and what goes wrong with it fails nothing.
local function indexed(index, lease, now)
  redis.pcall('ZREMRANGEBYSCORE', index, '-inf', text(now))
  redis.pcall('ZADD', index, text(now + LEASE_LIFE), lease:sub(-24))
  redis.pcall('PEXPIRE', index, LEASE_LIFE)
end
local function unindexed(index, lease) redis.pcall('ZREM', index, lease:sub(-24)) end

local function dates(created, fresh, stale, error)
  local sum = (created + 3 * fresh + 5 * stale + 7 * error) % PRIME
  return packed(created) .. packed(fresh) .. packed(stale) .. packed(error) .. struct.pack('>I4', sum)
end

local function say(channel, kind, flight, order, more)
  publish(channel, kind .. flight .. packed(order) .. more)
end

-- Keeps what a flight ends with, and says how it ended; the error reply where it could not be kept. A log that was
-- written as the flight went on says all of it already, and stays.
local function ended(tape, log, channel, flight, order, outcome)
  local done = log and redis.pcall('SET', tape, log, 'NX', 'PX', TAPE_LIFE)
  local trouble = type(done) == 'table' and done.err and done or nil
  say(channel, 'E', flight, order, trouble and 'f' or outcome)
  return trouble
end

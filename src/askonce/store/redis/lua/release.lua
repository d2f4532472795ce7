-- KEYS entry lease generations tape (less its order when ARGV's is 0) flights
-- ARGV digest form | flight order failed hint | frame outcome channel   -> OK

local now = math.floor(clock() / 1000)
local flight, order, failed, hint = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])

local head = read_head(KEYS[1], ARGV[1], ARGV[2])
local lease = read_lease(KEYS[2], now)
local g = generations(KEYS[3])
local tape = KEYS[4]
if order == 0 then
  -- A claim whose reply was lost: its followers know the flight by the order that it was granted.
  if not lease or lease.id ~= flight then return 'OK' end
  order = lease.order
  tape = tape .. text(order)
end

local function backoff(fails)
  local grown = math.min(BACKOFF_FIRST * 2 ^ math.min(fails - 1, 5), BACKOFF_LAST)
  return math.min(math.max(grown, hint), BACKOFF_CAP)
end

local taped = true
if holds(lease, flight, order) then
  taped = lease.want
  if failed and head and now < head.hard and valid(g, head, lease.fields) then
    local wait = backoff(lease.fails + 1)
    redis.call('HSET', KEYS[2], 'dl', text(now + wait), 'x', text(now + wait + BACKOFF_LAST), 'idle', '1', 'want', '0',
      'fails', text(lease.fails + 1))
    redis.call('PEXPIRE', KEYS[2], text(wait + BACKOFF_LAST))
  else
    redis.call('DEL', KEYS[2])
  end
  unindexed(KEYS[5], KEYS[2])
end
if not taped then return 'OK' end
return ended(tape, ARGV[8] ~= 's' and ARGV[7], ARGV[9], flight, order, ARGV[8]) or 'OK'

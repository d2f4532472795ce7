-- KEYS ring   ARGV most bytes life note...   -> nothing. A note is put behind all bytes of the ring so far, and the time.

local ring, most, bytes = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local function total_at(place)
  local note = redis.call('LINDEX', ring, place)
  if not note or #note < 16 then return nil end
  local high, low = struct.unpack('>I4I4', note)
  return u64(high, low)
end

local now, total = math.floor(clock() / 1000), total_at(0) or 0
for at = 4, #ARGV do
  total = total + #ARGV[at] + 16
  redis.call('LPUSH', ring, packed(total) .. packed(now) .. ARGV[at])
end
redis.call('LTRIM', ring, 0, text(most - 1))
local oldest = total_at(-1)
while oldest and oldest <= total - bytes do
  redis.call('RPOP', ring)
  oldest = total_at(-1)
end
redis.call('PEXPIRE', ring, ARGV[3])
return redis.status_reply('OK')

-- KEYS generations   ARGV everything fields   -> the partition's counter
-- Repeating it is safe: it only invalidates what was made in between. It never makes an epoch.

local counter = redis.call('HINCRBY', KEYS[1], 'clk', 1)
local fields = ARGV[2]
for at = 1, #fields - 1, 2 do
  local high, low = fields:byte(at, at + 1)
  redis.call('HSET', KEYS[1], 't:' .. (high * 256 + low), text(counter))
end
if ARGV[1] == '1' then redis.call('HSET', KEYS[1], 'floor', text(counter)) end
return counter

-- KEYS generations   ARGV everything fields   -> the partition's counter
-- Repeating it is safe: it only invalidates what was made in between. It never makes an epoch.

local counter = redis.call('HINCRBY', KEYS[1], 'clk', 1)
local fields = ARGV[2]
for at = 1, #fields - 1, 2 do
  local high, low = fields:byte(at, at + 1)
  redis.call('HSET', KEYS[1], 't:' .. (high * 256 + low), text(counter))
end
if ARGV[1] == '1' then redis.call('HSET', KEYS[1], 'floor', text(counter)) end

-- core.lease.compacted: of too many fields the older half goes, and the floor is put above it. It takes milliseconds, and
-- all partitions come to it together: so each has its turn, or an invalidation would wait for all of them.
local FIELDS, PARTITIONS = 4096, 64
local partition = tonumber(KEYS[1]:match(':(%d+)}') or 0)
if (counter + partition) % PARTITIONS == 0 and redis.call('HLEN', KEYS[1]) > FIELDS then
  local all = redis.call('HGETALL', KEYS[1])
  local times = {}
  for at = 1, #all, 2 do
    if all[at]:sub(1, 2) == 't:' then times[#times + 1] = tonumber(all[at + 1]) or counter end
  end
  if #times > FIELDS then
    table.sort(times)
    local middle = times[math.floor(#times / 2) + 1]
    local floor = math.max(tonumber(redis.call('HGET', KEYS[1], 'floor')) or 0, math.min(middle, counter - 1))
    redis.call('HSET', KEYS[1], 'floor', text(floor))
    for at = 1, #all, 2 do
      if all[at]:sub(1, 2) == 't:' and (tonumber(all[at + 1]) or counter) <= floor then
        redis.call('HDEL', KEYS[1], all[at])
      end
    end
  end
end
return counter

-- KEYS sender bucket ...   ARGV number life, and for each tally:
--   bucket (its place in KEYS) most replaces kept label counters, and then name and count of each counter
-- -> 1, or 0 for a push that came before. A bucket is a hash of <counter>\0<label>; \0<label> marks that a label is there,
-- and # counts the labels. The rule is core/tallies.py's add.

local OTHER = '\255'
local MOST = 2 ^ 62 -- where a counter stops, either way
local labels, cold = {}, {}

if tonumber(ARGV[1]) <= (tonumber(redis.call('GET', KEYS[1])) or 0) then return 0 end
for at = 2, #KEYS do labels[KEYS[at]] = tonumber(redis.call('HGET', KEYS[at], '#')) or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])

-- The counts of a bucket whose labels are replaced, by label; read once a script.
local function counts(name)
  if cold[name] then return cold[name] end
  local found, all = {}, redis.call('HGETALL', name)
  for at = 1, #all, 2 do
    if all[at]:sub(1, 2) == 'n\0' then found[all[at]:sub(3)] = tonumber(all[at + 1]) end
  end
  cold[name] = found
  return found
end

local function replace(name, label)
  local found, coldest = counts(name), nil
  for one, count in pairs(found) do
    if not coldest or count < found[coldest] or (count == found[coldest] and one < coldest) then coldest = one end
  end
  if not coldest then return end
  redis.call('HDEL', name, '\0' .. coldest, 'n\0' .. coldest)
  redis.call('HSET', name, '\0' .. label, 1, 'n\0' .. label, text(found[coldest]))
  found[label], found[coldest] = found[coldest], nil
end

local function settled(name, label, most, replaces)
  if redis.call('HEXISTS', name, '\0' .. label) == 1 then return label end
  if labels[name] >= most then
    if replaces then
      replace(name, label)
      return label
    end
    label = OTHER
  end
  if redis.call('HSETNX', name, '\0' .. label, 1) == 1 then
    labels[name] = redis.call('HINCRBY', name, '#', 1)
  end
  return label
end

-- Add to a counter; return it.
local function added(name, field, count)
  local now = redis.pcall('HINCRBY', name, field, count)
  local over = type(now) == 'table' and now.err:find('overflow') or type(now) == 'number' and math.abs(now) > MOST
  if not over then return type(now) == 'number' and now or redis.call('HINCRBY', name, field, count) end
  now = tonumber(count) < 0 and -MOST or MOST
  redis.call('HSET', name, field, text(now))
  return now
end

local at = 3
while at <= #ARGV do
  local name, replaces, counters = KEYS[tonumber(ARGV[at])], ARGV[at + 2] == '1', tonumber(ARGV[at + 5])
  local label = settled(name, ARGV[at + 4], tonumber(ARGV[at + 1]), replaces)
  for one = at + 6, at + 4 + 2 * counters, 2 do
    local now = added(name, ARGV[one] .. '\0' .. label, ARGV[one + 1])
    if replaces then counts(name)[label] = now end
  end
  redis.call('PEXPIRE', name, ARGV[at + 3])
  at = at + 6 + 2 * counters
end
return 1

-- KEYS counter   ARGV hits window   -> the hits of the running half of the window and of the one before

local half = math.max(1, math.floor(ARGV[2] / 2))
local turn = math.floor(clock() / 1000 / half)
local found = redis.call('HMGET', KEYS[1], 'turn', 'now', 'before')
local last, current, before = tonumber(found[1]), tonumber(found[2]) or 0, tonumber(found[3]) or 0
if last ~= turn then
  before = last == turn - 1 and current or 0
  current = 0
end
current = current + ARGV[1]
redis.call('HSET', KEYS[1], 'turn', text(turn), 'now', text(current), 'before', text(before))
redis.call('PEXPIRE', KEYS[1], text(2 * half))
return current + before

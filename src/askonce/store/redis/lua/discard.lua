-- KEYS entry   ARGV fill and order, as they stand in its header   -> 1 when it was still this one, and is gone

if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GETRANGE', KEYS[1], 40, 63) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

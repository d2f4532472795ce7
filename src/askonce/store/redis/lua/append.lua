-- KEYS tape   ARGV flight order offset data channel   -> how long the log is now
-- Fenced by the log's own name and length and not by the lease: a successor must not cut off those who follow.

local length, offset = redis.call('STRLEN', KEYS[1]), tonumber(ARGV[3])
if offset > length then return length end
local new = ARGV[4]:sub(length - offset + 1)
if new == '' then return length end
redis.call('APPEND', KEYS[1], new)
if length == 0 then redis.call('PEXPIRE', KEYS[1], LOG_LIFE) end
say(ARGV[5], 'D', ARGV[1], tonumber(ARGV[2]), packed(length) .. new)
return length + #new

-- KEYS entry generations   ARGV digest form | fill order hot_ttl cap   -> 1 when the entry slid, else 0

local now = math.floor(clock() / 1000)
local head = read_head(KEYS[1], ARGV[1], ARGV[2])
if not head or head.fill ~= ARGV[3] or head.order ~= tonumber(ARGV[4]) or now >= head.fresh then return 0 end
if not valid(generations(KEYS[2]), head, '') then return 0 end
local last = head.created + ARGV[6]
local fresh = math.min(now + ARGV[5], last)
local gain = fresh - head.fresh
if gain <= 0 then return 0 end
local stale = math.max(head.stale, math.min(head.stale + gain, last))
local on_error = math.max(head.error, math.min(head.error + gain, last))
redis.call('SETRANGE', KEYS[1], 84, dates(head.created, fresh, stale, on_error))
redis.call('PEXPIRE', KEYS[1], text(math.max(fresh, stale, on_error) - now))
return 1

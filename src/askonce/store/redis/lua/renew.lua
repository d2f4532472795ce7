-- KEYS lease generations   ARGV id order heartbeat   -> ok | want | lost
-- Never makes a lease, and never touches its PEXPIRE: 15 minutes from the grant free the followers of a hung upstream.

local now = math.floor(clock() / 1000)
local lease = read_lease(KEYS[1], now)
if not holds(lease, ARGV[1], tonumber(ARGV[2])) or not valid(generations(KEYS[2]), lease, '') then return 'lost' end
redis.call('HSET', KEYS[1], 'dl', text(now + ARGV[3]))
return lease.want and 'want' or 'ok'

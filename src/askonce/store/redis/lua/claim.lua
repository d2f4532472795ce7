-- KEYS entry lease generations flights
-- ARGV digest form id candidate fields | ttl grace error max_age min_fresh max_stale | after early heartbeat channel
-- -> {0 lead, order, epoch, clock} {1 hit | 2 stale, fill, order, now[, order, epoch, clock]} {3 follow, id, order, ms}

local now_us = clock()
local now = math.floor(now_us / 1000)
local id, fields = ARGV[3], ARGV[5]
local ttl, grace, on_error = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local max_age, min_fresh, max_stale = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local after, early, heartbeat = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])

local found = read_head(KEYS[1], ARGV[1], ARGV[2])
local lease = read_lease(KEYS[2], now)
local g = generations(KEYS[3])
if not g.epoch then
  -- The field is tested and not EXISTS: an invalidation may have made the hash.
  g.epoch = ARGV[4]:sub(1, 4) .. struct.pack('>I4', now_us % 4294967296)
  redis.call('HSET', g.name, 'ep', g.epoch)
end

local head = found
if head and (now >= head.hard or not valid(g, head, fields)) then head = nil end

local function live()
  if not lease or now >= lease.deadline then return false end
  if lease.deadline - now > (lease.idle and BACKOFF_CAP or heartbeat) then return false end
  return valid(g, lease, fields)
end

local function fresh_for(fresh)
  if max_age ~= NEVER and math.max(0, now - head.created) >= max_age then return false end
  if max_stale ~= 0 and now >= head.hard then return false end
  return now + min_fresh < fresh + max_stale
end

local own = lease and lease.id == id and not lease.idle and valid(g, lease, fields) and lease
local held = not own and live() and lease or nil

-- The grant that the caller has already, or a new one where nobody is kept out by it.
local function granted(reply)
  local grant = own
  if not grant then
    local order = math.max(now_us, lease and lease.order + 1 or 0, found and found.order + 1 or 0)
    grant = {order = order, epoch = g.epoch, clock = g.clock}
    -- Every field is written and none deleted before: were memory to run out here, the old lease would stand.
    redis.call('HSET', KEYS[2], 'id', id, 'order', text(order), 'dl', text(now + heartbeat), 'ep', g.epoch,
      's', text(g.clock), 't', fields, 'x', text(now + LEASE_LIFE), 'want', '0', 'idle', '0',
      'fails', text(lease and lease.fails or 0))
    redis.call('PEXPIRE', KEYS[2], LEASE_LIFE)
    indexed(KEYS[4], KEYS[2], now)
  end
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = grant.order, grant.epoch, grant.clock
  return reply
end

if head then
  local fresh = head.fresh
  if head.ttl > math.min(ttl, TTL_CAP) then fresh = math.min(fresh, head.created + ttl) end
  if fresh_for(fresh) or (after ~= 0 and head.order >= after) then
    local hit = {1, head.fill, head.order, now}
    local refresh = early ~= NEVER and fresh - now <= early
    return (own or (refresh and not held)) and granted(hit) or hit
  end
  if min_fresh == 0 and (max_age == NEVER or math.max(0, now - head.created) < max_age) then
    local stale = {2, head.fill, head.order, now}
    if now < math.min(head.stale, fresh + grace) then return held and stale or granted(stale) end
    if held and held.idle and now < math.min(head.error, fresh + on_error) then return stale end
  end
end
if not held or held.idle then return granted({0}) end
if not held.want then
  redis.call('HSET', KEYS[2], 'want', '1')
  say(ARGV[15], 'W', held.id, held.order, '')
end
return {3, held.id, held.order, math.min(held.deadline - now, heartbeat)}

-- KEYS entry lease generations tape flights
-- ARGV flight order | ttl grace error cap age | start extensions body | form channel   -> stored | unkept | moved | lost

local now = math.floor(clock() / 1000)
local flight, order = ARGV[1], tonumber(ARGV[2])
local ttl, grace, on_error, cap = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local born = now - tonumber(ARGV[7])
local start, body, channel = ARGV[8], ARGV[10], ARGV[12]

local hard_end = born + cap
local fresh = math.min(born + ttl, hard_end)
local stale, on_error_until = math.min(fresh + grace, hard_end), math.min(fresh + on_error, hard_end)
local hard = math.max(fresh, stale, on_error_until)

local lease = read_lease(KEYS[2], now)
local g = generations(KEYS[3])

local function decide()
  if holds(lease, flight, order) then
    if not valid(g, lease, '') then return 'moved', true end
    if hard <= now then return 'unkept', lease.want end
    return 'store', false
  end
  local head = read_head(KEYS[1], start:sub(9, 40), ARGV[11])
  if not head or head.fill ~= flight or head.order ~= order then return 'lost', true end
  if valid(g, head, '') then return 'stored', false end
  return 'moved', true
end

local function store()
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind ~= 'none' and kind ~= 'string' then return {err = 'WRONGTYPE a ' .. kind .. ' is where an entry belongs'} end
  local entry = start .. dates(born, fresh, stale, on_error_until) .. ARGV[9] .. body
  return redis.pcall('SET', KEYS[1], entry, 'PX', text(hard - now))
end

local verdict, taped = decide()
local held = holds(lease, flight, order)
local trouble
if verdict == 'store' then
  verdict = 'stored'
  local done = store()
  -- The answer could not be kept: whoever waits for it must still be told, or would wait for nothing.
  if done.err then verdict, taped, trouble = 'unkept', lease.want, done end
end
if held then redis.call('DEL', KEYS[2]) end
if held then unindexed(KEYS[5], KEYS[2]) end
if taped then
  local ending = 't' .. string.char(#verdict) .. verdict .. body
  trouble = ended(KEYS[4], struct.pack('>BI4', 127, #ending) .. ending, channel, flight, order, 't') or trouble
elseif held and lease.want then
  say(channel, 'E', flight, order, 's')
end
return trouble or verdict

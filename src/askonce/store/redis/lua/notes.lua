-- KEYS ring   ARGV owner name count   -> the newest notes of an owner whose names begin so; an empty one stands for any.

local owner, name, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found, from, step = {}, 0, 128
repeat
  local some = redis.call('LRANGE', KEYS[1], text(from), text(from + step - 1))
  for _, note in ipairs(some) do
    local mine = note:sub(17, 16 + #owner) == owner and note:sub(33, 32 + #name) == name
    if mine and #found < count then found[#found + 1] = note end
  end
  from = from + step
until #some < step or #found >= count
return found

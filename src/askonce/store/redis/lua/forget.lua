-- KEYS entry lease, entry lease ... of every form of a question   -> OK
-- An absent lease is a refusal, so whatever flies for this question now can fill nothing.

for at = 1, #KEYS, 2 do
  -- What is of another type is not ours to delete.
  if redis.call('TYPE', KEYS[at]).ok == 'string' then redis.call('DEL', KEYS[at]) end
  if redis.call('TYPE', KEYS[at + 1]).ok == 'hash' then redis.call('DEL', KEYS[at + 1]) end
end
return 'OK'

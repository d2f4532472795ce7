local function publish(channel, notice)
  -- pcall: as for a single server. A server before Redis 7 has no sharded channels; there the whole cluster is told.
  local done = redis.pcall('SPUBLISH', channel, notice)
  if type(done) == 'table' and done.err then redis.pcall('PUBLISH', channel, notice) end
end

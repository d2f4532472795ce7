local function publish(channel, notice)
  -- pcall: a user without rights to channels is still to be served; who waits for him asks again and again.
  redis.pcall('PUBLISH', channel, notice)
end

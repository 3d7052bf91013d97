-- Of these limits units have come back: whom they refuse, they may refuse too long. KEYS: where that is told. ARGV: for how long an
-- instance counts that is not seen (microseconds), and the limits, a double for each. It is told for longer than an instance counts: one
-- that has not heard it, is new when it comes again.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local told = tonumber(ARGV[1]) * 4
local before, all, is_named = redis.call('GET', KEYS[1]) or '', {}, {}
for at = 1, #ARGV[2], 8 do
  local name = ARGV[2]:sub(at, at + 7)
  is_named[name] = true
  all[#all + 1] = name .. struct.pack('<d', now)
end
for at = 1, #before - 15, 16 do
  local name, since = before:sub(at, at + 7), struct.unpack('<d', before, at + 8)
  -- The clock may have been set back.
  if not is_named[name] and since > now - told then
    all[#all + 1] = name .. struct.pack('<d', math.min(since, now))
  end
end
redis.call('PSETEX', KEYS[1], string.format('%.0f', math.ceil(told / 1000)), table.concat(all))
return #all

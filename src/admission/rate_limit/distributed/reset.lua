
-- Makes an account whole, whatever else is counted by the same thing. KEYS: its key. ARGV: a double, by which number its state is
-- known. Answers whether there was one.
local states, name = call('GET', KEYS[1]) or '', unpack('<d', ARGV[1])
for at = 1, #states - 47, 48 do
  local whose, lasts = unpack('<dd', states, at)
  if whose == name and lasts > now then
    call('SETRANGE', KEYS[1], at + 7, pack('<d', 0))
    return 1
  end
end
return 0

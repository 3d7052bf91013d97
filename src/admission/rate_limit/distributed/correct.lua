
-- Charges or gives back what was decided before: what was not used, or what a request cost in the end.
--
-- KEYS: one for each account. ARGV: nine integers for each: what its limit is, five of its own, the units that are
-- charged (given back, if negative), the window in which they were, and how many it may owe beyond what it holds.
for i = 1, #KEYS do
  local at = i * 9 - 8
  for j = at, at + 8 do ARGV[j] = tonumber(ARGV[j]) end
  local state, units = redis.call('GET', KEYS[i]), ARGV[at + 6]
  -- To an account that is whole nothing is given back.
  if state or units > 0 then
    local one = limit(state, unpack(ARGV, at, at + 5))
    one.add(units, ARGV[at + 8], ARGV[at + 7])
    keep(KEYS[i], one)
  end
end
return #KEYS

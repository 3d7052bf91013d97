
-- Charges or gives back what was decided before: what was not used, or what a request cost in the end.
--
-- KEYS: one for each account. ARGV: nine numbers for each: what its limit is, five of its own, the units that are
-- charged (given back, if negative), the window in which they were, and how many it may owe beyond what it holds.
for i = 1, #KEYS do
  local kind, a, b, c, d, e, units, window, debt = unpack('<ddddddddd', ARGV[i])
  local state = redis.call('GET', KEYS[i])
  -- To an account that is whole nothing is given back.
  if state or units > 0 then
    local one = limit(state, kind, a, b, c, d, e)
    one.add(units, debt, window)
    keep(KEYS[i], one)
  end
end
return #KEYS

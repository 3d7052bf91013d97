
-- Charges or gives back what was decided before: what was not used, or what a request cost in the end.
--
-- KEYS: one for each account. ARGV: nine doubles for each: what its limit is, five of its own, the units that are
-- charged (given back, if negative), the window in which they were, and how many it may owe beyond what it holds.
for i = 1, #KEYS do
  local kind, a, b, c, d, e, units, window, debt = unpack('<ddddddddd', ARGV[i])
  local one = limit(kind, a, b, c, d, e)
  local state, is_ours = read(one, KEYS[i])
  -- To an account that is whole nothing is given back.
  if is_ours and (state or units > 0) then
    one.of.look(one, state, 0)
    charge(one, KEYS[i], units, debt, window)
  end
end
return #KEYS

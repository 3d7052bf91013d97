
-- Charges or gives back what was decided before: what was not used, or what a request cost in the end.
--
-- KEYS: one for each account. ARGV: ten doubles for each: by which number its states are known, what its limit is, five of its own,
-- the units that are charged (given back, if negative), the window in which they were, and how many it may owe beyond what it holds.
for i = 1, #KEYS do
  local name, kind, a, b, c, d, e, units, window, debt = unpack('<dddddddddd', ARGV[i])
  local one, states = limit(name, kind, a, b, c, d, e), read(KEYS[i])
  if states then
    look(one, states, 1, 0)
    -- To an account that is whole nothing is given back.
    if one.lasts > 0 or units > 0 then charge(one, units, debt, window) end
    write(KEYS[i], states)
  end
end
return #KEYS

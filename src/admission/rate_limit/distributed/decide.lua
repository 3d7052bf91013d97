
-- Decides requests, one after the other. Of each all limits are charged, or none.
--
-- KEYS: for each request those of its limits, each once. ARGV: the limits, seven doubles for each: by which number its states
-- are known, what it is, and five of its own; and the requests: for each limit of each, which it is (two bytes), what it costs and
-- how much more is wanted ahead (four each), and flags (one). Limits of one key are beside each other: at the first is said that
-- it is the next key, and at the last of a request that it is the last. No request names a limit twice.
--
-- Answers for each limit of each request whether the request passes (a byte: 1 or 0; 2 if a key is somebody else's, nothing is
-- decided, and no more is said; 3 if it passes, and what follows would be zero), and in doubles the wait (0 none, -1 for ever),
-- what was given ahead, and the window. Who is refused, takes something ahead or asks for it is told where the account stands, too:
-- what remains, when there is more, and when it is whole. Times are from now.
local SHADOW, PENALTY, STANDING, NEXT, LAST = 1, 2, 4, 8, 16
local KEYS, limits, named = KEYS, {}, ARGV[1]
for at = 1, #named, 56 do limits[#limits + 1] = limit(unpack('<ddddddd', named, at)) end

local asked, at, key, told, list, kept = ARGV[2], 1, 0, {}, {}, {}
while at <= #asked do
  local passes, count, states, place = 1, 0
  repeat
    local which, cost, ahead, flags
    which, cost, ahead, flags, at = unpack('<I2I4I4B', asked, at)
    local one, is_last = limits[which], flags >= LAST
    if is_last then flags = flags - LAST end
    if flags >= NEXT then
      flags, key, place = flags - NEXT, key + 1, 1
      states = read(KEYS[key])
      kept[key] = states
    end
    count = count + 1
    list[count], one.key, one.cost, one.ahead, one.flags, one.waits = one, key, cost, ahead, flags, 0
    if states then
      local waits = look(one, states, place, cost)
      place = one.at + 48
      if cost > 0 then one.waits = waits end
      if passes == 1 and one.waits ~= 0 and flags % 2 ~= SHADOW then passes = 0 end
    else
      passes = 2
    end
  until is_last
  if passes == 2 then told[#told + 1] = string.rep('\2', count) end
  for i = 1, passes < 2 and count or 0 do
    local one, change, given = list[i], 0, 0
    local tell, flags, ahead, waits = one.of.tell, one.flags, one.ahead, one.waits
    if passes == 1 and waits == 0 then
      change = one.cost
      if ahead > 0 then given = max(0, min(ahead, floor((tell(one) - change) / 2))) end
    elseif flags % STANDING >= PENALTY then
      change = min(one.cost, (tell(one)))
    end
    if change + given ~= 0 or one.is_ahead then charge(one, change + given, 0) end
    if passes == 0 or ahead > 0 or flags >= STANDING then
      told[#told + 1] = pack('<Bdddddd', passes, waits, given, one.window, tell(one))
    elseif waits == 0 and one.window == 0 then
      told[#told + 1] = '\3'
    else
      told[#told + 1] = pack('<Bddd', passes, waits, given, one.window)
    end
    if i == count or list[i + 1].key ~= one.key then write(KEYS[one.key], kept[one.key]) end
  end
end
return table.concat(told)

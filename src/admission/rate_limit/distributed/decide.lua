
-- Decides requests, one after the other. Of each all limits are charged, or none.
--
-- KEYS: one for each limit of each request. ARGV: the limits, six doubles for each: what it is, and five of its own; and the
-- requests: how many limits it has (two bytes), and for each of them which (two), what it costs and how much more is wanted
-- ahead (four each), and flags (one). No request names a limit twice.
--
-- Answers for each limit of each request whether the request passes (a byte: 1 or 0; 2 if a key is somebody else's, nothing is
-- decided, and no more is said), and in doubles the wait (0 none, -1 for ever), what was given ahead, and the window. Who is
-- refused, takes something ahead or asks for it is told where the account stands, too: what remains, when there is more, and when
-- it is whole. Times are from now.
local SHADOW, PENALTY, STANDING = 1, 2, 4
local KEYS, limits, named = KEYS, {}, ARGV[1]
for at = 1, #named, 48 do limits[#limits + 1] = limit(unpack('<dddddd', named, at)) end

local asked, at, first, told, list = ARGV[2], 1, 0, {}, {}
while at <= #asked do
  local passes, count = 1
  count, at = unpack('<I2', asked, at)
  for i = 1, count do
    local which, cost, ahead, flags
    which, cost, ahead, flags, at = unpack('<I2I4I4B', asked, at)
    local one = limits[which]
    list[i], one.cost, one.ahead, one.flags, one.waits = one, cost, ahead, flags, 0
    local state, is_ours = read(one, KEYS[first + i])
    if is_ours then
      local waits = one.of.look(one, state, cost)
      if cost > 0 then one.waits = waits end
      if passes == 1 and one.waits ~= 0 and flags % 2 ~= SHADOW then passes = 0 end
    else
      passes = 2
    end
  end
  if passes == 2 then told[#told + 1] = string.rep('\2', count) end
  for i = 1, passes < 2 and count or 0 do
    local one, change, given = list[i], 0, 0
    local tell, flags = one.of.tell, one.flags
    if passes == 1 and one.waits == 0 then
      change = one.cost
      if one.ahead > 0 then given = max(0, min(one.ahead, floor((tell(one) - change) / 2))) end
    elseif flags % STANDING >= PENALTY then
      change = min(one.cost, (tell(one)))
    end
    if change + given ~= 0 or one.is_ahead then charge(one, KEYS[first + i], change + given, 0) end
    if passes == 0 or one.ahead > 0 or flags >= STANDING then
      told[#told + 1] = pack('<Bdddddd', passes, one.waits, given, one.window, tell(one))
    else
      told[#told + 1] = pack('<Bddd', passes, one.waits, given, one.window)
    end
  end
  first = first + count
end
return table.concat(told)

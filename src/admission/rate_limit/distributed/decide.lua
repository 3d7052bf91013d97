-- Decides all limits of a request at once: all are charged, or none.
--
-- KEYS: one for each limit. ARGV: nine numbers for each limit: what it is, five of its own, what it costs, how much more
-- is wanted ahead, and flags. Answers 1 or 0, and for each limit six integers: the wait (0 none, -1 for ever), what
-- remains, when there is more, when it is whole, what was given ahead, and the window. Times are from now.
local SHADOW, PENALTY = 1, 2
local limits, passes = {}, true
for i = 1, #KEYS do
  local kind, a, b, c, d, e, cost, ahead, flags = unpack('<ddddddddd', ARGV[i])
  local one = limit(redis.call('GET', KEYS[i]), kind, a, b, c, d, e)
  one.cost, one.ahead, one.flags = cost, ahead, flags
  if cost > 0 then one.waits = one.wait(cost) end
  if one.waits ~= 0 and flags % 2 ~= SHADOW then passes = false end
  limits[i] = one
end

local answer = {passes and 1 or 0, 0, 0, 0, 0, 0, 0}
for i, one in ipairs(limits) do
  local change, given = 0, 0
  if passes and one.waits == 0 then
    change = one.cost
    if one.ahead > 0 then given = max(0, min(one.ahead, floor((one.spare() - change) / 2))) end
  elseif one.flags >= PENALTY then
    change = max(0, min(one.cost, one.spare()))
  end
  if change + given ~= 0 or one.is_ahead then
    one.add(change + given, 0)
    keep(KEYS[i], one)
  end
  local remains = max(0, one.spare())
  local at = i * 6 - 5
  answer[at + 1], answer[at + 2] = one.waits, remains
  answer[at + 3] = max(0, one.wait(remains + 1))
  answer[at + 4], answer[at + 5], answer[at + 6] = max(0, one.whole()), given, one.window
end
return answer

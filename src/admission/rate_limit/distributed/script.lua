-- Decides all limits of a request at once: all are charged, or none.
--
-- KEYS: one for each limit. ARGV: nine integers for each limit: what it is, five of its own, what it costs, how much
-- more is wanted ahead (or, where the cost is negative, the window in which it was charged), and flags.
-- Answers 1 or 0, and for each limit six integers: the wait (0 none, -1 for ever), what remains, when there is more, when
-- it is whole, what was given ahead, and the window. Times are microseconds from now: clocks of others mean nothing here.
-- A state says at what time of this server it was written. If that is still to come, the clock was set back: the state
-- holds from now on.
local SHADOW, PENALTY = 1, 2
local floor, ceil, min, max, format, match =
  math.floor, math.ceil, math.min, math.max, string.format, string.match
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- What is spent comes back at once, an interval after the other. Debts are in parts of a microsecond.
local function bucket(state, interval, whole, parts)
  local debt, of = 0, {window = 0}
  if state then
    local at, owed = match(state, '^(%d+) (%d+)')
    debt = max(0, owed - max(0, now - at) * parts)
    of.is_ahead = now < tonumber(at)
  end
  function of.spare() return floor((whole - debt) / interval) end
  function of.wait(cost)
    local price = cost * interval
    if price > whole then return -1 end
    return max(0, ceil((debt + price - whole) / parts))
  end
  function of.add(cost) debt = max(0, min(whole, debt + cost * interval)) end
  function of.whole() return ceil(debt / parts) end
  function of.state() return format('%.0f %.0f', now, debt), of.whole() end
  return of
end

-- The count of the running window, and the part of the one before that the window ending now still covers. That part is
-- told in units of a window's 2^20th, so that its product with a count is an integer.
local function sliding(state, window, count)
  local index = floor(now / window)
  local into = now - index * window
  local before, running, of = 0, 0, {window = index}
  if state then
    local at, b, r = match(state, '^(%d+) (%d+) (%d+)')
    at = tonumber(at)
    of.is_ahead = at > index
    if at >= index then before, running = tonumber(b), tonumber(r)
    elseif at == index - 1 then before = tonumber(r) end
  end
  local unit = ceil(window / 1048576)
  local total = ceil(window / unit)
  local left = total - floor(into / unit)
  function of.spare() return count - running - ceil(before * left / total) end
  function of.wait(cost)
    if cost > count then return -1 end
    if cost <= of.spare() then return 0 end
    local room = count - cost - running
    if room >= 0 then
      return max(1, min(window, (total - floor(room * total / before)) * unit) - into)
    end
    return window - into + min(window, (total - floor((count - cost) * total / running)) * unit)
  end
  function of.add(cost) running = max(0, running + cost) end
  function of.whole()
    if running > 0 then return 2 * window - into end
    return before > 0 and window - into or 0
  end
  function of.state() return format('%.0f %.0f %.0f', index, before, running), 2 * window - into end
  return of
end

-- The count of the running window. Who is in the next one already, by a clock that was set back, stays there.
local function fixed(state, start, stop, later, count)
  local spent = 0
  if state then
    local at, held = match(state, '^(%d+) (%d+)')
    at = tonumber(at)
    if at == start then spent = tonumber(held)
    elseif at == stop then start, stop, spent = stop, later, tonumber(held) end
  end
  local left = stop - now
  local of = {window = start}
  function of.spare() return count - spent end
  function of.wait(cost)
    if cost > count then return -1 end
    return spent + cost > count and max(1, left) or 0
  end
  function of.add(cost) spent = max(0, spent + cost) end
  function of.whole() return spent > 0 and left or 0 end
  function of.state() return format('%.0f %.0f', start, spent), left end
  return of
end

local function limit(state, kind, a, b, c, d, e)
  if kind == 1 then return bucket(state, a, b, c) end
  if kind == 2 then return sliding(state, a, b) end
  if kind == 3 then
    local start = now - (now - b) % a
    return fixed(state, start, start + a, start + 2 * a, c)
  end
  -- Windows of no fixed length: where they begin, told by whose clock is about right.
  local period = b - a
  if now < b then return fixed(state, a, b, c, e) end
  if now < c then return fixed(state, b, c, d, e) end
  return fixed(state, c, d, d + period, e)
end

local limits, passes = {}, true
for i = 1, #KEYS do
  local at = i * 9 - 8
  for j = at, at + 8 do ARGV[j] = tonumber(ARGV[j]) end
  local one = limit(redis.call('GET', KEYS[i]), unpack(ARGV, at, at + 5))
  local cost = ARGV[at + 6]
  one.cost, one.ahead, one.flags = cost, ARGV[at + 7], ARGV[at + 8]
  if cost < 0 then
    -- What was charged in a window that is over has no use any more.
    if one.window ~= one.ahead then one.cost = 0 end
    one.ahead, one.waits = 0, 0
  else
    one.waits = cost == 0 and 0 or one.wait(cost)
  end
  if one.waits ~= 0 and one.flags % 2 ~= SHADOW then passes = false end
  limits[i] = one
end

local answer = {passes and 1 or 0}
for i, one in ipairs(limits) do
  local change, given = 0, 0
  if passes and one.waits == 0 then
    change = one.cost
    given = max(0, min(one.ahead, floor((one.spare() - change) / 2)))
  elseif one.flags >= PENALTY then
    change = max(0, min(one.cost, one.spare()))
  end
  if change + given ~= 0 or one.is_ahead then
    one.add(change + given)
    local state, lives = one.state()
    redis.call('SET', KEYS[i], state, 'PX', format('%.0f', max(1, ceil(lives / 1000) + 1)))
  end
  local remains = max(0, one.spare())
  local at = #answer
  answer[at + 1], answer[at + 2] = one.waits, remains
  answer[at + 3] = max(0, one.wait(remains + 1))
  answer[at + 4], answer[at + 5], answer[at + 6] = max(0, one.whole()), given, one.window
end
return answer

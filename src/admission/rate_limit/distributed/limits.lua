-- How accounts stand. What goes before the scripts that decide and correct.
--
-- Times are microseconds by this server's clock: clocks of others mean nothing here. A state says at what time it was
-- written. If that is still to come, the clock was set back: the state holds from now on. Numbers come, go and are kept
-- as doubles of eight bytes: to read and write digits took as long as all else.
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local pack, unpack = struct.pack, struct.unpack
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- What is spent comes back at once, an interval after the other. Debts are in parts of a microsecond; of one that was
-- written at another interval as many units are owed, but no more than can be (`deepest`).
local function bucket(state, interval, whole, parts, deepest)
  local debt, is_ahead = 0, false
  if state then
    local at, owed, each, fine = unpack('<dddd', state)
    debt = max(0, owed - max(0, now - at) * fine)
    if each ~= interval then debt = min(floor(debt / each * interval), max(whole, deepest)) end
    is_ahead = now < at
  end
  return {
    window = 0, is_ahead = is_ahead, cost = 0, ahead = 0, flags = 0, waits = 0,
    spare = function() return floor((whole - debt) / interval) end,
    wait = function(cost)
      local price = cost * interval
      if price > whole then return -1 end
      return max(0, ceil((debt + price - whole) / parts))
    end,
    -- Charges, or gives back; it may then owe so many units beyond what it holds.
    add = function(units, beyond)
      debt = max(0, min(debt + units * interval, max(debt, whole + beyond * interval)))
    end,
    whole = function() return ceil(debt / parts) end,
    state = function() return pack('<dddd', now, debt, interval, parts), ceil(debt / parts) end,
  }
end

-- The count of the running window, and the part of the one before that the window ending now still covers. That part is
-- told in units of a window's 2^20th, so that its product with a count is an integer.
local function sliding(state, window, count)
  local index = floor(now / window)
  local into = now - index * window
  local before, running, is_ahead = 0, 0, false
  if state then
    local at, b, r = unpack('<ddd', state)
    is_ahead = at > index
    if at >= index then before, running = b, r
    elseif at == index - 1 then before = r end
  end
  local unit = ceil(window / 1048576)
  local total = ceil(window / unit)
  local left = total - floor(into / unit)
  local function spare() return count - running - ceil(before * left / total) end
  return {
    window = index, is_ahead = is_ahead, cost = 0, ahead = 0, flags = 0, waits = 0,
    spare = spare,
    wait = function(cost)
      if cost > count then return -1 end
      if cost <= spare() then return 0 end
      local room = count - cost - running
      if room >= 0 then
        return max(1, min(window, (total - floor(room * total / before)) * unit) - into)
      end
      return window - into + min(window, (total - floor((count - cost) * total / running)) * unit)
    end,
    -- What is given back was charged in a window: of those that are over it has no use.
    add = function(units, beyond, charged)
      if units >= 0 or charged == index then
        running = max(0, min(running + units, max(running, count + beyond)))
      elseif charged == index - 1 then
        before = max(0, before + units)
      end
    end,
    whole = function()
      if running > 0 then return 2 * window - into end
      return before > 0 and window - into or 0
    end,
    state = function() return pack('<ddd', index, before, running), 2 * window - into end,
  }
end

-- The count of the running window. What is owed beyond it is owed to those that follow, but for what was spent when there
-- was more (`by`). Who is in the next one already, by a clock that was set back, stays there.
local function fixed(state, before, start, stop, later, count)
  local spent, by = 0, count
  if state then
    local at, held, most = unpack('<ddd', state)
    if at == start then spent = held
    elseif at == stop then start, stop, spent = stop, later, held
    elseif at < start then
      local gone = at >= before and 1 or ceil((start - at) / (start - before))
      spent = max(0, held - most - (gone - 1) * count)
    end
    if at >= start and spent > count then by = max(most, count) end
  end
  local left = stop - now
  -- When the running window is over, and as many more as it takes to pay so much of what is owed beyond it.
  local function over(units) return left + max(0, ceil(units / count)) * (stop - start) end
  local function beyond() return max(0, spent - by) end
  return {
    window = start, is_ahead = false, cost = 0, ahead = 0, flags = 0, waits = 0,
    spare = function() return count - spent end,
    wait = function(cost)
      if cost > count then return -1 end
      if spent + cost <= count then return 0 end
      return max(1, over(beyond() + cost - count))
    end,
    add = function(units, debt, charged)
      if units >= 0 or charged == start then
        spent = max(0, min(spent + units, max(spent, count + debt)))
      end
    end,
    whole = function() return spent > 0 and over(beyond()) or 0 end,
    state = function() return pack('<ddd', start, spent, by), over(beyond()) end,
  }
end

-- What a limit is, five numbers of its own, and its account's state.
local function limit(state, kind, a, b, c, d, e)
  if kind == 1 then return bucket(state, a, b, c, d) end
  if kind == 2 then return sliding(state, a, b) end
  if kind == 3 then
    local start = now - (now - b) % a
    return fixed(state, start - a, start, start + a, start + 2 * a, c)
  end
  -- Windows of no fixed length: where they begin, told by whose clock is about right.
  local period = b - a
  if now < b then return fixed(state, a - period, a, b, c, e) end
  if now < c then return fixed(state, a, b, c, d, e) end
  return fixed(state, b, c, d, d + period, e)
end

local function keep(key, one)
  local state, lives = one.state()
  redis.call('PSETEX', key, max(1, ceil(lives / 1000) + 1), state)
end

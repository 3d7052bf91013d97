-- How accounts stand. What goes before the scripts that decide, correct and reset.
--
-- Times are microseconds by this server's clock: clocks of others mean nothing here. A state says at what time it was
-- written. If that is still to come, the clock was set back: the state holds from now on. Numbers come, go and are kept
-- as doubles of eight bytes: to read and write digits took as long as all else. So did making functions and calling them:
-- they are few, and those of an algorithm are made when it is asked for.
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local pack, unpack, call = struct.pack, struct.unpack, redis.call
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- A limit is a table, made once for a call, in which one account after the other is looked at. What an algorithm does:
--   look   takes a state, if there is one, and answers how long this cost has to wait: 0 not at all, -1 for ever
--   tell   what remains, when there is more, and when the account is like one that was never seen
--   add    charges, or gives back if negative; it may then owe so many units beyond what it holds. Answers for how long
--          something has to be known of it, and the four numbers of its state

-- What is spent comes back at once, an interval after the other. Debts are in parts of a microsecond; of one that was
-- written at another interval as many units are owed, but no more than can be (`deepest`).
local function bucket()
  return {
    look = function(one, cost, at, owed, each, fine)
      local interval, most, debt, is_ahead = one.interval, one.most, 0, false
      if at then
        is_ahead = now < at
        debt = is_ahead and owed or max(0, owed - (now - at) * fine)
        if each ~= interval then debt = min(floor(debt / each * interval), max(most, one.deepest)) end
      end
      one.debt, one.is_ahead = debt, is_ahead
      local price = cost * interval
      if price > most then return -1 end
      return max(0, ceil((debt + price - most) / one.parts))
    end,
    tell = function(one)
      local interval, most, parts, debt = one.interval, one.most, one.parts, one.debt
      local remains = max(0, floor((most - debt) / interval))
      local price = (remains + 1) * interval
      return remains, price > most and 0 or ceil((debt + price - most) / parts), ceil(debt / parts)
    end,
    add = function(one, units, beyond)
      local interval, debt = one.interval, one.debt
      debt = max(0, min(debt + units * interval, max(debt, one.most + beyond * interval)))
      one.debt = debt
      return ceil(debt / one.parts), now, debt, interval, one.parts
    end,
  }
end

-- The count of the running window, and the part of the one before that the window ending now still covers. That part is
-- told in units of a window's 2^20th, so that its product with a count is an integer.
local function sliding()
  local function spare(one)
    return one.count - one.running - ceil(one.before * (one.total - floor(one.into / one.unit)) / one.total)
  end
  local function wait(one, cost)
    local length, count, running, total = one.length, one.count, one.running, one.total
    if cost > count then return -1 end
    if cost <= spare(one) then return 0 end
    local room = count - cost - running
    if room >= 0 then
      return max(1, min(length, (total - floor(room * total / one.before)) * one.unit) - one.into)
    end
    return length - one.into + min(length, (total - floor((count - cost) * total / running)) * one.unit)
  end
  return {
    look = function(one, cost, at, b, r)
      local index, before, running, is_ahead = one.window, 0, 0, false
      if at then
        is_ahead = at > index
        if at >= index then before, running = b, r
        elseif at == index - 1 then before = r end
      end
      one.before, one.running, one.is_ahead = before, running, is_ahead
      return wait(one, cost)
    end,
    tell = function(one)
      local remains, left, whole = max(0, spare(one)), one.length - one.into, 0
      if one.running > 0 then whole = one.length + left
      elseif one.before > 0 then whole = left end
      return remains, max(0, wait(one, remains + 1)), whole
    end,
    -- What is given back was charged in a window: of those that are over it has no use.
    add = function(one, units, beyond, charged)
      local running = one.running
      if units >= 0 or charged == one.window then
        one.running = max(0, min(running + units, max(running, one.count + beyond)))
      elseif charged == one.window - 1 then
        one.before = max(0, one.before + units)
      end
      return 2 * one.length - one.into, one.window, one.before, one.running, 0
    end,
  }
end

-- The count of the running window. What is owed beyond it is owed to those that follow, but for what was spent when there
-- was more (`by`). Who is in the next one already, by a clock that was set back, stays there.
local function fixed()
  -- When the running window is over, and as many more as it takes to pay what is owed beyond it, and so many units.
  local function over(one, units)
    local owed = max(0, one.spent - one.by) + units
    return one.stop - now + max(0, ceil(owed / one.count)) * (one.stop - one.window)
  end
  local function wait(one, cost)
    if cost > one.count then return -1 end
    if one.spent + cost <= one.count then return 0 end
    return max(1, over(one, cost - one.count))
  end
  return {
    look = function(one, cost, at, held, most)
      local start, stop, count, spent = one.start, one.next, one.count, 0
      local by = count
      if at then
        if at == start then spent = held
        elseif at == stop then start, stop, spent = stop, one.later, held
        elseif at < start then
          local gone = at >= one.before and 1 or ceil((start - at) / (start - one.before))
          spent = max(0, held - most - (gone - 1) * count)
        end
        if at >= start and spent > count then by = max(most, count) end
      end
      one.window, one.stop, one.spent, one.by = start, stop, spent, by
      return wait(one, cost)
    end,
    tell = function(one)
      local remains = max(0, one.count - one.spent)
      return remains, max(0, wait(one, remains + 1)), one.spent > 0 and over(one, 0) or 0
    end,
    add = function(one, units, beyond, charged)
      local spent = one.spent
      if units >= 0 or charged == one.window then
        one.spent = max(0, min(spent + units, max(spent, one.count + beyond)))
      end
      return over(one, 0), one.window, one.spent, one.by, 0
    end,
  }
end

local made = {}

-- By which number its states are known, what it is, and five numbers of its own.
local function limit(name, kind, a, b, c, d, e)
  local make = kind == 1 and bucket or kind == 2 and sliding or fixed
  local of = made[make] or make()
  made[make] = of
  if kind == 1 then
    return {
      name = name, of = of, interval = a, most = b, parts = c, deepest = d, window = 0, debt = 0, is_ahead = false,
      at = 1, lasts = 0,
    }
  elseif kind == 2 then
    local index, unit = floor(now / a), ceil(a / 1048576)
    return {
      name = name, of = of, length = a, count = b, into = now - index * a, unit = unit, total = ceil(a / unit), window = index,
      before = 0, running = 0, is_ahead = false, at = 1, lasts = 0,
    }
  end
  -- Four windows of which one is running, and the count.
  if kind == 3 then
    local start = now - (now - b) % a
    a, b, c, d, e = start - a, start, start + a, start + 2 * a, c
  else
    -- Of no fixed length: where they begin, told by whose clock is about right.
    local period = b - a
    if now < b then a, b, c, d = a - period, a, b, c
    elseif now >= c then a, b, c, d = b, c, d, d + period end
  end
  return {
    name = name, of = of, before = a, start = b, next = c, later = d, count = e, window = 0, stop = 0, spent = 0, by = 0,
    is_ahead = false, at = 1, lasts = 0,
  }
end

-- Under a key stand the states of all limits that count by one thing, one after the other in any order, each 48 bytes: the number
-- by which it is known, until when its key lasts, and four numbers. They are read at once and written at once: each time that a
-- key is looked up is waited for, since no cache of the processor holds it.

-- What is to be written of one key: states by their place, how many there are and where the last is, and until when the key has to
-- last, if it does not. And where there is room for another state.
local changed, count, last, stays, free = {}, 0, 0, 0, 1

-- The states under a key; `nil`, if it is somebody else's, and left as it is: the others of the call have no part in that.
local function read(key)
  local states = redis.pcall('GET', key)
  free = states and #states + 1 or 1
  if not states then return '' end
  if free > 1 and free % 48 == 1 then return states end
  if states.err and not states.err:find('^WRONGTYPE') then call('GET', key) end
  return nil
end

-- Looks at the state of a limit, which is at this place unless somebody else's is, and answers how long this cost has to wait. One
-- that was to last until now is none, though others have kept its key.
local function look(one, states, at, cost)
  local size, name = #states, one.name
  for _ = 1, size, 48 do
    if at > size then at = 1 end
    local whose, lasts, a, b, c, d = unpack('<dddddd', states, at)
    if whose == name then
      if lasts <= now then lasts, a = 0, nil end
      one.at, one.lasts = at, lasts
      return one.of.look(one, cost, a, b, c, d)
    end
    at = at + 48
  end
  one.at, one.lasts, free = free, 0, free + 48
  return one.of.look(one, cost)
end

-- Charges, or gives back. A key lasts for a second longer than it has to: most changes are written over what is there, and not
-- with a new time to live.
local function charge(one, units, beyond, charged)
  local at, lasts = one.at, one.lasts
  local lives, a, b, c, d = one.of.add(one, units, beyond, charged)
  if now + lives > lasts or one.is_ahead then
    lasts = now + max(0, lives) + 1000000
    stays = max(stays, lasts)
  end
  changed[at], count, last = pack('<dddddd', one.name, lasts, a, b, c, d), count + 1, max(last, at)
end

-- Writes what was charged of a key. When it is told how long it lasts, that is as long as any of its states has to, and those whose
-- time is over go.
local function write(key, states)
  if count == 0 then return end
  local value = changed[last]
  if count > 1 or stays > 0 and (last > 1 or #states > 48) then
    local all, is_prolonged = {}, stays > 0
    for at = 1, max(#states, last), 48 do
      local state = changed[at]
      changed[at] = nil
      if not state and at < #states then
        local lasts = unpack('<d', states, at + 8)
        if lasts > now or not is_prolonged then state = states:sub(at, at + 47) end
        if is_prolonged then stays = max(stays, lasts) end
      end
      all[#all + 1] = state
    end
    value, last = table.concat(all), 1
  end
  if stays == 0 then
    call('SETRANGE', key, last > 1 and last - 1 or '0', value)
  else
    local lives = ceil((stays - now) / 1000) + 10
    call('PSETEX', key, lives, value)
  end
  changed[last], count, last, stays = nil, 0, 0, 0
end

-- Answers several questions, one after the other. Each takes from one key or from several at once, all or nothing, by
-- the arithmetic of gcra.py, sliding_window.py and calendar_window.py; what the numbers mean is told there.
--
-- KEYS[i]      one limit's state; absent means that nothing has been taken
-- ARGV[1]      now in ticks, or "" for the server's clock (the tests pass their own)
-- ARGV[i + 1]  for KEYS[i], five words: the number of the question, its meter, two numbers, and the cost; 0 only asks,
--              less gives back:
--                gcra             interval (ticks)  depth (ticks)              cost
--                sliding_window   length (ticks)    limit                      cost
--                calendar_window  limit             the key's life, ms         cost
-- returns      a line for each question, on it a word for each key: what was held before; the caller derives the rest:
--                gcra             ticks owed
--                sliding_window   ticks of the window that have passed, its count, that of the previous one: 5,3,1
--                calendar_window  the count
--              or ! and what is wrong with a key, which concerns that question alone
--
-- One text, and one argument for each key: for the client, words cost less than values of the protocol.
--
-- A tick is 100 ns. Ticks count from EPOCH, 2025-01-01T00:00:00Z, so that they stay below 2^53, where
-- doubles are exact, until 2053. The server's clock is the only one (a calendar's window is in its key): gateways
-- may disagree about the time. A key lives until it would mean nothing any more.

local EPOCH = 1735689600
local TICKS = 10000000
local MS = 10000
local STEPS = 1000000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = (tonumber(time[1]) - EPOCH) * TICKS + tonumber(time[2]) * 10
end

-- No functions: to make them anew in each call would cost a tenth of its time.
-- value[i] is what to write if all allow it: a text, false for nothing that would be worth a key, nil to leave it.
local lines, held, value, life, allowed, wrong = {}, {}, {}, {}, true, nil
local question, first = nil, 1

for i = 1, #KEYS + 1 do
  local key = KEYS[i]
  local number, meter, a, b, cost
  if key then
    number, meter, a, b, cost = string.match(ARGV[i + 1], '^(%d+) (%S+) (%S+) (%S+) (%S+)$')
    a, b, cost = tonumber(a), tonumber(b), tonumber(cost)
  end

  if question and number ~= question then -- all its keys have been looked at
    if wrong then
      lines[#lines + 1] = '!' .. wrong
    else
      lines[#lines + 1] = table.concat(held, ' ', first, i - 1)
      if allowed then
        for j = first, i - 1 do
          if value[j] then
            redis.call('SET', KEYS[j], value[j], 'PX', life[j])
          elseif value[j] == false then -- all was given back
            redis.call('DEL', KEYS[j])
          end
        end
      end
    end
    first, allowed, wrong = i, true, nil
  end
  question = number

  local state = key and redis.pcall('GET', key)
  if type(state) == 'table' then -- somebody keeps something else under this name
    wrong, meter = state.err, nil
  end

  if meter == 'gcra' then
    local interval, depth = a, b
    local owed = state and (tonumber(state) or 0) - now or 0
    if owed < 0 then
      owed = 0
    elseif owed > depth then -- of another rate, or of a clock that was set back: cut back, whatever comes of it
      owed = depth
      redis.call('SET', key, string.format('%.0f', now + owed), 'PX', math.ceil(owed / MS))
    end
    local after = owed + cost * interval
    held[i] = string.format('%.0f', owed)
    if after > depth then
      allowed = false
    elseif cost ~= 0 then
      value[i], life[i] = after > 0 and string.format('%.0f', now + after), math.ceil(after / MS)
    end

  elseif meter == 'sliding_window' then
    local length, limit = a, b
    local step = math.ceil(length / STEPS)
    local steps = length / step
    local elapsed = now % length
    local left, ends = 2 * length - elapsed, now - elapsed + 2 * length
    local current, previous, behind = 0, 0, 2 * length
    if state then
      local known, one, other = string.match(state, '^(%d+) (%d+) (%d+)$')
      if known then
        behind = ends - known
        current, previous = math.min(one, limit), math.min(other, limit)
      end
    end
    if behind >= 2 * length then
      current, previous = 0, 0
    elseif behind > 0 then
      current, previous = 0, current
    elseif behind < 0 then -- as above
      redis.call('SET', key, string.format('%.0f %.0f %.0f', ends, current, previous), 'PX', math.ceil(left / MS))
    end
    held[i] = string.format('%.0f,%.0f,%.0f', elapsed, current, previous)
    local used = previous * (steps - math.floor(elapsed / step)) + current * steps
    if cost > 0 and used + cost * steps > limit * steps then
      allowed = false
    elseif cost ~= 0 then
      current = current + cost
      if current < 0 then -- it was taken in the window before
        current, previous = 0, math.max(previous + current, 0)
      end
      value[i] = current + previous > 0 and string.format('%.0f %.0f %.0f', ends, current, previous)
      life[i] = math.ceil(left / MS)
    end

  elseif meter then -- calendar_window
    local limit, left = a, b
    local count = math.min(state and tonumber(state) or 0, limit)
    local after = math.max(count + cost, 0)
    held[i] = string.format('%.0f', count)
    if cost > 0 and after > limit then
      allowed = false
    elseif cost ~= 0 then
      value[i], life[i] = after > 0 and string.format('%.0f', after), left
    end
  end
end

return table.concat(lines, '\n')

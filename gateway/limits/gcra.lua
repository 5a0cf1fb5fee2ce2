-- Takes from several keys at once, all or nothing, by the arithmetic of gcra.py.
--
-- KEYS[i]            one limit's state: its TAT in ticks; absent means nothing is owed
-- ARGV[1]            now in ticks, or "" for the server's clock (the tests pass their own)
-- ARGV[2 + 3(i-1)]   interval: ticks that one request costs
-- ARGV[3 + 3(i-1)]   depth: ticks of debt at most
-- ARGV[4 + 3(i-1)]   cost: requests to take
-- returns            for each key the ticks it owed before; the caller derives the rest from them
--
-- A tick is 100 ns. Ticks count from EPOCH, 2025-01-01T00:00:00Z, so that they stay below 2^53, where
-- doubles are exact, until 2053. The server's clock is the only one: gateways may disagree about the time.
-- A key lives until its debt is gone, which is when it would mean nothing any more.

local EPOCH = 1735689600
local TICKS = 10000000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = (tonumber(time[1]) - EPOCH) * TICKS + tonumber(time[2]) * 10
end

local owed, after, allowed = {}, {}, true
for i, key in ipairs(KEYS) do
  local interval, depth, cost = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local tat = tonumber(redis.call('GET', key) or 0) or 0
  owed[i] = math.min(math.max(tat - now, 0), depth)
  after[i] = owed[i] + cost * interval
  allowed = allowed and after[i] <= depth
end

if allowed then
  for i, key in ipairs(KEYS) do
    if after[i] > 0 then
      local life = math.ceil(after[i] / (TICKS / 1000))
      redis.call('SET', key, string.format('%.0f', now + after[i]), 'PX', string.format('%.0f', life))
    end
  end
end

return owed

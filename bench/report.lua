-- With the argument `varied` every request differs: its path and one header, which the upstream sends back.
local count = 0

local function varied()
  count = count + 1
  wrk.headers["X-Trace"] = tostring(count)
  return wrk.format("GET", "/orders/" .. count)
end

function init(args)
  if args[1] == "varied" then
    request = varied
  end
end

-- What wrk counted, as one line of JSON: times in microseconds.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end

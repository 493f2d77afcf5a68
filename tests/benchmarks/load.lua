-- Sends ready-made requests one after another, gives each its own idempotency key, and looks at every answer.
-- From the environment: LOAD_REQUESTS a file of whole HTTP requests with 0x1E between them, LOAD_EXPECT a text that
-- every good answer holds, LOAD_KEY eight characters that begin the keys of this run.

local expected, prefix = os.getenv("LOAD_EXPECT"), os.getenv("LOAD_KEY")
local requests, sent = {}, 0
local threads = {}
bad, sample = 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function init()
  for request in io.open(os.getenv("LOAD_REQUESTS"), "rb"):read("*a"):gmatch("[^\30]+") do
    requests[#requests + 1] = request
  end
end

function request()
  sent = sent + 1
  local text = requests[(sent - 1) % #requests + 1]
  if prefix == "" then
    return text
  end
  return (text:gsub("KEY%-KEY%-KEY%-KEY%-", prefix .. string.format("%08d", sent), 1))
end

function response(status, _, body)
  if status ~= 200 or body:find('"errors":', 1, true) or not body:find(expected, 1, true) then
    bad = bad + 1
    sample = status .. " " .. body:sub(1, 300)
  end
end

function done(summary, latency)
  local wrong, seen = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("bad")
    seen = thread:get("sample")
  end
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("\nLOAD %d %d %d %d %.0f %.0f %.0f\n%s\n", summary.requests, summary.duration, wrong, lost,
    latency:percentile(50), latency:percentile(99), latency.max, seen))
end

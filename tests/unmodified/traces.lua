-- SPDX-License-Identifier: MIT
-- 3,000 loops, each compiled to a trace of its own, so that pages of code become writable and executable
-- again for each; then all of them run. What is left of one round is thrown away before the next.
--   luajit traces.lua ROUNDS RUNS
local TRACES = 3000
local traces = 0
jit.attach(function(what) if what == "stop" then traces = traces + 1 end end, "trace")
jit.opt.start("maxtrace=65535", "maxmcode=65536")

local sum = 0
for round = 1, tonumber(arg[1]) do
    local loops = {}
    for i = 1, TRACES do
        loops[i] = assert(loadstring(
            "local x = ... for k = 1, 100 do x = (x * " .. (2 * i + round) .. " + k) % 65521 end return x"))
        sum = sum + loops[i](i)
    end
    for run = 1, tonumber(arg[2]) do
        for i = 1, TRACES do sum = sum + loops[i](run) end
    end
    if round < tonumber(arg[1]) then jit.flush() end
end
print(string.format("result %d", sum))
print(string.format("jit: %d traces", traces))

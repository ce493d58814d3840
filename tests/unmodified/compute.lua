-- SPDX-License-Identifier: MIT
-- A loop that is compiled once and then runs: an LCG, a sieve, and a step of Newton's in floats.
--   luajit compute.lua ROUNDS
local traces = 0
jit.attach(function(what) if what == "stop" then traces = traces + 1 end end, "trace")

local sieve = {}
local function round(seed)
    local primes, root = 0, 1.5
    for i = 2, 20000 do sieve[i] = true end
    for i = 2, 20000 do
        if sieve[i] then
            primes = primes + 1
            for k = i * i, 20000, i do sieve[k] = false end
        end
        seed = (seed * 1103515245 + 12345) % 2147483648
        root = 0.5 * (root + (2 + seed % 7) / root)
    end
    return seed + primes, root
end

local seed, sum = 42, 0
for _ = 1, tonumber(arg[1]) do
    local root
    seed, root = round(seed % 2147483648)
    sum = sum + root
end
print(string.format("result %d %.9f", seed, sum))
print(string.format("jit: %d traces", traces))

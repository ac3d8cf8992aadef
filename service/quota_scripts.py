"""The accounts that replicas share, as Lua that Redis runs: one script reserves, one settles, each atomic.

An account is a hash and a sorted set. The hash has what is ``left`` (reserved FLOPs included: a request may
still give them back), how much of that is ``held``, and the time ``at`` which this was so, in microseconds.
The set has each reservation, ``FLOPS:ID``, by the time of its admission. A missing account is a full one.

**Why nothing is rounded.** Lua counts in doubles, which are exact for whole numbers up to 2^53 = 9.007e15.
Everything here is whole: FLOPs, ``parts`` (millionths of a FLOP, below 1e6) and microseconds (1.8e15 in the
year 2027, too large in 2255). Rate, burst and every single amount are at most 1e15, a debt at most 4e15. So:

* left is -4e15 to 1e15. Who is admitted finds left - held >= 0, so held is at most left + 1e15 <= 2e15;
  the difference is -6e15 at least.
* What is regained is the sum of rate x whole seconds, of the whole millions of the rate x the remaining
  microseconds, which is below 1e15, and of the rest of both in parts, which is below 2e12. Only the first can
  be beyond 2^53 and rounded: then it is more than the 5e15 that may be missing, and the account is full.
"""

from __future__ import annotations

from typing import Final

_UPDATE: Final = """
-- KEYS: account, reservations. ARGV: rate, burst, lease in microseconds, now in microseconds or nothing.
local rate, burst, lease, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1e6 + time[2]
end
local function text(number) return string.format('%.0f', number) end  -- Redis itself would write 1e+15

local saved = redis.call('HMGET', KEYS[1], 'left', 'parts', 'held', 'at')
local left, parts = tonumber(saved[1]) or burst, tonumber(saved[2]) or 0
local held, at = tonumber(saved[3]) or 0, tonumber(saved[4]) or now

if not saved[1] then redis.call('DEL', KEYS[2]) end
-- Nobody settles what a replica reserved that has crashed since: it was not spent.
local lapsed = text(now - lease)
for _, reservation in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', lapsed)) do
  held = held - tonumber(string.match(reservation, '^%d+'))
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', lapsed)
if redis.call('EXISTS', KEYS[2]) == 0 then held = 0 end  -- also if Redis evicted one of the two

local elapsed = math.max(0, now - at)  -- a clock that was set back regains nothing, and counts on from there
local seconds, micros = math.floor(elapsed / 1e6), elapsed % 1e6
parts = parts + (rate % 1e6) * micros
left = left + rate * seconds + math.floor(rate / 1e6) * micros + math.floor(parts / 1e6)
parts = parts % 1e6
if left >= burst then left, parts = burst, 0 end
"""

_SAVE: Final = """
redis.call('HSET', KEYS[1], 'left', text(left), 'parts', text(parts), 'held', text(held), 'at', text(now))
-- Full and with nothing held, the account may as well not be there. 31 years are enough for any debt.
local idle = text(math.min(math.ceil((burst - left) / rate) + math.ceil(lease / 1e6) + 1, 1e9))
redis.call('EXPIRE', KEYS[1], idle)
redis.call('EXPIRE', KEYS[2], idle)
"""

RESERVE: Final = (
    _UPDATE
    + """
-- ARGV: FLOPs, id. Returns whether they were there, then FLOPs and parts that can be reserved now.
local granted = 0
if left - held >= math.min(tonumber(ARGV[5]), burst) then
  granted = 1
  held = held + tonumber(ARGV[5])
  redis.call('ZADD', KEYS[2], text(now), ARGV[5] .. ':' .. ARGV[6])
end
"""
    + _SAVE
    + "return {granted, left - held, parts}"
)
"""Sets FLOPs aside, if they are there."""

SETTLE: Final = (
    _UPDATE
    + """
-- ARGV: FLOPs reserved, id, FLOPs spent. Returns FLOPs and parts that can be reserved now.
if redis.call('ZREM', KEYS[2], ARGV[5] .. ':' .. ARGV[6]) == 1 then held = held - tonumber(ARGV[5]) end
left = math.max(left - tonumber(ARGV[7]), -4e15)
"""
    + _SAVE
    + "return {left - held, parts}"
)
"""Charges what was spent and releases the rest."""

-- An instance is here. KEYS: those that are; what is written as accounts are: where a decision would fail, so does this; and the
-- limits of which units have come back. ARGV: its name, for how long it counts (microseconds), and the most that are counted.
-- Answers how many there are, whether it was none of them, and the limits of which units have come back lately.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lives = tonumber(ARGV[2])
local is_new = redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - lives))
-- From before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + lives), '+inf')
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
local kept = string.format('%.0f', math.ceil(lives / 1000))
redis.call('PEXPIRE', KEYS[1], kept)
redis.call('GET', KEYS[2])
redis.call('PSETEX', KEYS[2], kept, ARGV[1])
redis.call('SETRANGE', KEYS[2], 0, ARGV[1])
return { redis.call('ZCARD', KEYS[1]), is_new, redis.call('GET', KEYS[3]) or '' }

-- An instance is here. KEYS: those that are. ARGV: its name, for how long it counts (microseconds), and the most that are
-- counted. Answers how many there are.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lives = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - lives))
-- From before the clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + lives), '+inf')
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lives / 1000)))
return redis.call('ZCARD', KEYS[1])

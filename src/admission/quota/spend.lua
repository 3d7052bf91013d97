-- Spends of all counters, or of none: for each its allowance (-1: unlimited), cost and seconds to live. Answers whether,
-- and what each has spent.
local answer = {1}
for i = 1, #KEYS do
  local used = tonumber(redis.call('GET', KEYS[i]) or '0')
  local most, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  answer[i + 1] = used
  if most >= 0 and used + cost > most then answer[1] = 0 end
end
if answer[1] == 1 then
  for i = 1, #KEYS do
    answer[i + 1] = redis.call('INCRBY', KEYS[i], ARGV[3 * i - 1])
    if redis.call('TTL', KEYS[i]) < 0 then redis.call('EXPIRE', KEYS[i], ARGV[3 * i]) end
  end
end
return answer

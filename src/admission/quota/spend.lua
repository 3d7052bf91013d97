-- Spends of all counters that are not short, or of none if one is short that is not in shadow: for each its allowance (-1:
-- unlimited), cost, seconds to live, and whether it is in shadow. Answers whether it has, and what each has spent: of a short
-- one less than zero, by one and that.
local answer = {1}
for i = 1, #KEYS do
  local used = tonumber(redis.call('GET', KEYS[i]) or '0')
  local most, cost = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  answer[i + 1] = used
  if most >= 0 and used + cost > most then
    answer[i + 1] = -1 - used
    if ARGV[4 * i] == '0' then answer[1] = 0 end
  end
end
if answer[1] == 1 then
  for i = 1, #KEYS do
    if answer[i + 1] >= 0 then
      answer[i + 1] = redis.call('INCRBY', KEYS[i], ARGV[4 * i - 2])
      if redis.call('TTL', KEYS[i]) < 0 then redis.call('EXPIRE', KEYS[i], ARGV[4 * i - 1]) end
    end
  end
end
return answer

-- ARGV: 10 sequence, 11 generation, 12 how many entries.
local entries = redis.call('LPOP', list(ARGV[10], ARGV[11]), ARGV[12]) or {}
if #entries > 0 then
  proof[11] = redis.call('HINCRBY', pod, 'popped', #entries)
  redis.call('HINCRBY', popped, ARGV[10], #entries)
end
proof[13] = { redis.call('HGET', granted, ARGV[10]) or '0', entries }
return proof

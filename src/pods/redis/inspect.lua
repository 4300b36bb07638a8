-- ARGV: 10… pairs of sequence and generation.
local lengths = {}
for i = 10, #ARGV, 2 do lengths[#lengths + 1] = redis.call('LLEN', list(ARGV[i], ARGV[i + 1])) end
info = redis.call('INFO', 'memory')
proof[13] = { fact('used_memory'), fact('maxmemory'), redis.call('HGETALL', popped), lengths }
return proof

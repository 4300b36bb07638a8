-- ARGV: 10 seconds after which a process is forgotten, 11… pairs of sequence and generation.
local lengths = {}
for i = 11, #ARGV, 2 do lengths[#lengths + 1] = redis.call('LLEN', list(ARGV[i], ARGV[i + 1])) end
info = redis.call('INFO', 'memory')
local now = redis.call('TIME')[1]
local heard, present = redis.call('HGETALL', pod .. ':present'), {}
for i = 1, #heard, 2 do
  local epoch, version, at = string.match(heard[i + 1], '^(%d+):(%d+):(%d+)$')
  local ago = at and now - at
  if not ago or ago > tonumber(ARGV[10]) then
    redis.call('HDEL', pod .. ':present', heard[i])
  else
    present[#present + 1] = { heard[i], epoch, version, math.max(ago, 0) }
  end
end
proof[13] = { fact('used_memory'), fact('maxmemory'), redis.call('HGETALL', used), lengths, present }
return proof

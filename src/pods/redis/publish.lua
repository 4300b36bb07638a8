-- ARGV: 10 environment, 11 epoch and 12 token of the ledger's life, 13 identity, 14 epoch and 15 version of the
-- catalogue's stamp, 16 catalogue, 17 when the high waters were read, 18… pairs of sequence and high water.
-- Answers what it holds instead, where that is another environment's or another line of history.
local now = redis.call('HMGET', pod, 'environment', 'epoch', 'life', 'stamp_epoch', 'stamp_version')
local environment, epoch, token, stamp_epoch, stamp_version = unpack(now, 1, 5)
if environment and (environment ~= ARGV[10] or (epoch == ARGV[11] and token ~= ARGV[12])) then
  proof[13] = { environment, epoch, token }
  return proof
end
claim()
if not epoch or greater(ARGV[11], epoch) then
  redis.call('HSET', pod, 'environment', ARGV[10], 'epoch', ARGV[11], 'life', ARGV[12], 'identity', ARGV[13])
end
if not stamp_epoch or greater(ARGV[14], stamp_epoch)
  or (ARGV[14] == stamp_epoch and greater(ARGV[15], stamp_version)) then
  redis.call('HSET', pod, 'stamp_epoch', ARGV[14], 'stamp_version', ARGV[15], 'catalogue', ARGV[16])
end
for i = 18, #ARGV, 2 do raise(ARGV[i], ARGV[i + 1]) end
local read_at = redis.call('HGET', pod, 'read_at')
if not read_at or greater(ARGV[17], read_at) then redis.call('HSET', pod, 'read_at', ARGV[17]) end
return proof

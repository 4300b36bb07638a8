-- ARGV: 10 epoch and 11 version of the catalogue seen, 12 'raised' as seen, 13 the caller's name ('' = says nothing of itself),
-- 14 the stamp of the catalogue that it has.
if ARGV[13] ~= '' then redis.call('HSET', pod .. ':present', ARGV[13], ARGV[14] .. ':' .. redis.call('TIME')[1]) end
local now = redis.call('HMGET', pod, 'identity', 'stamp_epoch', 'stamp_version', 'raised', 'read_at')
local catalogue, high_waters = false, false
if now[2] ~= ARGV[10] or now[3] ~= ARGV[11] then catalogue = redis.call('HGET', pod, 'catalogue') end
if now[4] ~= ARGV[12] then high_waters = redis.call('HGETALL', granted) end
proof[13] = { now[1], now[2], now[3], now[4], catalogue, high_waters, now[5] }
return proof

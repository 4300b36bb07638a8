-- What every script begins with: it proves who answers, and goes on only where the server may be used (S3, S5).
-- ARGV: 1 nonce, 2 prefix, 3 run_id and 4 master_replid that the connection is bound to ('' = not yet),
-- 5 token and 6 entries popped as the caller knows them, 7 ledger and 8 cluster of the caller ('' = any),
-- 9 a fresh token. IDs, counts and tokens stay strings: a Lua number is exact only up to 2^53.
local info = redis.call('INFO', 'server', 'replication', 'cluster')
local function fact(name)
  local _, stop = string.find(info, '\n' .. name .. ':', 1, true)
  return stop and string.match(info, '^[^\r\n]*', stop + 1) or ''
end

-- Decimals without sign or leading zeros.
local function greater(a, b)
  return #a > #b or (#a == #b and a > b)
end

local prefix, ledger, cluster = ARGV[2], ARGV[7], ARGV[8]
local life = fact('run_id') .. ':' .. fact('master_replid')
local pod = prefix .. ':pod:' .. life
local granted, used = pod .. ':granted', pod .. ':used'
local scope = prefix .. ':' .. ledger .. ':' .. cluster .. ':'

local proof = {
  ARGV[1], '0', fact('run_id'), fact('master_replid'), fact('role'), fact('connected_slaves'), fact('cluster_enabled'),
  '', '', '0', '0', '0'
}
if proof[5] ~= 'master' or proof[6] ~= '0' or proof[7] ~= '0' then return proof end
if ARGV[3] ~= '' and life ~= ARGV[3] .. ':' .. ARGV[4] then return proof end

local held = redis.call('HMGET', pod, 'ledger', 'cluster', 'token', 'popped', 'restored')
if not held[3] then
  held[3] = ARGV[9]
  redis.call('HSET', pod, 'token', held[3], 'raised', held[3])
end
if not held[5] and held[3] == ARGV[5] and greater(ARGV[6], held[4] or '0') then
  -- Entries that were popped are back. Every other process is to know too.
  held[5] = '1'
  redis.call('HSET', pod, 'restored', '1')
end
proof[8], proof[9] = held[1] or '', held[2] or ''
proof[10], proof[11], proof[12] = held[3], held[4] or '0', held[5] or '0'
if held[5] then return proof end
if ledger ~= '' and held[1] and (held[1] ~= ledger or held[2] ~= cluster) then return proof end
proof[2] = '1'

-- The first that writes decides whose pod this is.
local function claim()
  if not held[1] then redis.call('HSET', pod, 'ledger', ledger, 'cluster', cluster) end
end

local function raise(sequence, high_water)
  if greater(high_water, redis.call('HGET', granted, sequence) or '0') then
    redis.call('HSET', granted, sequence, high_water)
    redis.call('HINCRBY', pod, 'raised', 1)
  end
end

local function list(sequence, generation)
  return scope .. life .. ':' .. sequence .. ':' .. generation
end


-- ARGV: 10 sequence, 11 generation, 12 how many entries.
local entries = redis.call('LPOP', list(ARGV[10], ARGV[11]), ARGV[12]) or {}
if #entries > 0 then
  proof[11] = redis.call('HINCRBY', pod, 'popped', #entries)
  -- An estimate, for the hydrator: what doesn't read, or is greater than a number can be here, counts nothing, and no error may
  -- come after the pop.
  local ids = 0
  for _, entry in ipairs(entries) do ids = ids + (tonumber(string.match(entry, ':(%d+)$')) or 0) end
  if ids > 0 and ids < 2^53 then redis.pcall('HINCRBY', used, ARGV[10], string.format('%.0f', ids)) end
end
proof[13] = { redis.call('HGET', granted, ARGV[10]) or '0', entries }
return proof

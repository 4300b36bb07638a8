-- ARGV: 10 sequence, 11 generation, 12 high water, 13 RPUSH or LPUSH, 14… entries.
-- The push comes last: where anything here answers an error, nothing was pushed.
claim()
raise(ARGV[10], ARGV[12])
redis.call(ARGV[13], list(ARGV[10], ARGV[11]), unpack(ARGV, 14))
return proof

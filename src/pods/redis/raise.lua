-- ARGV: 10 sequence, 11 high water.
claim()
raise(ARGV[10], ARGV[11])
return proof

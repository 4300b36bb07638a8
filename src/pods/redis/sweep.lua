-- ARGV: 10 cursor, 11 pattern of all our keys, 12… pairs of sequence and present generation.
-- Old is what an earlier life of the server left, and what a lower generation than the present left. A generation
-- that the caller doesn't know is left alone: the caller may be behind.
local function starts(key, with)
  return string.sub(key, 1, #with) == with
end

local present = {}
for i = 12, #ARGV, 2 do present[ARGV[i]] = ARGV[i + 1] end
local lives, own = prefix .. ':pod:', scope .. life .. ':'

local function is_old_list(key)
  if not starts(key, scope) then return false end
  if not starts(key, own) then return true end
  local sequence, generation = string.match(string.sub(key, #own + 1), '^([^:]*):(%d+)$')
  return sequence and present[sequence] and greater(present[sequence], generation)
end

local found = redis.call('SCAN', ARGV[10], 'MATCH', ARGV[11], 'COUNT', 500)
local deleted = 0
for _, key in ipairs(found[2]) do
  if is_old_list(key) then
    deleted = deleted + redis.call('UNLINK', key)
  elseif starts(key, lives) and not starts(key, pod) then
    redis.call('UNLINK', key)
  end
end
proof[13] = { found[1], deleted }
return proof

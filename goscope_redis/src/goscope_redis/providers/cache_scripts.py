"""The scripts of `RedisCacheProvider`: each keeps an entry, its companion and its tags together."""

from __future__ import annotations

from typing import Final

from .._server.script import Script
from .fence import END_LEASE, FENCE, GUARD

COMPANION: Final = (
    END_LEASE
    + """
-- End the computation of a value that is superseded, unless its lease is the fence of this write.
local function end_load(lock, own)
    if lock ~= KEYS[#KEYS - 1] then
        end_lease(lock, own)
    end
end
-- Remove the companion of an entry, and the entry from the sets of its tags.
local function drop_companion(main, companion)
    local tags = redis.call('HGET', companion, 'tags')
    if tags then
        for _, tag in ipairs(cjson.decode(tags)) do
            redis.call('ZREM', tag, main)
        end
        redis.call('DEL', companion)
    end
end
"""
)
WRITE: Final = (
    COMPANION
    + """
local function expire_at(key, time)
    if time then
        redis.call('PEXPIREAT', key, number(time))
    else
        redis.call('PERSIST', key)
    end
end
-- List the entry under its tags until the time, and forget what has expired there.
local function index(main, tags, time, now)
    for _, tag in ipairs(cjson.decode(tags)) do
        redis.call('ZADD', tag, time and number(time) or '+inf', main)
        redis.call('ZREMRANGEBYSCORE', tag, '-inf', number(now))
        local last = redis.call('ZRANGE', tag, -1, -1, 'WITHSCORES')[2]
        expire_at(tag, last and last ~= 'inf' and tonumber(last))
    end
end
-- Replace the entry. Without an expiry, ``expires`` is false; without staleness, ``stale_for`` ''.
local function write(main, companion, text, expires, stale_for, tags, now)
    drop_companion(main, companion)
    if expires then
        redis.call('SET', main, text, 'PXAT', number(expires))
    else
        redis.call('SET', main, text)
    end
    if tags == '' then
        return
    end
    redis.call('HSET', companion, 'tags', tags, 'digest', redis.sha1hex(text))
    local kept_until = expires
    if stale_for ~= '' then
        redis.call('HSET', companion, 'stale_for', stale_for, 'text', text)
        kept_until = expires + tonumber(stale_for)
    end
    expire_at(companion, kept_until)
    index(main, tags, kept_until, now)
end
"""
)
SET_PLAIN: Final = Script(
    COMPANION
    + """
local own, text, ttl = unpack(ARGV)
drop_companion(KEYS[1], KEYS[2])
if ttl == '' then
    redis.call('SET', KEYS[1], text)
else
    redis.call('SET', KEYS[1], text, 'PX', ttl)
end
end_lease(KEYS[3], own)
"""
)
SET: Final = Script(
    GUARD
    + WRITE
    + """
if is_refused() then
    return 'fence'
end
local now = now_ms()
for entry = 1, (#KEYS - 2) / 3 do
    local main, companion, lock = unpack(KEYS, 3 * entry - 2, 3 * entry)
    local text, ttl, stale_for, tags = unpack(ARGV, 4 * entry - 2, 4 * entry + 1)
    local expires = ttl ~= '' and now + tonumber(ttl)
    write(main, companion, text, expires, stale_for, tags, now)
    end_load(lock, ARGV[1])
end
"""
)
ADD: Final = Script(
    GUARD
    + WRITE
    + """
if is_refused() then
    return 'fence'
end
if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
local own, text, ttl, stale_for, tags = unpack(ARGV)
local now = now_ms()
local expires = ttl ~= '' and now + tonumber(ttl)
write(KEYS[1], KEYS[2], text, expires, stale_for, tags, now)
end_load(KEYS[3], own)
return 1
"""
)
REPLACE: Final = Script(
    GUARD
    + WRITE
    + """
if is_refused() then
    return 'fence'
end
local own, expected, text, expires, stale_for, tags = unpack(ARGV)
if (redis.call('GET', KEYS[1]) or '') ~= expected then
    return 0
end
if text == '' then
    drop_companion(KEYS[1], KEYS[2])
    redis.call('DEL', KEYS[1])
else
    write(KEYS[1], KEYS[2], text, expires ~= '' and tonumber(expires), stale_for, tags, now_ms())
end
if own ~= '' then
    end_load(KEYS[3], own)
end
return 1
"""
)
DELETE: Final = Script(
    GUARD
    + COMPANION
    + """
if is_refused() then
    return 'fence'
end
local live = 0
for position = 1, #KEYS - 2, 3 do
    local main, companion, lock = unpack(KEYS, position, position + 2)
    drop_companion(main, companion)
    live = live + redis.call('DEL', main)
    end_load(lock, ARGV[1])
end
return live
""",
    "allow-oom",
)
READ: Final = Script(
    COMPANION
    + """
local main, companion = unpack(KEYS)
local text = redis.call('GET', main)
local digest, stale_for, tags, stale = unpack(
    redis.call('HMGET', companion, 'digest', 'stale_for', 'tags', 'text'))
local now = now_ms()
if text then
    local expires = redis.call('PEXPIRETIME', main)
    if digest and digest == redis.sha1hex(text) then
        return {text, expires, now, stale_for, tags}
    end
    return {text, expires, now, false, false}
end
if not stale then
    return false
end
local expires = redis.call('PEXPIRETIME', companion) - tonumber(stale_for)
if expires > now then -- another program has deleted the entry
    drop_companion(main, companion)
    return false
end
return {stale, expires, now, stale_for, tags}
""",
    "allow-oom",
)
TOUCH: Final = Script(
    WRITE
    + """
local main, companion = unpack(KEYS)
local text = redis.call('GET', main)
if not text then
    return 0
end
local now = now_ms()
local expires = ARGV[1] ~= '' and now + tonumber(ARGV[1])
expire_at(main, expires)
local digest, stale_for, tags = unpack(
    redis.call('HMGET', companion, 'digest', 'stale_for', 'tags'))
if not digest then
    return 1
end
if digest ~= redis.sha1hex(text) then
    drop_companion(main, companion)
    return 1
end
local kept_until = expires
if stale_for and expires then
    kept_until = expires + tonumber(stale_for)
elseif stale_for then
    redis.call('HDEL', companion, 'stale_for', 'text')
end
expire_at(companion, kept_until)
index(main, tags, kept_until, now)
return 1
"""
)
INCREMENT: Final = Script(
    COMPANION
    + """
local main, companion, lock = unpack(KEYS)
local own, by, ttl = unpack(ARGV)
local text = redis.call('GET', main)
if not text then
    drop_companion(main, companion)
    end_lease(lock, own)
    if ttl == '' then
        redis.call('SET', main, by)
    else
        redis.call('SET', main, by, 'PX', ttl)
    end
    return by
end
if not (text == '0' or (string.match(text, '^-?[1-9]%d*$') and #text < 18)) then
    return {text}
end
end_lease(lock, own)
redis.call('INCRBY', main, by)
text = redis.call('GET', main) -- a number of Lua would lose its last digits
if redis.call('HEXISTS', companion, 'digest') == 1 then
    redis.call('HSET', companion, 'digest', redis.sha1hex(text))
    if redis.call('HEXISTS', companion, 'text') == 1 then
        redis.call('HSET', companion, 'text', text)
    end
end
return text
"""
)
DELETE_TAGGED: Final = Script(
    COMPANION
    + """
local tag = KEYS[1]
local own, namespace, leases, limit, skipped = unpack(ARGV)
local function delete(main)
    local companion = own .. 'entry:' .. string.sub(main, #own - 7)
    local digest = redis.call('HGET', companion, 'digest')
    local text = redis.call('GET', main)
    local live = 0
    if digest and text and digest == redis.sha1hex(text) then
        live = redis.call('DEL', main)
    end
    if digest and (not text or digest == redis.sha1hex(text)) then
        end_lease(leases .. string.sub(main, #namespace + 1), own)
    end
    drop_companion(main, companion)
    redis.call('ZREM', tag, main)
    return live
end
local live = 0
for _, main in ipairs(redis.call('ZRANGE', tag, skipped, skipped + limit - 1)) do
    if string.sub(main, 1, #namespace) == namespace then
        live = live + delete(main)
    else -- of a collection, or of another prefix, whose tag has the same name
        skipped = skipped + 1
    end
end
return {live, skipped, redis.call('ZCARD', tag) - skipped}
""",
    "allow-oom",
)
END_LOADS: Final = Script(
    FENCE
    + END_LEASE
    + """
local own, mark, any_tag = unpack(ARGV)
local ended = {}
for _, lock in ipairs(KEYS) do
    local stored = string.sub(lock, #own - 7)
    local record = redis.call('GET', own .. 'grant:' .. stored)
    local owner = record and owner_of(record)
    if not owner then
        redis.call('SREM', own .. 'loads', stored) -- it has expired for a day, or was ended
    elseif string.find(owner, mark, 1, true) or string.sub(owner, -#any_tag) == any_tag then
        end_lease(lock, own)
        table.insert(ended, stored)
    end
end
return ended
""",
    "allow-oom",
)
"""Ends those of the leases whose owner has the mark; "" marks every owner."""

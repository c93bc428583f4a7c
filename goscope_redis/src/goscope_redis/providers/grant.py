"""The record of a grant: the Lua that writes it, and how it is read."""

from __future__ import annotations

from typing import Final

from goscope.providers import LockHolder

PUT_GRANT: Final = """
local lock, grant, queue, alive, counter, loads = unpack(KEYS)
local owner, ttl, retention, pid, host, id, load = unpack(ARGV)
-- The token of the grant if it was made by the call with this id, which was sent again.
local function repeated_token()
    local line = '[^\\n]*\\n'
    local pattern = '^(%d+)\\n' .. line .. line .. line .. '([^\\n]*)\\n'
    local token, found = string.match(redis.call('GET', grant) or '', pattern)
    return found == id and token
end
-- Grant the lock, and list it among the computations of values with tags; the token. It is above
-- the counter, and not below the time ``us``: a counter that a failover has set back must not grant
-- a token twice.
local function put_grant(us, since)
    local token = number(math.max(tonumber(redis.call('GET', counter) or 0) + 1, us))
    redis.call('SET', counter, token)
    redis.call('SET', lock, owner, 'PX', ttl)
    local record = table.concat({token, since, pid, host, id, owner}, '\\n')
    redis.call('SET', grant, record, 'PX', number(ttl + retention))
    if load ~= '' then
        redis.call('SADD', loads, load)
    end
    return token
end
"""


def decode_grant(grant: bytes | None, owner: bytes | None, left_ms: int) -> LockHolder | None:
    """The holder, from the record, the owner of the lock, and the time to live of the lock."""
    if grant is not None:
        token, since, pid, host, _, granted_to = grant.decode().split("\n", 5)
        if owner is None or owner.decode() == granted_to:
            return LockHolder(
                owner=granted_to,
                host=host,
                pid=int(pid),
                since=int(since),
                expires_in_ms=max(left_ms, 0),
                fencing_token=int(token),
            )
    if owner is None:
        return None
    # go-go-scope stores no more than this. A lock of another program may have no expiry.
    name = owner.decode(errors="replace")
    return LockHolder(owner=name, host="", pid=0, since=0, expires_in_ms=max(left_ms, 1))

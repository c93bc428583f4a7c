"""Fences and the wait queue: what every script that ends or checks a lease shares.

A lease is three keys. The lock itself is a string with the owner that expires with the lease, as
go-go-scope writes it. The grant is a string with the token that outlives an expired lease by a day,
so that its holder may still write if nobody took it. The queue is a pair of sorted sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from goscope.backend import Fence, lease_lost

from ..keys import Keys

RETENTION_MS: Final = 86_400_000
"""An expired lease that nobody takes accepts its holder's fenced writes for a day."""

FENCE: Final = """
-- The owner in the record of a grant: token, since, pid, host, id of the call, owner.
local function owner_of(record)
    return string.match(record, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n(.*)$')
end
-- The owner of the grant if it has this token and nobody else took the lock, or false.
local function current_owner(lock, grant, token)
    local found = redis.call('GET', grant)
    if not found or string.sub(found, 1, #token + 1) ~= token .. '\\n' then
        return false
    end
    local owner, holder = owner_of(found), redis.call('GET', lock)
    return (not holder or holder == owner) and owner
end
"""

QUEUE: Final = """
-- The waiter that comes first, or false. Removes those whose heartbeats have stopped.
local function head_of(queue, alive, now)
    while true do
        local head = redis.call('ZRANGE', queue, 0, 0)[1]
        if not head then
            return false
        end
        local deadline = redis.call('ZSCORE', alive, head)
        if deadline and tonumber(deadline) > now then
            return head
        end
        redis.call('ZREM', queue, head)
        redis.call('ZREM', alive, head)
    end
end
-- Tell the first waiter that hears it that the lock is free.
local function wake(queue, alive, channel, message)
    local now = now_ms()
    local head = head_of(queue, alive, now)
    while head and redis.call('PUBLISH', channel .. head, message) == 0 do
        redis.call('ZREM', queue, head)
        redis.call('ZREM', alive, head)
        head = head_of(queue, alive, now)
    end
end
"""


END_LEASE: Final = (
    QUEUE
    + """
-- End a lease and tell its first waiter. ``own`` is what the keys of goscope alone begin with.
local function end_lease(lock, own)
    local stored = string.sub(lock, #own - 7)
    if redis.call('DEL', lock, own .. 'grant:' .. stored) > 0 then
        redis.call('SREM', own .. 'loads', stored)
        wake(own .. 'queue:' .. stored, own .. 'alive:' .. stored, own .. 'wake:', stored)
    end
end
"""
)


class LeaseKeys(NamedTuple):
    """The keys of one lease, in the order in which the scripts take them."""

    lock: str
    grant: str
    queue: str
    alive: str

    @classmethod
    def of(cls, keys: Keys, stored: str) -> LeaseKeys:
        return cls(
            keys.name(stored),
            keys.companion("grant", stored),
            keys.companion("queue", stored),
            keys.companion("alive", stored),
        )


GUARD: Final = (
    FENCE
    + """
-- Call it first in a script whose last two keys and last argument are those of `guard`.
local function is_refused()
    local token = ARGV[#ARGV]
    return token ~= '' and not current_owner(KEYS[#KEYS - 1], KEYS[#KEYS], token)
end
"""
)
"""Refuses a write whose fence is not current. It takes what `guard` returns."""

REFUSED: Final = b"fence"
"""What a script with a `GUARD` answers when it refuses the write."""


def guard(keys: Keys, fence: Fence | None, any_key: str) -> tuple[Sequence[str], str]:
    """The last two keys and the last argument of a script with a `GUARD`.

    ``any_key`` is a key of the script, for one without a fence.
    """
    if fence is None:
        return (any_key, any_key), ""
    lock, grant, _, _ = LeaseKeys.of(keys, fence.stored_key)
    return (lock, grant), str(fence.token)


def check(answer: Any, fence: Fence | None) -> Any:
    """Return the answer. Raises `LeaseLost` if the script refused the write."""
    if answer == REFUSED and fence is not None:
        raise lease_lost(fence)
    return answer

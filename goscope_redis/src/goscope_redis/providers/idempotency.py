"""Results of idempotent calls: one string each, as go-go-scope writes them by default.

A companion string holds the fingerprint, with the digest of the result that it belongs to.
"""

from __future__ import annotations

from typing import Final

from goscope.backend import (
    BaseIdempotencyProvider,
    Fence,
    KeyedNotifier,
    NewResult,
    StoreContext,
    StoredResult,
)

from .._server.script import Script
from .._server.server import Server
from ..keys import Keys
from .fence import END_LEASE, GUARD, check, guard

_READ: Final = Script(
    """
local text = redis.call('GET', KEYS[1])
if not text then
    return false
end
local described = redis.call('GET', KEYS[2])
local fingerprint = false
if described and string.sub(described, 1, 40) == redis.sha1hex(text) then
    fingerprint = string.sub(described, 41)
end
return {text, redis.call('PEXPIRETIME', KEYS[1]), fingerprint}
""",
    "no-writes",
)
_SET: Final = Script(
    GUARD
    + END_LEASE
    + """
if is_refused() then
    return 'fence'
end
local text, ttl, has_fingerprint, fingerprint, own = unpack(ARGV)
local function set(key, value)
    if ttl == '' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', ttl)
    end
end
set(KEYS[1], text)
if has_fingerprint == '1' then
    set(KEYS[2], redis.sha1hex(text) .. fingerprint)
else
    redis.call('DEL', KEYS[2])
end
if own ~= '' then
    end_lease(KEYS[#KEYS - 1], own)
end
"""
)
"""Stores a result, and with ``own`` ends the lease of the fence."""
_DELETE: Final = Script(
    """
redis.call('DEL', KEYS[2])
return redis.call('DEL', KEYS[1])
""",
    "allow-oom",
)


class RedisIdempotencyProvider(BaseIdempotencyProvider):
    """Results, one key each. A completion notifies the waiters of the lease it ends."""

    def __init__(
        self,
        context: StoreContext,
        server: Server,
        keys: Keys,
        lease_notifier: KeyedNotifier,
    ) -> None:
        super().__init__(context)
        self._server = server
        self._keys = keys
        self._lease_notifier = lease_notifier

    async def _get(self, key: str) -> StoredResult | None:
        answer = await self._server.run(_READ, self._names(key), repeatable=True)
        if answer is None:
            return None
        text, expires_at, fingerprint = answer
        return StoredResult(
            text,
            None if expires_at == -1 else expires_at,
            None if fingerprint is None else fingerprint.decode(),
        )

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        names = self._names(key)
        guards, token = guard(self._keys, fence, names[0])
        ttl = "" if result.ttl_ms is None else result.ttl_ms
        fingerprint = (int(result.fingerprint is not None), result.fingerprint or "")
        own = self._keys.own if ends_lease else ""
        arguments = (result.text, ttl, *fingerprint, own, token)
        answer = await self._server.run(_SET, (*names, *guards), *arguments, replicated=True)
        check(answer, fence)
        if fence is not None and ends_lease:
            self._lease_notifier.notify(fence.stored_key)

    async def _delete(self, key: str) -> bool:
        return bool(await self._server.run(_DELETE, self._names(key)))

    def _names(self, key: str) -> tuple[str, str]:
        """The key of the result, and that of its fingerprint."""
        stored = f"{self.context.prefix}idempotency:{key[len(self.context.prefix) :]}"
        return self._keys.name(stored), self._keys.companion("fingerprint", key)

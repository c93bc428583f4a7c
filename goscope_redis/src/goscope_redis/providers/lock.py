"""Locks and leases, for all machines that reach the server."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from goscope._tools.cancellation import retrieve_exception
from goscope._tools.process import unique_name
from goscope.backend import (
    BaseLockProvider,
    LockNamespace,
    StoreContext,
    milliseconds,
    poll_interval_ms,
    this_process,
)
from goscope.errors import BackendUnavailable
from goscope.providers import LockHolder, Milliseconds

from .._server.errors import NotReplicated
from .._server.script import Script
from .._server.server import Server
from ..keys import Keys
from .fence import END_LEASE, FENCE, QUEUE, RETENTION_MS, LeaseKeys
from .grant import PUT_GRANT, decode_grant
from .wakeups import Wakeups

HEARTBEAT_MS: Final = 1_000
"""How often a waiter looks at the lock although nobody told it to."""

HEARTBEAT_TIMEOUT_MS: Final = 3 * HEARTBEAT_MS
"""When others skip a waiter that has stopped looking."""

_GRANT: Final = Script(
    QUEUE
    + PUT_GRANT
    + """
local waiter = ARGV[8]
if redis.call('EXISTS', lock) == 1 then
    return repeated_token()
end
local us = now_us()
local now = math.floor(us / 1000)
local head = head_of(queue, alive, now)
if head then
    if head ~= waiter then
        return false
    end
    redis.call('ZREM', queue, waiter)
    redis.call('ZREM', alive, waiter)
end
return put_grant(us, number(now))
"""
)
_ADOPT: Final = Script(
    PUT_GRANT
    + """
local since, least = unpack(ARGV, 8)
if tonumber(redis.call('GET', counter) or 0) < tonumber(least) then
    redis.call('SET', counter, least)
end
if redis.call('EXISTS', lock) == 1 then
    return repeated_token()
end
return put_grant(now_us(), since)
"""
)
"""Raises the token counter, and grants the lock if it is free."""
_MOVE_EXPIRY: Final = Script(
    FENCE
    + """
local lock, grant = unpack(KEYS)
local token, ttl, retention, if_expired = unpack(ARGV)
local owner = current_owner(lock, grant, token)
if not owner then
    return 0
end
if redis.call('PEXPIRE', lock, ttl) == 0 then
    if if_expired == '0' then
        return 0
    end
    redis.call('SET', lock, owner, 'PX', ttl)
end
redis.call('PEXPIRE', grant, number(ttl + retention))
return 1
""",
    "allow-oom",
)
_RELEASE: Final = Script(
    FENCE
    + END_LEASE
    + """
local lock, grant = unpack(KEYS)
local token, own = unpack(ARGV)
if not current_owner(lock, grant, token) then
    return 0
end
end_lease(lock, own)
return 1
""",
    "allow-oom",
)
_REMOVE: Final = Script(
    END_LEASE
    + """
end_lease(KEYS[1], ARGV[1])
""",
    "allow-oom",
)
_HOLDER: Final = Script(
    """
local lock, grant = unpack(KEYS)
return {redis.call('GET', grant), redis.call('GET', lock), redis.call('PTTL', lock)}
""",
    "no-writes",
)
_LOOK: Final = Script(
    QUEUE
    + """
local lock, grant, queue, alive = unpack(KEYS)
local waiter, timeout = unpack(ARGV)
local us = now_us()
local now = math.floor(us / 1000)
local left = redis.call('PTTL', lock)
local head = head_of(queue, alive, now)
if left == -2 and (not head or head == waiter) then
    return {left, 1, 0}
end
redis.call('ZADD', queue, 'NX', number(us), waiter)
redis.call('ZADD', alive, number(now + timeout), waiter)
redis.call('PEXPIRE', queue, number(timeout * 2))
redis.call('PEXPIRE', alive, number(timeout * 2))
local is_foreign = left ~= -2 and redis.call('EXISTS', grant) == 0
return {left, 0, is_foreign and 1 or 0}
"""
)
"""Looks at the lock, and joins the queue unless the lock can be taken.

Returns its time to live, whether it can be taken, and whether another program holds it.
"""
_LEAVE: Final = Script(
    QUEUE
    + """
local lock, _, queue, alive = unpack(KEYS)
local waiter, channel, message = unpack(ARGV)
redis.call('ZREM', queue, waiter)
redis.call('ZREM', alive, waiter)
if redis.call('EXISTS', lock) == 0 then
    wake(queue, alive, channel, message)
end
""",
    "allow-oom",
)


@dataclass(slots=True)
class _Waiting:
    """The waits of this adapter for one lock, which share a place in its queue."""

    waiters: int = 0
    wakeups: int = 0


class RedisLockProvider(BaseLockProvider):
    """Locks on the server. Waiting processes queue, and a release notifies the first of them."""

    def __init__(
        self,
        context: StoreContext,
        server: Server,
        keys: Keys,
        wakeups: Wakeups,
        namespace: LockNamespace,
    ) -> None:
        super().__init__(context, namespace)
        self._server = server
        self._keys = keys
        self._wakeups = wakeups
        self._counter: Final = f"{keys.own}token"
        self._loads: Final = f"{keys.own}loads"
        self._start: Final = f"{context.prefix}{namespace}:"
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        wakeups.subscribe(self._on_wakeup)

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        Processes are served in the order in which they began to wait: for the others the lock is
        not free. A release notifies the first one, which also sees the expiry of the lease at its
        time.
        """
        stored, clock = self.stored(key), self.context.clock
        end = math.inf
        if timeout is not None:
            end = clock.steady_ms() + milliseconds(timeout, "timeout")
        waiting = self._waiting[stored]
        waiting.waiters += 1
        is_free = False
        try:
            is_free = await self._wait_free(stored, waiting, end)
        finally:
            waiting.waiters -= 1
            if not waiting.waiters:
                del self._waiting[stored]
                if not is_free:
                    self._leave(stored)
        return is_free

    async def _wait_free(self, stored: str, waiting: _Waiting, end: float) -> bool:
        clock = self.context.clock
        started = clock.steady_ms()
        names = LeaseKeys.of(self._keys, stored)
        while True:
            await self._wakeups.listen()
            seen = waiting.wakeups
            left_ms, is_free, is_foreign = await self._server.run(
                _LOOK, names, self._wakeups.waiter, HEARTBEAT_TIMEOUT_MS, repeatable=True
            )
            if is_free:
                return True
            now = clock.steady_ms()
            if end <= now:
                return False
            if waiting.wakeups == seen:  # else the lock was released during the call
                pause_ms = min(end - now, HEARTBEAT_MS)
                if left_ms >= 0:
                    pause_ms = min(pause_ms, left_ms + 1)  # a key still exists at its expiry
                if is_foreign or not self._wakeups.listening:
                    pause_ms = min(pause_ms, poll_interval_ms(now - started))
                self.context.check()  # it may have been closed during the call
                await self.notifier.wait(stored, pause_ms / 1000, clock)
                self.context.check()  # it may be the adapter that closes
            if waiting.wakeups != seen:
                return True

    def _on_wakeup(self, stored: str) -> None:
        if not stored.startswith(self._start):
            return
        waiting = self._waiting.get(stored)
        if waiting is None:  # whoever waited has left
            self._leave(stored)
        else:
            waiting.wakeups += 1
            self.notifier.notify(stored)

    def _leave(self, stored: str) -> None:
        """Give up the place in the queue, a little later."""
        names, wakeups = LeaseKeys.of(self._keys, stored), self._wakeups
        leaving = asyncio.ensure_future(
            self._server.run(_LEAVE, names, wakeups.waiter, wakeups.channels, stored)
        )
        # If that fails, others skip this waiter as soon as its heartbeats stop.
        leaving.add_done_callback(retrieve_exception)

    # --- primitives --------------------------------------------------------------------------

    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        me = this_process()
        return self._put(_GRANT, key, owner, ttl_ms, me.pid, me.host, self._wakeups.waiter)

    def _adopt(self, key: str, holder: LockHolder) -> Awaitable[int | None]:
        grant = (holder.owner, holder.expires_in_ms, holder.pid, holder.host)
        return self._put(_ADOPT, key, *grant, holder.since, holder.fencing_token or 0)

    async def _put(
        self,
        script: Script,
        key: str,
        owner: str,
        ttl_ms: int,
        pid: int,
        host: str,
        *arguments: str | int,
    ) -> int | None:
        """Run a script with `PUT_GRANT`; the token. Releases a grant that is not replicated."""
        names = (*LeaseKeys.of(self._keys, key), self._counter, self._loads)
        # The owner of a computation may name tags, by which `RedisCacheProvider` finds it.
        load = key if "#" in owner and self.namespace == "lease" else ""
        grant = (owner, ttl_ms, RETENTION_MS, pid, host, unique_name(), load)
        try:
            # Repeatable, since the server recognizes the id of the call.
            token = await self._server.run(
                script, names, *grant, *arguments, repeatable=True, replicated=True
            )
        except NotReplicated as exc:
            if exc.answer is None:
                return None
            await self._release(key, int(exc.answer))
            raise
        return None if token is None else int(token)

    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._move_expiry(key, token, ttl_ms, if_expired=0)

    def _renew(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        return self._move_expiry(key, token, ttl_ms, if_expired=1)

    async def _move_expiry(self, key: str, token: int, ttl_ms: int, *, if_expired: int) -> bool:
        names = LeaseKeys.of(self._keys, key)[:2]
        # Repeatable: the second time does what the first one did.
        moved = await self._server.run(
            _MOVE_EXPIRY, names, token, ttl_ms, RETENTION_MS, if_expired, repeatable=True
        )
        return bool(moved)

    async def _release(self, key: str, token: int) -> bool | None:
        names = LeaseKeys.of(self._keys, key)
        arguments = (token, self._keys.own)
        try:
            return bool(await self._server.run(_RELEASE, names, *arguments))
        except BackendUnavailable as exc:
            if not exc.outcome_unknown:
                raise
            # If it is not current now, the first attempt may have ended it.
            return bool(await self._server.run(_RELEASE, names, *arguments)) or None

    async def _remove(self, key: str) -> None:
        names = LeaseKeys.of(self._keys, key)
        await self._server.run(_REMOVE, names, self._keys.own, repeatable=True)

    async def _holder(self, key: str) -> LockHolder | None:
        names = LeaseKeys.of(self._keys, key)[:2]
        grant, owner, left_ms = await self._server.run(_HOLDER, names, repeatable=True)
        return decode_grant(grant, owner, left_ms)

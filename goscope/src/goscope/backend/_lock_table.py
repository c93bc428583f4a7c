"""The grants of in-memory locks, which several adapters of one process may share.

The adapters may run in the event loops of different threads, so every change is atomic and wakes
waiters in their own loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from .._tools.clock import Clock
from .._tools.notifier import signalled_within

FIRST_SWEEP_AT: Final = 1024

TURN_MS: Final = 100
"""How long a lock is kept for the adapter that has waited for longest. It takes a few ticks."""


class Grant(msgspec.Struct, eq=False, gc=False):  # half the cost of a dataclass
    """A lease in memory; ``expires_at`` on the steady clock, ``since`` on the wall clock."""

    owner: str
    expires_at: int
    since: int


class _Waiter(NamedTuple):
    """Who waits, on behalf of which adapter."""

    adapter: object
    future: asyncio.Future[bool]


class _Turn(NamedTuple):
    """The adapter that may take a lock next, until this steady time."""

    adapter: object
    until: int


class LockTable:
    """Grants by stored key, and who waits for their end.

    ``adapter`` stands for the adapter that asks. When a grant ends, the adapter that has waited for
    longest gets the next turn: else one that keeps taking the lock would starve the others.
    """

    def __init__(self) -> None:
        self._grants: dict[str, Grant] = {}
        self._waiters: Final[dict[str, list[_Waiter]]] = {}
        self._turns: Final[dict[str, _Turn]] = {}
        # The adapters that the last end of a grant has woken, and that did not get the turn.
        self._woken: Final[dict[str, list[object]]] = {}
        self._mutex: Final = threading.Lock()
        self._sweep_at = FIRST_SWEEP_AT

    def add(self, key: str, grant: Grant, now: int, adapter: object) -> bool:
        """Add the grant unless another one is current; whether it was added."""
        if self._turns and not self._take_turn(key, now, adapter):
            return False
        # A single call is atomic without the mutex, which costs as much again as the rest.
        held = self._grants.setdefault(key, grant)
        if held is not grant and not self._replace_expired(key, grant, now):
            return False
        if len(self._grants) > self._sweep_at:
            self._sweep(now)
        return True

    def get(self, key: str) -> Grant | None:
        """The grant that has not ended, expired or not."""
        return self._grants.get(key)

    def grants(self) -> list[tuple[str, Grant]]:
        """The grants that have not ended, expired or not, as they are now."""
        return list(self._grants.items())

    def extend(self, key: str, grant: Grant, now: int, ttl_ms: int, *, if_expired: bool) -> bool:
        """Let the grant run for ``ttl_ms`` from now; False if it has ended."""
        with self._mutex:
            if self._grants.get(key) is not grant or not (if_expired or grant.expires_at > now):
                return False
            grant.expires_at = now + ttl_ms
        return True

    def end(self, key: str, grant: Grant, clock: Clock) -> bool:
        """End this grant and no later one, and wake the waiters; whether it had not ended."""
        with self._mutex:
            if self._grants.get(key) is not grant:
                return False
            del self._grants[key]
            waiters = self._waiters.pop(key, ()) if self._waiters else ()
            if waiters:
                self._turns[key] = _Turn(waiters[0].adapter, clock.steady_ms() + TURN_MS)
            if len(waiters) > 1:
                self._woken[key] = [it.adapter for it in waiters[1:]]
            elif self._woken:
                self._woken.pop(key, None)
        if waiters:
            _wake(waiters)
        return True

    def blocked_until(self, key: str, now: int, adapter: object) -> int | None:
        """When to look again whether the adapter can take the lock; None if it can now."""
        grant = self._grants.get(key)
        if grant is not None and grant.expires_at > now:
            return grant.expires_at
        turn = self._turns.get(key)
        if turn is not None and turn.adapter is not adapter and turn.until > now:
            return turn.until
        return None

    async def wait(self, key: str, seconds: float, clock: Clock, adapter: object) -> None:
        """Wait until a grant ends, or for at most ``seconds``. May return earlier."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(adapter, future)
        with self._mutex:
            if self.blocked_until(key, clock.steady_ms(), adapter) is None:
                return
            self._enqueue(key, waiter)
        try:
            await signalled_within(future, seconds, clock)
        except asyncio.CancelledError:
            self._pass_turn(key, adapter)
            raise
        finally:
            self._forget(key, waiter)

    def leave(self, adapter: object) -> None:
        """Let every `wait` return, and pass the turns of an adapter that disconnects."""
        with self._mutex:
            waiters = [waiter for waiting in self._waiters.values() for waiter in waiting]
            self._waiters.clear()
            for key, order in self._woken.items():
                self._woken[key] = [it for it in order if it is not adapter]
            for key in [key for key, turn in self._turns.items() if turn.adapter is adapter]:
                del self._turns[key]
        _wake(waiters)

    def _take_turn(self, key: str, now: int, adapter: object) -> bool:
        """Whether no other adapter has the turn."""
        with self._mutex:
            turn = self._turns.get(key)
            if turn is not None:
                if turn.adapter is not adapter and turn.until > now:
                    return False
                del self._turns[key]
        return True

    def _pass_turn(self, key: str, adapter: object) -> None:
        with self._mutex:
            turn = self._turns.get(key)
            if turn is not None and turn.adapter is adapter:
                del self._turns[key]
            waiters = self._waiters.pop(key, ())
        _wake(waiters)

    def _replace_expired(self, key: str, grant: Grant, now: int) -> bool:
        with self._mutex:
            held = self._grants.get(key)
            if held is not None and held.expires_at > now:
                return False
            self._grants[key] = grant
        return True

    def _enqueue(self, key: str, waiter: _Waiter) -> None:
        """Append the waiter. Those that were woken together keep their places before the others.

        The adapter that has released the lock may wait again before they do, and must not pass
        them: with three adapters, two would take turns and the third one starve.
        """
        waiting = self._waiters.setdefault(key, [])
        waiting.append(waiter)
        if woken := self._woken.get(key):
            last = len(woken)
            waiting.sort(key=lambda it: woken.index(it.adapter) if it.adapter in woken else last)

    def _forget(self, key: str, waiter: _Waiter) -> None:
        with self._mutex:
            waiting = self._waiters.get(key)
            if waiting is not None and waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiters[key]

    def _sweep(self, now: int) -> None:
        """Forget expired grants. Runs each time the number of grants has doubled."""
        for key, grant in list(self._grants.items()):
            if grant.expires_at <= now:
                with self._mutex:
                    if self._grants.get(key) is grant and grant.expires_at <= now:
                        del self._grants[key]
        self._sweep_at = 2 * len(self._grants) + FIRST_SWEEP_AT


_tables: Final[WeakValueDictionary[Hashable, LockTable]] = WeakValueDictionary()
_registry_mutex = threading.Lock()


def shared_table(identity: Hashable) -> LockTable:
    """The table that everyone in this process gets for this identity, as long as one uses it."""
    with _registry_mutex:
        table = _tables.get(identity)
        if table is None:
            table = _tables[identity] = LockTable()
        return table


def _wake(waiters: Iterable[_Waiter]) -> None:
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    for _, future in waiters:
        loop = future.get_loop()
        if loop is here:
            _resolve(future)
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:  # it was closed just now
                pass


def _resolve(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


def _after_fork() -> None:
    """Share nothing with the parent's adapters, whose tables another thread may have locked."""
    global _registry_mutex
    _registry_mutex = threading.Lock()
    _tables.clear()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)

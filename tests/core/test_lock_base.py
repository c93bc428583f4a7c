"""BaseLockProvider over a store that answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from goscope._tools.process import unique_name
from goscope.backend import BaseLockProvider, Fence, StoreContext
from goscope.errors import BackendBusy, ConfigurationError
from goscope.providers import LockHolder
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio

T = TypeVar("T")


@dataclass
class Row:
    owner: str
    token: int
    expires_at: int


class SlowLocks(BaseLockProvider):
    """Leases in a dictionary, behind a gate that holds every request back while it is closed.

    A request is applied when it passes the gate; its answer takes one more turn of the loop.
    """

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(StoreContext(clock=clock, prefix="shop:", store_id="store"), "lock")
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self._tokens = 0

    async def _request(self, work: Callable[[], T]) -> T:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        result = work()
        await asyncio.sleep(0)
        return result

    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        def work() -> int | None:
            row = self.rows.get(key)
            if row is not None and row.expires_at > self.clock.steady_ms():
                return None
            self._tokens += 1
            self.rows[key] = Row(owner, self._tokens, self.clock.steady_ms() + ttl_ms)
            return self._tokens

        return self._request(work)

    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        def work() -> bool:
            row, now = self.rows.get(key), self.clock.steady_ms()
            if row is None or row.token != token or row.expires_at <= now:
                return False
            self.rows[key] = replace(row, expires_at=now + ttl_ms)
            return True

        return self._request(work)

    def _release(self, key: str, token: int) -> Awaitable[None]:
        def work() -> None:
            if key in self.rows and self.rows[key].token == token:
                del self.rows[key]

        return self._request(work)

    def _remove(self, key: str) -> Awaitable[None]:
        def work() -> None:
            self.rows.pop(key, None)

        return self._request(work)

    def _holder(self, key: str) -> Awaitable[LockHolder | None]:
        def work() -> LockHolder | None:
            row = self.rows.get(key)
            if row is None:
                return None
            left = row.expires_at - self.clock.steady_ms()
            return LockHolder(
                owner=row.owner,
                host="host",
                pid=1,
                since=0,
                expires_in_ms=left,
                fencing_token=row.token,
            )

        return self._request(work)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled_while_closed(locks: SlowLocks, work: Awaitable[Any]) -> None:
    """Cancel the work while its request is held back, and let it end."""
    locks.gate.clear()
    task = asyncio.ensure_future(work)
    await turns()
    task.cancel()
    await turns()
    assert not task.done(), "the caller left before its request was answered"
    locks.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_keys_are_stored_with_prefix_and_namespace() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    assert list(locks.rows) == ["shop:lock:key"]
    assert (handle.key, handle.stored_key, handle.store_id) == ("key", "shop:lock:key", "store")


async def test_a_grant_to_a_cancelled_caller_is_released_before_the_cancellation_goes_on() -> None:
    locks = SlowLocks(FakeClock())
    await cancelled_while_closed(locks, locks.acquire("key"))
    assert locks.rows == {}, "a lock was granted to nobody"


async def test_a_cancelled_caller_who_got_nothing_releases_nothing() -> None:
    locks = SlowLocks(FakeClock())
    held = await locks.acquire("key")
    await cancelled_while_closed(locks, locks.acquire("key"))
    assert held is not None
    assert await held.is_valid(), "the lock of another was released"


async def test_a_failed_request_of_a_cancelled_caller_ends_in_its_cancellation() -> None:
    locks = SlowLocks(FakeClock())
    locks.failure = BackendBusy("busy")
    await cancelled_while_closed(locks, locks.acquire("key"))


async def test_a_cancelled_release_and_force_release_happen() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    await cancelled_while_closed(locks, handle.release())
    assert locks.rows == {}
    await locks.acquire("key")
    await cancelled_while_closed(locks, locks.force_release("key"))
    assert locks.rows == {}


async def test_a_release_that_failed_can_be_tried_again() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    locks.failure = BackendBusy("busy")
    with pytest.raises(BackendBusy):
        await handle.release()
    locks.failure = None
    await handle.release()
    assert locks.rows == {}, "the second release did nothing"


async def test_the_handle_counts_from_before_its_request() -> None:
    """The answer may take long: the lease must not seem to run longer than the store says."""
    clock = FakeClock()
    locks = SlowLocks(clock)
    locks.gate.clear()
    asking = asyncio.create_task(locks.acquire("key", "10s"))
    await clock.advance("4s")
    locks.gate.set()
    handle = await asking
    assert handle is not None
    await clock.advance("6s")
    assert handle.lost
    assert await handle.is_valid(), "the store knows better, and is asked"
    assert not handle.lost, "the handle did not learn from the answer"


async def test_an_extension_counts_from_before_its_request() -> None:
    clock = FakeClock()
    locks = SlowLocks(clock)
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    locks.gate.clear()
    extending = asyncio.create_task(handle.extend("10s"))
    await clock.advance("4s")
    locks.gate.set()
    assert await extending
    await clock.advance("6s")
    assert handle.lost


async def test_a_refused_extension_is_remembered() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    await locks.force_release("key")
    assert not handle.lost, "nobody told the handle yet"
    assert not await handle.extend("10s")
    assert handle.lost


async def test_a_failed_extension_is_not_taken_for_a_loss() -> None:
    """The store did not answer: whether the lease is lost, only time can tell."""
    clock = FakeClock()
    locks = SlowLocks(clock)
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    locks.failure = BackendBusy("busy")
    with pytest.raises(BackendBusy):
        await handle.extend("10s")
    assert not handle.lost
    await clock.advance("10s")
    assert handle.lost


async def test_a_released_handle_is_not_lost() -> None:
    clock = FakeClock()
    locks = SlowLocks(clock)
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    await handle.release()
    await clock.advance("10s")
    assert not handle.lost


async def test_extending_by_owner_never_touches_a_later_grant() -> None:
    """Not even when the lock changes hands between the two requests it takes."""
    clock = FakeClock()
    locks = SlowLocks(clock)
    await locks.acquire("key", "1s", owner="me")
    extend = locks._extend

    def after_a_takeover(key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        locks.rows[key] = Row("you", 99, clock.steady_ms() + 5_000)
        return extend(key, token, ttl_ms)

    locks._extend = after_a_takeover  # type: ignore[method-assign]  # between the two requests
    assert not await locks.extend("key", "1h", "me")
    assert locks.rows["shop:lock:key"].expires_at == clock.steady_ms() + 5_000


async def test_a_handle_is_a_fence_for_its_store_alone() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    assert locks.context.fence(handle) == Fence("shop:lock:key", 1, "key")
    assert locks.context.fence(None) is None
    other = StoreContext(clock=FakeClock(), store_id="other")
    with pytest.raises(ConfigurationError, match="'key' belongs to another store"):
        other.fence(handle)


async def test_a_handle_keeps_the_store_it_was_granted_by() -> None:
    """Its provider may be connected to another store by the time the handle is used."""
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    locks.context.store_id = "another store"
    with pytest.raises(ConfigurationError):
        locks.context.fence(handle)


async def test_default_owners_are_unique() -> None:
    owners = {unique_name() for _ in range(1_000)}
    assert len(owners) == 1_000

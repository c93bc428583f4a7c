"""BaseLockProvider on a store that answers when the test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

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
    """Leases in a dictionary. While ``answering`` is clear, every request waits.

    A request is applied when it stops waiting; its answer takes one more tick of the loop.
    """

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(StoreContext(clock=clock, prefix="shop:", store_id="store"), "lock")
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.answering = asyncio.Event()
        self.answering.set()
        self.failure: Exception | None = None
        self._tokens = 0

    async def _request(self, work: Callable[[], T]) -> T:
        await self.answering.wait()
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

    def _release(self, key: str, token: int) -> Awaitable[bool]:
        def work() -> bool:
            current = key in self.rows and self.rows[key].token == token
            if current:
                del self.rows[key]
            return current

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


async def ticks(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel_during_request(locks: SlowLocks, work: Awaitable[Any]) -> None:
    """Cancel the work while its request waits, then let the store answer."""
    locks.answering.clear()
    task = asyncio.ensure_future(work)
    await ticks()
    task.cancel()
    await ticks()
    assert not task.done(), "the caller left before its request was answered"
    locks.answering.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_keys_are_stored_with_prefix_and_namespace() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    assert list(locks.rows) == ["shop:lock:key"]
    assert (handle.key, handle.stored_key, handle.store_id) == ("key", "shop:lock:key", "store")


async def test_a_grant_to_a_cancelled_caller_is_released_before_the_cancellation_is_raised() -> (
    None
):
    locks = SlowLocks(FakeClock())
    await cancel_during_request(locks, locks.acquire("key"))
    assert locks.rows == {}, "the grant was not released"


async def test_a_cancelled_caller_without_a_grant_releases_nothing() -> None:
    locks = SlowLocks(FakeClock())
    held = await locks.acquire("key")
    await cancel_during_request(locks, locks.acquire("key"))
    assert held is not None
    assert await held.is_valid(), "the grant of another caller was released"


async def test_a_failed_request_of_a_cancelled_caller_raises_the_cancellation() -> None:
    locks = SlowLocks(FakeClock())
    locks.failure = BackendBusy("busy")
    await cancel_during_request(locks, locks.acquire("key"))


async def test_a_cancelled_release_or_force_release_is_applied() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    await cancel_during_request(locks, handle.release())
    assert locks.rows == {}
    await locks.acquire("key")
    await cancel_during_request(locks, locks.force_release("key"))
    assert locks.rows == {}


async def test_a_failed_release_can_be_retried() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    locks.failure = BackendBusy("busy")
    with pytest.raises(BackendBusy):
        await handle.release()
    locks.failure = None
    await handle.release()
    assert locks.rows == {}, "the second release did nothing"


async def test_the_deadline_of_a_handle_counts_from_before_its_request() -> None:
    """A late answer must not make the lease seem longer than it is in the store."""
    clock = FakeClock()
    locks = SlowLocks(clock)
    locks.answering.clear()
    asking = asyncio.create_task(locks.acquire("key", "10s"))
    await clock.advance("4s")
    locks.answering.set()
    handle = await asking
    assert handle is not None
    await clock.advance("6s")
    assert handle.lost
    assert await handle.is_valid(), "the store was not asked"
    assert not handle.lost, "the handle did not learn from the answer"


async def test_the_deadline_of_an_extension_counts_from_before_its_request() -> None:
    clock = FakeClock()
    locks = SlowLocks(clock)
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    locks.answering.clear()
    extending = asyncio.create_task(handle.extend("10s"))
    await clock.advance("4s")
    locks.answering.set()
    assert await extending
    await clock.advance("6s")
    assert handle.lost


async def test_a_refused_extension_is_remembered() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key", "10s")
    assert handle is not None
    await locks.force_release("key")
    assert not handle.lost, "the handle cannot know yet"
    assert not await handle.extend("10s")
    assert handle.lost


async def test_a_failed_extension_is_not_a_loss() -> None:
    """The store did not answer, so the lease lasts until its deadline."""
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
    """Even if the lock is granted to another owner between its two requests."""
    clock = FakeClock()
    locks = SlowLocks(clock)
    await locks.acquire("key", "1s", owner="me")
    extend = locks._extend  # a primitive of the store, not of the library

    def after_a_takeover(key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        locks.rows[key] = Row("you", 99, clock.steady_ms() + 5_000)
        return extend(key, token, ttl_ms)

    locks._extend = after_a_takeover  # type: ignore[method-assign]  # between the two requests
    assert not await locks.extend("key", "1h", "me")
    assert locks.rows["shop:lock:key"].expires_at == clock.steady_ms() + 5_000


async def test_a_handle_is_a_fence_only_for_its_store() -> None:
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    assert handle is not None
    assert locks.context.fence(handle) == Fence("shop:lock:key", 1, "key")
    assert locks.context.fence(None) is None
    other = StoreContext(clock=FakeClock(), store_id="other")
    with pytest.raises(ConfigurationError, match="'key' belongs to another store"):
        other.fence(handle)


async def test_a_handle_keeps_the_store_that_granted_it() -> None:
    """Its provider may be connected to another store when the handle is used."""
    locks = SlowLocks(FakeClock())
    handle = await locks.acquire("key")
    locks.context.store_id = "another store"
    with pytest.raises(ConfigurationError):
        locks.context.fence(handle)


async def test_default_owners_are_unique() -> None:
    locks = SlowLocks(FakeClock())
    handles = [await locks.acquire(f"key:{number}") for number in range(1_000)]
    assert len({handle.owner for handle in handles if handle is not None}) == 1_000

"""BaseAdapter: connecting, unclosed adapters, and the options that all adapters share."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from goscope.backend import BaseAdapter, SystemClock
from goscope.errors import BackendUnavailable, ConfigurationError
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio


class CountingAdapter(BaseAdapter):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.failure: Exception | None = None

    async def _connect(self) -> None:
        self.calls.append("connect")
        if self.failure is not None:
            raise self.failure

    async def _disconnect(self) -> None:
        self.calls.append("disconnect")
        if self.failure is not None:
            raise self.failure


async def test_an_adapter_connects_and_disconnects_once() -> None:
    adapter = CountingAdapter()
    async with adapter as entered:
        assert entered is adapter
        await adapter.connect()
        assert adapter.is_connected
    await adapter.disconnect()
    assert adapter.calls == ["connect", "disconnect"]


async def test_an_adapter_is_connected_only_inside_its_block() -> None:
    adapter = CountingAdapter()
    before = adapter.is_connected
    async with adapter:
        pass
    assert (before, adapter.is_connected) == (False, False)


async def test_a_failed_connect_leaves_the_adapter_disconnected() -> None:
    adapter = CountingAdapter()
    adapter.failure = BackendUnavailable("no such host")
    with pytest.raises(BackendUnavailable):
        await adapter.connect()
    assert not adapter.is_connected
    adapter.failure = None
    await adapter.connect()
    await adapter.disconnect()
    assert adapter.calls == ["connect", "connect", "disconnect"]


async def test_a_failed_disconnect_leaves_the_adapter_disconnected() -> None:
    adapter = CountingAdapter()
    await adapter.connect()
    adapter.failure = BackendUnavailable("gone")
    with pytest.raises(BackendUnavailable):
        await adapter.disconnect()
    assert not adapter.is_connected


async def test_a_cancelled_disconnect_closes_the_store() -> None:
    closing = asyncio.Event()

    class SlowAdapter(CountingAdapter):
        async def _disconnect(self) -> None:
            await closing.wait()
            await super()._disconnect()

    adapter = SlowAdapter()
    await adapter.connect()
    task = asyncio.create_task(adapter.disconnect())
    await asyncio.sleep(0)
    task.cancel()
    closing.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert adapter.calls == ["connect", "disconnect"]


async def test_an_adapter_that_was_never_disconnected_warns() -> None:
    leaked = [CountingAdapter()]
    await leaked[0].connect()
    with pytest.warns(ResourceWarning, match=r"CountingAdapter.*await disconnect\(\)"):
        leaked.clear()


async def test_an_adapter_that_was_disconnected_or_never_connected_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with CountingAdapter():
            pass
        CountingAdapter()
        gc.collect()


async def test_an_adapter_whose_options_are_refused_is_collected_without_an_error() -> None:
    with pytest.raises(ConfigurationError):
        CountingAdapter(key_prefix="not a prefix")
    gc.collect()  # an error in __del__ would fail the test: warnings are errors


async def test_the_options_reach_all_providers() -> None:
    clock = FakeClock()
    context = CountingAdapter(key_prefix="shop:", default_lock_ttl="5s", clock=clock).context
    assert (context.prefix, context.default_lock_ttl_ms, context.clock) == ("shop:", 5_000, clock)


async def test_the_default_options() -> None:
    context = CountingAdapter().context
    assert (context.prefix, context.default_lock_ttl_ms) == ("", 30_000)
    assert isinstance(context.clock, SystemClock)


@pytest.mark.parametrize(("ttl", "error"), [("0s", ValueError), (None, TypeError)])
async def test_an_invalid_default_lock_ttl_is_refused_by_name(
    ttl: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="default_lock_ttl"):
        CountingAdapter(default_lock_ttl=ttl)


async def test_missing_providers_are_none() -> None:
    adapter = CountingAdapter()
    names = ["lock", "lease", "cache", "circuit_breaker", "checkpoint", "idempotency"]
    assert [getattr(adapter, name) for name in names] == [None] * 6
    assert adapter.capabilities == frozenset()


class SlowAdapter(CountingAdapter):
    """Connecting takes several ticks."""

    async def _connect(self) -> None:
        await asyncio.sleep(0)
        await super()._connect()
        await asyncio.sleep(0)


async def test_concurrent_callers_connect_once() -> None:
    adapter = SlowAdapter()
    await asyncio.gather(adapter.connect(), adapter.connect())
    assert (adapter.calls, adapter.is_connected) == (["connect"], True)
    await asyncio.gather(adapter.disconnect(), adapter.disconnect())
    assert (adapter.calls, adapter.is_connected) == (["connect", "disconnect"], False)


async def test_a_waiter_connects_when_the_first_caller_is_cancelled() -> None:
    adapter = SlowAdapter()
    first, second = (asyncio.create_task(adapter.connect()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert (first.cancelled(), adapter.calls) == (True, ["connect"])
    await adapter.disconnect()


async def test_an_adapter_can_be_connected_in_another_loop() -> None:
    """Even if callers waited for each other in the first loop."""
    adapter = SlowAdapter()

    async def use() -> None:
        await asyncio.gather(adapter.connect(), adapter.connect())
        await asyncio.gather(adapter.disconnect(), adapter.disconnect())

    await asyncio.to_thread(asyncio.run, use())
    await asyncio.to_thread(asyncio.run, use())
    assert adapter.calls == ["connect", "disconnect"] * 2

"""What programs do with locks that a library does not expect."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope import CircuitOpen, LeaseLost, LockTimeout, Scope, ScopeNotOpen
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture(params=["memory", "shared"])
async def gs(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Scope]:
    adapter = MemoryAdapter(locks=request.param, clock=clock)
    async with Scope(persistence=adapter, lease_ttl="9s") as scope:
        yield scope


def block(clock: FakeClock, ms: int) -> None:
    """Let time pass as a step does that blocks the event loop: no task runs."""
    clock._move_to(clock.steady_ms() + ms)


async def is_free(gs: Scope, key: str) -> bool:
    handle = await gs.lock(key).try_acquire()
    if handle is not None:
        await handle.release()
    return handle is not None


async def test_a_shorter_extension_in_a_block_is_renewed(gs: Scope, clock: FakeClock) -> None:
    async with gs.lock("door", ttl="30s") as handle:
        assert await handle.extend("300ms")
        await clock.advance("10s")
        assert not await is_free(gs, "door")
        assert not handle.lost
    assert await is_free(gs, "door")


async def test_a_longer_extension_in_a_block_outlives_the_next_renewal(
    gs: Scope, clock: FakeClock
) -> None:
    async with gs.lock("door", ttl="900ms") as handle:
        assert await handle.extend("10m")
        await clock.advance("9m")
        assert handle.lost is False
        holder = await gs.persistence.lock.holder("door")  # type: ignore[union-attr]  # there is one
        assert holder is not None
        assert holder.expires_in_ms > 60_000


@pytest.mark.parametrize("ttl", [30, 30.0])
async def test_a_bare_number_is_refused_by_a_handle(gs: Scope, ttl: Any) -> None:
    async with gs.lock("door") as handle:
        with pytest.raises(TypeError, match="has no unit"):
            await handle.extend(ttl)
    taken = await gs.lock("door").acquire()
    with pytest.raises(TypeError, match="has no unit"):
        await taken.extend(ttl)


async def test_an_abandoned_generator_releases_its_lock(gs: Scope, clock: FakeClock) -> None:
    async def stream() -> AsyncGenerator[int]:
        async with gs.lock("door"):
            yield 1
            yield 2

    async def consume() -> None:
        async for _ in stream():
            break

    await consume()
    gc.collect()
    await clock.advance("1ms")
    assert await is_free(gs, "door")


async def test_a_lock_may_be_left_in_another_task(gs: Scope) -> None:
    stack = contextlib.AsyncExitStack()
    await asyncio.create_task(_enter(stack, gs.lock("door")))
    assert not await is_free(gs, "door")
    await asyncio.create_task(stack.aclose())
    assert await is_free(gs, "door")


async def _enter(stack: contextlib.AsyncExitStack, manager: Any) -> None:
    await stack.enter_async_context(manager)


async def test_a_block_that_was_not_entered_cannot_be_left(gs: Scope) -> None:
    for manager in (gs.lock("door"), gs.circuit_breaker("api")):
        with pytest.raises(RuntimeError, match="without having been entered"):
            await manager.__aexit__(None, None, None)


async def test_a_breaker_may_be_left_in_another_task(gs: Scope, clock: FakeClock) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, reset_timeout="1s")
    with pytest.raises(ZeroDivisionError):
        async with breaker:
            _ = 1 / 0
    await clock.advance("2s")
    stack = contextlib.AsyncExitStack()
    await asyncio.create_task(_enter(stack, breaker))
    with pytest.raises(CircuitOpen):
        async with breaker:
            pytest.fail("the probe slot is taken")
    await asyncio.create_task(stack.aclose())
    async with breaker:
        pass
    assert (await breaker.state()).state == "closed"


async def test_a_loss_never_cancels_the_task_that_leaves_the_block(
    gs: Scope, clock: FakeClock
) -> None:
    stack = contextlib.AsyncExitStack()
    await asyncio.create_task(_enter(stack, gs.lock("door", ttl="3s")))
    await gs.persistence.lock.force_release("door")  # type: ignore[union-attr]  # there is one
    await clock.advance("3s")
    with pytest.raises(LeaseLost):
        await stack.aclose()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_lock_nested_in_itself_is_refused(gs: Scope) -> None:
    async with gs.lock("door"):
        with pytest.raises(RuntimeError, match="already"):
            async with asyncio.timeout(10), gs.lock("door"):
                pytest.fail("it would wait for its own release")
        with pytest.raises(LockTimeout):
            async with gs.lock("door", wait=0):
                pytest.fail("it is held")
        async with gs.lock("other"):
            pass
    async with gs.lock("door"):
        pass


async def test_a_handle_may_be_renewed_until_it_is_released(gs: Scope, clock: FakeClock) -> None:
    handle = await gs.lock("leader", ttl="3s").acquire(renew=True)
    await clock.advance("1m")
    assert not handle.lost
    assert not await is_free(gs, "leader")
    assert await handle.release()
    assert not await handle.release()
    assert await is_free(gs, "leader")


async def test_a_forgotten_handle_is_not_renewed_for_the_life_of_the_process(
    gs: Scope, clock: FakeClock
) -> None:
    handle = await gs.lock("leader", ttl="3s").acquire(renew=True)
    with pytest.warns(ResourceWarning, match="never released"):
        del handle
    await clock.advance("4s")
    assert await is_free(gs, "leader")


async def test_a_renewed_handle_tells_when_it_is_lost(gs: Scope, clock: FakeClock) -> None:
    handle = await gs.lock("leader", ttl="3s").acquire(renew=True)
    await gs.persistence.lock.force_release("leader")  # type: ignore[union-attr]  # there is one
    await clock.advance("3s")
    assert handle.lost
    assert not await handle.release()


async def test_closing_the_scope_releases_renewed_handles(clock: FakeClock) -> None:
    async with MemoryAdapter(locks="shared", clock=clock) as adapter:
        async with Scope(persistence=adapter) as gs:
            handle = await gs.lock("leader", ttl="3s").acquire(renew=True)
        assert await adapter.lock.holder("leader") is None
        del handle


async def test_a_renewed_handle_may_be_released_while_the_scope_closes(clock: FakeClock) -> None:
    async with MemoryAdapter(clock=clock) as adapter:
        gs = Scope(persistence=adapter)
        await gs.open()
        handles = [await gs.lock(key).acquire(renew=True) for key in ("a", "b", "c")]
        closing = asyncio.create_task(gs.close())
        await asyncio.gather(*(handle.release() for handle in handles))
        await closing
        assert [await adapter.lock.holder(key) for key in ("a", "b", "c")] == [None] * 3


@pytest.mark.parametrize("waiters", [1, 3])
async def test_closing_the_scope_ends_every_waiter(
    gs: Scope, clock: FakeClock, waiters: int
) -> None:
    entered: list[int] = []

    async def wait(number: int) -> None:
        async with gs.lock("door"):
            entered.append(number)

    handle = await gs.lock("door").acquire()
    tasks = [asyncio.create_task(wait(number)) for number in range(waiters)]
    await clock.advance("1s")
    await gs.close()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, ScopeNotOpen)
    assert entered == []
    with contextlib.suppress(ScopeNotOpen):
        await handle.release()


async def test_a_step_that_blocks_the_loop_keeps_a_lease_that_nobody_wants(
    gs: Scope, clock: FakeClock
) -> None:
    async with gs.lock("door", ttl="3s") as handle:
        block(clock, 10_000)
        await clock.advance("1ms")
        assert not handle.lost
        block(clock, 10_000)
    assert await is_free(gs, "door")


async def test_a_step_that_blocks_the_loop_loses_a_lease_that_another_took(
    clock: FakeClock,
) -> None:
    adapter = MemoryAdapter(locks="shared", clock=clock)

    async def body(gs: Scope) -> None:
        async with gs.lock("door", ttl="3s"):
            await clock.advance("1ms")  # the watcher waits for its time
            block(clock, 4_000)
            assert await adapter.lock.acquire("door")

    async with Scope(persistence=adapter) as gs:
        with pytest.raises(LeaseLost):
            await body(gs)


async def test_a_task_of_blocking_steps_ends_well(gs: Scope, clock: FakeClock) -> None:
    async def etl(task: Any) -> str:
        for chunk in range(4):
            block(clock, 30_000)
            await task.checkpoint.save(chunk)
        return "done"

    assert await gs.tasks.run("etl", etl) == "done"


async def test_steps_that_block_the_loop_again_and_again_end_well(tmp_path: Path) -> None:
    """With a real clock and a store that answers from a thread."""
    path = tmp_path / "app.db"

    async def etl(task: Any) -> str:
        for chunk in range(4):
            time.sleep(0.6)  # noqa: ASYNC251  # longer than the lease
            await task.checkpoint.save(chunk)
        return "done"

    async with Scope(backend="sqlite", path=path, lease_ttl="400ms") as gs:
        assert await gs.tasks.run("etl", etl) == "done"


async def test_a_probe_that_blocks_the_loop_closes_the_circuit(gs: Scope, clock: FakeClock) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, reset_timeout="1s", on=ConnectionError)
    with pytest.raises(ConnectionError):
        async with breaker:
            raise ConnectionError
    await clock.advance("2s")
    async with breaker:
        block(clock, 30_000)
    assert (await breaker.state()).state == "closed"

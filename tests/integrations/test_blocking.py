"""A scope from threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .libraries import require

require("anyio")

import goscope
from goscope import Scope
from goscope.integrations.blocking import BlockingScope
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock


@pytest.fixture
def gs() -> Scope:
    return Scope(backend="memory")


@pytest.fixture
def blocking(gs: Scope) -> Iterator[BlockingScope]:
    with BlockingScope(gs) as blocking:
        yield blocking


def test_threads_exclude_one_another_and_share_a_computation(
    gs: Scope, blocking: BlockingScope
) -> None:
    computed: list[int] = []
    inside = 0

    @gs.cached("5m", key="double:{number}")
    async def double(number: int) -> int:
        computed.append(number)
        return 2 * number

    def work(_: int) -> int:
        nonlocal inside
        with blocking.lock("counter"):
            inside += 1
            assert inside == 1
            inside -= 1
        return blocking.call(double, 21)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(40))) == {42}
    assert computed == [21]


def test_errors_of_calls_and_blocks_are_raised(gs: Scope, blocking: BlockingScope) -> None:
    breaker = gs.circuit_breaker("payments", failure_threshold=1)
    error = ConnectionError("down")
    with pytest.raises(ConnectionError) as raised, blocking.circuit(breaker):
        raise error
    assert raised.value is error
    with pytest.raises(goscope.CircuitOpen), blocking.circuit(breaker):
        raise AssertionError("the circuit is open")
    with (
        blocking.lock("stock"),
        pytest.raises(goscope.LockTimeout),
        blocking.lock("stock", wait=0),
    ):
        raise AssertionError("the lock is held")
    with pytest.raises(goscope.ScopeNotOpen):
        blocking.call(Scope(backend="memory").cache.get, "key")


def test_a_call_that_is_marked_as_failed_counts(gs: Scope, blocking: BlockingScope) -> None:
    breaker = gs.circuit_breaker("payments", failure_threshold=1)
    with blocking.circuit(breaker) as call:
        call.fail()
    with pytest.raises(goscope.CircuitOpen), blocking.circuit(breaker):
        pass


def test_a_lease_that_is_lost_is_told_at_the_end_of_the_block() -> None:
    clock = FakeClock()
    gs = Scope(persistence=MemoryAdapter(locks="shared", clock=clock))
    with BlockingScope(gs) as blocking:
        block = blocking.lock("stock", ttl="10s", renew=False)
        handle = block.__enter__()
        blocking.call(clock.advance, "11s")
        assert handle.lost
        with pytest.raises(goscope.LeaseLost):
            block.__exit__(None, None, None)


class Interrupted(BaseException):
    """What a signal handler may raise in the main thread at any time."""


@pytest.mark.parametrize("results_before", [0, 1])
def test_an_interrupted_wait_leaves_no_lock_behind(
    blocking: BlockingScope, monkeypatch: pytest.MonkeyPatch, results_before: int
) -> None:
    """Wherever the thread waits, for the task to start or for the lock.

    So a soft time limit of Celery interrupts it, by an exception that a signal handler raises.
    """
    thread = threading.get_ident()
    waits = iter(range(100))
    result = Future[object].result

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        if threading.get_ident() == thread and next(waits) >= results_before:
            raise Interrupted
        return result(self, timeout)

    with blocking.lock("stock"), monkeypatch.context() as patched:
        waiting = blocking.lock("stock")
        patched.setattr(Future, "result", interrupted)
        with pytest.raises(Interrupted):
            waiting.__enter__()
        patched.undo()
    with blocking.lock("stock", wait="10s"):
        pass


def test_closing_ends_a_thread_that_waits(gs: Scope) -> None:
    blocking = BlockingScope(gs)
    blocking.open()
    with pytest.raises(goscope.ConfigurationError, match="already open"):
        blocking.open()
    ended: list[BaseException] = []
    waits = threading.Event()

    async def wait_for_lock() -> None:
        waits.set()
        async with gs.lock("stock"):
            raise AssertionError("the lock is held")

    def wait() -> None:
        try:
            blocking.call(wait_for_lock)
        except BaseException as exc:
            ended.append(exc)

    with ThreadPoolExecutor(1) as pool:
        held = blocking.lock("stock")
        held.__enter__()
        waiting = pool.submit(wait)
        assert waits.wait(30)
        blocking.close()
        waiting.result(30)
    blocking.close()
    assert len(ended) == 1
    assert not gs.is_open
    with pytest.raises(goscope.ScopeNotOpen, match="not open"):
        blocking.lock("stock")


def test_a_scope_that_cannot_be_opened_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(goscope.UnknownBackend):
        BlockingScope(Scope(backend="nothing")).open()
    assert threading.active_count() == before

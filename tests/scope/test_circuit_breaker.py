"""``gs.circuit_breaker``: counting failures, opening, its three forms and its settings."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goscope import CircuitBreaker, CircuitOpen, ConfigurationError, Scope
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

from .circuits import ServiceDown, fail, fail_times, must_not_run, state, work
from .support import PausedCall, Store

pytestmark = pytest.mark.asyncio


async def test_a_closed_circuit_passes_results_and_errors_through(breaker: CircuitBreaker) -> None:
    assert await breaker.call(work) == 7
    with pytest.raises(ServiceDown):
        await breaker.call(fail)


async def test_calls_through_a_closed_circuit_run_concurrently(breaker: CircuitBreaker) -> None:
    paused = PausedCall()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(breaker.call(paused.run))
        await paused.started(5)
        paused.resume()
    assert paused.max_running == 5


async def test_a_success_resets_the_failure_count(breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 2)
    await breaker.call(work)
    await fail_times(breaker, 2)
    assert await state(breaker) == ("closed", 2)


async def test_a_healthy_circuit_writes_nothing(gs: Scope, breaker: CircuitBreaker) -> None:
    await breaker.call(work)
    circuits = gs.persistence.circuit_breaker
    assert circuits is not None
    assert await circuits.get_state("api") is None


async def test_a_healthy_circuit_costs_one_read_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one, and one that has recovered; counted on all connections of the process."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    adapter = SQLiteAdapter(tmp_path / "store.db", clock=FakeClock())
    async with Scope(persistence=adapter) as gs:
        new, recovered = gs.circuit_breaker("new"), gs.circuit_breaker("recovered")
        await fail_times(recovered, 1)
        await recovered.call(work)
        for breaker in (new, recovered):
            statements.clear()
            for _ in range(10):
                await asyncio.sleep(0)  # several reads in one tick share a read transaction
                await breaker.call(work)
            reads = [it for it in statements if "FROM go_goscope_circuit " in it]
            assert len(reads) == 10
            assert statements == reads


async def test_failures_of_all_processes_count(
    breaker: CircuitBreaker, other_breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 2)
    await fail_times(other_breaker, 1)
    with pytest.raises(CircuitOpen):
        await breaker.call(work)


async def test_concurrent_failures_all_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("many", failure_threshold=50)
    results = await asyncio.gather(*(breaker.call(fail) for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {ServiceDown}
    assert await state(breaker) == ("open", 50)


async def test_at_the_threshold_the_circuit_opens_and_rejects_calls(
    store: Store, breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 3)
    await store.advance("10s")
    with pytest.raises(CircuitOpen, match="'api' is open: retry after 20 s") as caught:
        await breaker.call(must_not_run)
    assert caught.value.key == "api"
    assert caught.value.retry_after == 20.0


async def test_the_success_of_an_earlier_call_does_not_close_an_open_circuit(
    breaker: CircuitBreaker,
) -> None:
    paused = PausedCall()
    await fail_times(breaker, 1)
    slow = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    await fail_times(breaker, 2)
    paused.resume()
    await slow
    assert await state(breaker) == ("open", 3)


async def test_a_wall_clock_set_back_does_not_keep_a_circuit_open(
    store: Store, breaker: CircuitBreaker
) -> None:
    await fail_times(breaker, 3)
    store.clock.step_wall(-timedelta(seconds=20))
    with pytest.raises(CircuitOpen) as caught:
        await breaker.call(work)
    assert caught.value.retry_after == 30.0, "no more than the reset timeout"
    store.clock.step_wall(-timedelta(hours=1))
    assert await breaker.call(work) == 7


async def test_a_breaker_decorates_functions_and_methods(breaker: CircuitBreaker) -> None:
    @breaker
    async def double(number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    class Service:
        @breaker
        async def down(self) -> None:
            raise ServiceDown

    assert double.__name__ == "double"
    assert await double(3, plus=1) == 7
    for _ in range(3):
        with pytest.raises(ServiceDown):
            await Service().down()
    with pytest.raises(CircuitOpen):
        await double(3)


async def test_a_block_can_mark_its_call_as_failed(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        async with breaker as call:
            call.fail()
    with pytest.raises(ServiceDown):
        async with breaker:
            raise ServiceDown
    with pytest.raises(CircuitOpen):
        async with breaker:
            pytest.fail("an open circuit must not run the block")


async def test_blocks_of_concurrent_tasks_count_separately(breaker: CircuitBreaker) -> None:
    paused = PausedCall()

    async def one(fails: bool) -> None:
        async with breaker as call:
            await paused.run()
            if fails:
                call.fail()

    async with asyncio.TaskGroup() as group:
        for fails in (True, False, True):
            group.create_task(one(fails))
        await paused.started(3)
        paused.resume()
    assert (await breaker.state()).state == "closed"


async def test_blocks_of_one_breaker_nest(breaker: CircuitBreaker) -> None:
    async with breaker as outer:
        async with breaker:
            pass
        outer.fail()
    assert await state(breaker) == ("closed", 1)


async def test_a_plain_function_is_refused(breaker: CircuitBreaker) -> None:
    def plain() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        breaker(plain)  # type: ignore[arg-type]  # wrong on purpose


async def test_one_key_has_one_set_of_settings(gs: Scope) -> None:
    gs.circuit_breaker("api", failure_threshold=3, reset_timeout="1m")
    gs.circuit_breaker("api", failure_threshold=3, reset_timeout=timedelta(minutes=1))
    with pytest.raises(ConfigurationError, match="circuit 'api' already has other settings"):
        gs.circuit_breaker("api", failure_threshold=4, reset_timeout="1m")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"failure_threshold": 0}, ValueError),
        ({"failure_threshold": 2.5}, ValueError),
        ({"success_threshold": 0}, ValueError),
        ({"success_threshold": True}, ValueError),
        ({"reset_timeout": 30}, TypeError),
        ({"reset_timeout": "0s"}, ValueError),
        ({"on": "OSError"}, TypeError),
        ({"on": (OSError, "ValueError")}, TypeError),
    ],
    ids=str,
)
async def test_invalid_settings_are_refused(
    gs: Scope, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        gs.circuit_breaker("api", **options)

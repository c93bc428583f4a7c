"""``gs.idempotency``: results, replays, fingerprints and events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import CorruptValue, FingerprintMismatch, Scope
from goscope.events import IdempotentExecuted, IdempotentReplayed, IdempotentStarted
from goscope.testing import record_events

from .factories import fail
from .payments import PaymentService, Receipt
from .support import PausedCall, Store, ticks

pytestmark = pytest.mark.asyncio


async def test_a_call_runs_once_and_is_replayed(gs: Scope, other: Scope) -> None:
    payments = PaymentService()
    for scope in (gs, gs, other):
        receipt = await scope.idempotency.run("charge:7", payments.charge, type=Receipt)
        assert receipt == Receipt(1)
    assert payments.charges == 1


async def test_another_key_is_another_call(gs: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("charge:7", payments.charge)
    assert await gs.idempotency.run("charge:8", payments.charge) == {"number": 2}


async def test_a_result_of_none_is_replayed(gs: Scope) -> None:
    calls = 0

    async def nothing() -> Any:
        nonlocal calls
        calls += 1

    assert await gs.idempotency.run("key", nothing) is None
    assert await gs.idempotency.run("key", nothing) is None
    assert calls == 1


async def test_a_result_is_forgotten_after_its_ttl(store: Store, gs: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("key", payments.charge)
    await gs.idempotency.run("kept", payments.charge, ttl=None)
    store.clock.step_wall("23h")
    await gs.idempotency.run("key", payments.charge)
    assert payments.charges == 2
    store.clock.step_wall("2h")
    await gs.idempotency.run("key", payments.charge)
    assert payments.charges == 3
    store.clock.step_wall("365d")
    await gs.idempotency.run("kept", payments.charge)
    assert payments.charges == 3


async def test_errors_are_not_remembered(gs: Scope) -> None:
    with pytest.raises(ZeroDivisionError):
        await gs.idempotency.run("key", fail)
    assert await gs.idempotency.run("key", PaymentService().charge) == {"number": 1}


async def test_the_first_call_and_a_replay_get_equal_copies(gs: Scope) -> None:
    async def rows() -> Any:
        return [(1, 2)]

    first = await gs.idempotency.run("key", rows)
    second = await gs.idempotency.run("key", rows)
    assert first == second == [[1, 2]]
    assert first is not second


async def test_run_detailed_reports_a_replay(gs: Scope) -> None:
    payments = PaymentService()
    first = await gs.idempotency.run_detailed("key", payments.charge, type=Receipt)
    second = await gs.idempotency.run_detailed("key", payments.charge, type=Receipt)
    assert (first.value, first.replayed) == (Receipt(1), False)
    assert (second.value, second.replayed) == (Receipt(1), True)


async def test_a_stored_result_that_does_not_fit_the_type_is_an_error_and_is_kept(
    gs: Scope,
) -> None:
    await gs.idempotency.run("key", PaymentService().charge)
    with pytest.raises(CorruptValue, match="key"):
        await gs.idempotency.run("key", PaymentService().charge, type=list[int])
    assert await gs.idempotency.run("key", fail, type=Receipt) == Receipt(1)


async def test_results_can_be_read_and_deleted(gs: Scope) -> None:
    assert await gs.idempotency.get("key") is None
    await gs.idempotency.run("key", PaymentService().charge)
    record = await gs.idempotency.get("key")
    assert record is not None
    assert record.value == {"number": 1}
    assert await gs.idempotency.delete("key") is True
    assert await gs.idempotency.delete("key") is False
    await gs.idempotency.run("key", PaymentService().charge)


async def test_another_fingerprint_under_the_same_key_is_refused(gs: Scope, other: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("key", payments.charge, fingerprint={"amount": 5, "to": "ada"})
    await other.idempotency.run("key", payments.charge, fingerprint={"to": "ada", "amount": 5})
    with pytest.raises(FingerprintMismatch, match="'key'"):
        await gs.idempotency.run("key", payments.charge, fingerprint={"amount": 6, "to": "ada"})
    assert payments.charges == 1


async def test_without_a_fingerprint_no_payload_is_compared(gs: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("one", payments.charge, fingerprint="a")
    await gs.idempotency.run("one", payments.charge)
    await gs.idempotency.run("two", payments.charge)
    await gs.idempotency.run("two", payments.charge, fingerprint="a")
    assert payments.charges == 2


async def test_a_duplicate_in_flight_with_another_fingerprint_is_refused(gs: Scope) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run, fingerprint="a"))
    await paused.started()
    same = asyncio.create_task(gs.idempotency.run("key", paused.run, fingerprint="a"))
    second = asyncio.create_task(gs.idempotency.run("key", paused.run, fingerprint="b"))
    await ticks()
    paused.resume()
    await asyncio.gather(first, same)
    with pytest.raises(FingerprintMismatch):
        await second


async def test_executions_and_replays_emit_events(gs: Scope) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        calls = [asyncio.create_task(gs.idempotency.run("key", paused.run)) for _ in range(2)]
        await paused.started()
        await ticks()
        paused.resume()
        await asyncio.gather(*calls)
        await gs.idempotency.run("key", fail)
    emitted = [type(event) for event in events]
    assert emitted == [
        IdempotentStarted,
        IdempotentExecuted,
        IdempotentReplayed,
        IdempotentReplayed,
    ]


async def test_the_durations_are_those_of_the_execution_and_of_the_wait(
    store: Store, gs: Scope
) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        first = asyncio.create_task(gs.idempotency.run("key", paused.run))
        await paused.started()
        await store.advance("2s")
        second = asyncio.create_task(gs.idempotency.run("key", paused.run))
        await store.wait_until_idle()
        await store.advance("1s")
        paused.resume()
        await asyncio.gather(first, second)
        await gs.idempotency.run("key", fail)
    assert [(type(event), event.duration_ms) for event in events] == [
        (IdempotentStarted, 0),
        (IdempotentExecuted, 3000),
        (IdempotentReplayed, 1000),
        (IdempotentReplayed, 0),
    ]


async def test_a_refused_replay_emits_no_event(gs: Scope) -> None:
    await gs.idempotency.run("key", PaymentService().charge, fingerprint="a")
    with record_events(gs) as events, pytest.raises(FingerprintMismatch):
        await gs.idempotency.run("key", fail, fingerprint="b")
    assert events == []


async def test_a_bare_number_is_not_a_duration(gs: Scope) -> None:
    with pytest.raises(TypeError, match="'5s'"):
        await gs.idempotency.run("key", PaymentService().charge, wait=5)
    with pytest.raises(TypeError, match="'60s'"):
        await gs.idempotency.run("key", PaymentService().charge, ttl=60)  # type: ignore[call-overload]  # wrong on purpose

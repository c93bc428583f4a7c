"""``gs.idempotency.run`` and ``@gs.idempotent``: one execution per key, its result for everyone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from goscope import (
    ConfigurationError,
    CorruptValue,
    FingerprintMismatch,
    IdempotencyRecord,
    LeaseLost,
    OperationInProgress,
    Scope,
    SerializationError,
)
from goscope.backend.records import RecordIdempotencyProvider
from goscope.events import IdempotentExecuted, IdempotentReplayed
from goscope.memory import MemoryAdapter
from goscope.testing import record_events

from .support import PausedCall, Store, lease_watchers, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio


@dataclass
class Receipt:
    number: int


class PaymentService:
    """A service that must be called once; it numbers its receipts."""

    def __init__(self) -> None:
        self.charges = 0

    async def charge(self) -> Any:
        self.charges += 1
        return Receipt(self.charges)


async def fail() -> Any:
    raise ZeroDivisionError


# --- once ------------------------------------------------------------------------------------


async def test_it_runs_once_and_is_replayed(gs: Scope, other: Scope) -> None:
    payments = PaymentService()
    for scope in (gs, gs, other):
        receipt = await scope.idempotency.run("charge:7", payments.charge, type=Receipt)
        assert receipt == Receipt(1)
    assert payments.charges == 1


async def test_another_key_is_another_call(gs: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("charge:7", payments.charge)
    assert await gs.idempotency.run("charge:8", payments.charge) == {"number": 2}


async def test_a_result_of_none_is_a_result(gs: Scope) -> None:
    calls = 0

    async def nothing() -> Any:
        nonlocal calls
        calls += 1

    assert await gs.idempotency.run("key", nothing) is None
    assert await gs.idempotency.run("key", nothing) is None
    assert calls == 1


async def test_it_is_forgotten_after_its_ttl(store: Store, gs: Scope) -> None:
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


async def test_a_result_json_cannot_carry_is_an_error_and_is_not_remembered(gs: Scope) -> None:
    async def wrong() -> object:
        return object()

    with pytest.raises(SerializationError):
        await gs.idempotency.run("key", wrong)
    assert await gs.idempotency.get("key") is None


async def test_who_ran_and_who_replays_get_equal_values_of_their_own(gs: Scope) -> None:
    async def rows() -> Any:
        return [(1, 2)]

    first = await gs.idempotency.run("key", rows)
    second = await gs.idempotency.run("key", rows)
    assert first == second == [[1, 2]]
    assert first is not second


async def test_once_detailed_tells_a_replay(gs: Scope) -> None:
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


async def test_results_can_be_looked_at_and_forgotten(gs: Scope) -> None:
    assert await gs.idempotency.get("key") is None
    await gs.idempotency.run("key", PaymentService().charge)
    record = await gs.idempotency.get("key")
    assert record is not None
    assert record.value == {"number": 1}
    assert await gs.idempotency.delete("key") is True
    assert await gs.idempotency.delete("key") is False
    await gs.idempotency.run("key", PaymentService().charge)


# --- in flight -------------------------------------------------------------------------------


async def test_duplicates_in_flight_wait_and_get_the_result(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()

    def call(scope: Scope) -> asyncio.Task[Any]:
        return asyncio.create_task(scope.idempotency.run_detailed("key", lambda: paused.run(7)))

    calls = [call(gs)]
    await paused.started()
    calls += [call(scope) for scope in (gs, gs, other, other)]
    await store.wait_until_idle()
    await store.advance("15s")  # more than a lease: it is renewed
    paused.resume()
    await store.advance("1s")
    results = await asyncio.gather(*calls)
    assert [result.value for result in results] == [7] * 5
    assert [result.replayed for result in results] == [False, True, True, True, True]
    assert paused.calls == 1


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_wait_0_does_not_wait(gs: Scope, other: Scope, elsewhere: bool) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    scope = other if elsewhere else gs
    with pytest.raises(OperationInProgress, match="'key' is still in progress"):
        await scope.idempotency.run("key", paused.run, wait=0)
    paused.resume()
    await first


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_wait_that_is_over_is_told(
    store: Store, gs: Scope, other: Scope, elsewhere: bool
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    scope = other if elsewhere else gs
    second = asyncio.create_task(scope.idempotency.run("key", paused.run, wait="3s"))
    await store.wait_until_idle()
    await store.advance("2500ms")
    assert not second.done()
    await store.advance("1s")
    with pytest.raises(OperationInProgress):
        await asyncio.wait_for(second, 10)
    paused.resume()
    await first


async def test_wait_0_runs_what_nobody_runs_and_replays_what_is_stored(gs: Scope) -> None:
    payments = PaymentService()
    for _ in range(2):
        assert await gs.idempotency.run("key", payments.charge, wait=0, type=Receipt) == Receipt(1)


async def test_who_does_not_wait_does_not_speak_for_those_who_do(
    store: Store, gs: Scope, other: Scope
) -> None:
    """The first here gives up on the other process; the second waits on, as it said."""
    paused = PausedCall()
    first = asyncio.create_task(other.idempotency.run("key", lambda: paused.run(7)))
    await paused.started()
    hasty = asyncio.create_task(gs.idempotency.run("key", paused.run, wait="1s"))
    await store.wait_until_idle()
    patient = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await store.wait_until_idle()
    await store.advance("2s")
    with pytest.raises(OperationInProgress):
        await hasty
    paused.resume()
    await store.advance("1s")
    assert await patient == await first == 7
    assert paused.calls == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_the_leaders_error_is_everyones_in_its_process(
    gs: Scope, error: type[Exception]
) -> None:
    """A TimeoutError of its own is no timeout of the wait."""
    paused = PausedCall()

    async def failing() -> None:
        await paused.run()
        raise error

    calls = [asyncio.create_task(gs.idempotency.run("key", failing, wait="1m")) for _ in range(4)]
    await paused.started()
    paused.resume()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [error] * 4
    assert paused.calls == 1


async def test_after_an_error_other_processes_take_over_one_at_a_time(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused, second = PausedCall(), PausedCall()

    async def failing() -> None:
        await paused.run()
        raise ZeroDivisionError

    first = asyncio.create_task(gs.idempotency.run("key", failing))
    await paused.started()
    calls = [
        asyncio.create_task(other.idempotency.run("key", lambda: second.run(7))) for _ in range(3)
    ]
    await store.wait_until_idle()
    paused.resume()
    with pytest.raises(ZeroDivisionError):
        await first
    second.resume()
    await store.advance("1s")
    assert await asyncio.gather(*calls) == [7, 7, 7]
    assert second.calls == 1


async def test_a_cancelled_leader_is_replaced_by_one_who_waits(gs: Scope) -> None:
    paused, payments = PausedCall(), PaymentService()
    leader = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    calls = [asyncio.create_task(gs.idempotency.run("key", payments.charge)) for _ in range(3)]
    await ticks()
    leader.cancel()
    assert await asyncio.gather(*calls) == [{"number": 1}] * 3
    assert payments.charges == 1


async def test_a_caller_that_died_is_replaced_when_its_lease_ends(store: Store, gs: Scope) -> None:
    assert await leases_of(gs).acquire("idempotency:key", "10s") is not None
    call = asyncio.create_task(gs.idempotency.run("key", PaymentService().charge))
    await store.wait_until_idle()
    await store.advance("9s")
    assert not call.done()
    await store.advance("2s")
    await wait_until(call.done)
    assert await call == {"number": 1}


async def test_a_late_completion_is_refused(store: Store, gs: Scope, other: Scope) -> None:
    paused = PausedCall()

    async def late() -> str:
        await asyncio.shield(asyncio.ensure_future(paused.run()))
        return "late"

    first = asyncio.create_task(gs.idempotency.run("key", late))
    await paused.started()
    await leases_of(gs).force_release("idempotency:key")
    assert await other.idempotency.run("key", PaymentService().charge) == {"number": 1}
    paused.resume()
    with pytest.raises(LeaseLost):
        await first
    record = await gs.idempotency.get("key")
    assert record is not None
    assert record.value == {"number": 1}


async def test_a_caller_that_lost_its_lease_is_ended(store: Store, gs: Scope) -> None:
    """One of those who wait in its process takes over."""
    paused, payments = PausedCall(), PaymentService()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    second = asyncio.create_task(gs.idempotency.run("key", payments.charge))
    await store.wait_until_idle()
    await leases_of(gs).force_release("idempotency:key")
    await store.advance("4s")
    with pytest.raises(LeaseLost):
        await first
    assert paused.running == 0
    assert await second == {"number": 1}


class LateResults(RecordIdempotencyProvider):
    """Another process completes the call just after it was first looked for."""

    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        record = await super().get(key, type=type)
        if record is None:
            await self.set(key, "meanwhile")
        return record


@pytest.mark.parametrize("wait", [None, "5s"])
async def test_a_call_that_asks_for_its_own_result_is_an_error(gs: Scope, wait: str | None) -> None:
    async def recursive() -> Any:
        await gs.idempotency.run("other", PaymentService().charge)
        return await gs.idempotency.run("key", recursive, wait=wait)

    with pytest.raises(RuntimeError, match="'key' asks for 'key' itself"):
        await asyncio.wait_for(gs.idempotency.run("key", recursive), 10)
    assert await gs.idempotency.run("key", PaymentService().charge) == {"number": 1}


async def test_a_call_that_does_not_wait_for_itself_is_told_that_it_is_in_progress(
    gs: Scope,
) -> None:
    async def charge() -> str:
        with pytest.raises(OperationInProgress):
            await gs.idempotency.run("key", charge, wait=0)
        return "charged"

    assert await gs.idempotency.run("key", charge) == "charged"


async def test_a_result_stored_between_look_and_grant_is_replayed() -> None:
    adapter = MemoryAdapter()
    adapter.idempotency = LateResults(adapter.context, adapter, adapter.lease.notifier)
    async with Scope(persistence=adapter) as gs:
        result = await gs.idempotency.run_detailed("key", fail)
    assert (result.value, result.replayed) == ("meanwhile", True)


async def test_a_result_stored_by_another_program_ends_the_wait(
    store: Store, gs: Scope, other: Scope
) -> None:
    """One that knows nothing of the lease, as a service under Bun."""
    paused = PausedCall()
    leader = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    follower = asyncio.create_task(other.idempotency.run("key", fail))
    await store.wait_until_idle()
    results = other.persistence.idempotency
    assert results is not None
    await results.set("key", "theirs")
    await store.advance("1s")
    assert await asyncio.wait_for(follower, 10) == "theirs"
    paused.resume()
    await leader


async def test_a_renewal_just_behind_the_result_does_not_end_the_call(
    store: Store, gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease has ended with the result, so the renewal is refused, which is no loss."""
    results = gs.persistence.idempotency
    assert results is not None
    store_result = results.set

    async def slow(*arguments: Any, **options: Any) -> None:
        await store_result(*arguments, **options)
        await store.advance("4s")  # renewed at a third of 10 s

    monkeypatch.setattr(results, "set", slow)
    assert await gs.idempotency.run("key", PaymentService().charge) == {"number": 1}


async def test_the_lease_ends_with_the_result(gs: Scope) -> None:
    await gs.idempotency.run("key", PaymentService().charge)
    assert await leases_of(gs).holder("idempotency:key") is None
    assert lease_watchers() == []


async def test_a_wait_that_is_a_bare_number_is_refused(gs: Scope) -> None:
    with pytest.raises(TypeError, match="'5s'"):
        await gs.idempotency.run("key", PaymentService().charge, wait=5)
    with pytest.raises(TypeError, match="'60s'"):
        await gs.idempotency.run("key", PaymentService().charge, ttl=60)  # type: ignore[call-overload]  # wrong on purpose


# --- fingerprints ----------------------------------------------------------------------------


async def test_another_fingerprint_under_the_same_key_is_refused(gs: Scope, other: Scope) -> None:
    payments = PaymentService()
    await gs.idempotency.run("key", payments.charge, fingerprint={"amount": 5, "to": "ada"})
    await other.idempotency.run("key", payments.charge, fingerprint={"to": "ada", "amount": 5})
    with pytest.raises(FingerprintMismatch, match="'key'"):
        await gs.idempotency.run("key", payments.charge, fingerprint={"amount": 6, "to": "ada"})
    assert payments.charges == 1


async def test_without_a_fingerprint_nothing_is_compared(gs: Scope) -> None:
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


# --- the decorator ---------------------------------------------------------------------------


async def test_an_idempotent_function_runs_once_for_its_key(gs: Scope) -> None:
    payments = PaymentService()

    @gs.idempotent("charge:{order_id}", ttl="1h")
    async def charge(order_id: str, amount: int = 5) -> Receipt:
        receipt: Receipt = await payments.charge()
        return receipt

    assert charge.__name__ == "charge"
    assert await charge("a") == await charge(order_id="a", amount=6) == Receipt(1)
    assert await charge("b") == Receipt(2)
    record = await gs.idempotency.get("charge:a")
    assert record is not None
    assert record.expires_at is not None


async def test_an_idempotent_method(gs: Scope) -> None:
    class Shop:
        def __init__(self) -> None:
            self.payments = PaymentService()

        @gs.idempotent("{order_id}", fingerprint="{amount}")
        async def charge(self, order_id: str, amount: int) -> Receipt:
            receipt: Receipt = await self.payments.charge()
            return receipt

    shop = Shop()
    assert await shop.charge("a", 5) == await shop.charge("a", 5) == Receipt(1)
    with pytest.raises(FingerprintMismatch):
        await shop.charge("a", 6)


async def test_the_decorator_takes_a_wait(gs: Scope) -> None:
    paused = PausedCall()

    @gs.idempotent("key", wait=0)
    async def charge() -> None:
        await paused.run()

    first = asyncio.create_task(charge())
    await paused.started()
    with pytest.raises(OperationInProgress):
        await charge()
    paused.resume()
    await first


DECORATIONS: dict[str, Callable[[Scope], Callable[[Any], Any]]] = {
    "key": lambda gs: gs.idempotent("charge:{order}"),
    "fingerprint": lambda gs: gs.idempotent("charge:{order_id}", fingerprint="{order}"),
}


@pytest.mark.parametrize("decoration", DECORATIONS.values(), ids=DECORATIONS)
async def test_templates_are_checked_at_decoration(
    gs: Scope, decoration: Callable[[Scope], Callable[[Any], Awaitable[object]]]
) -> None:
    async def charge(order_id: str) -> None: ...

    with pytest.raises(ConfigurationError, match="names 'order', which is not a parameter"):
        decoration(gs)(charge)


async def test_an_empty_key_part_is_refused_at_the_call(gs: Scope) -> None:
    @gs.idempotent("charge:{order_id}")
    async def charge(order_id: str | None) -> None:
        pytest.fail("all orders without an id would be one")

    for nothing in (None, ""):
        with pytest.raises(ValueError, match="order_id is None or empty"):
            await charge(nothing)


# --- events ----------------------------------------------------------------------------------


async def test_executions_and_replays_are_told(gs: Scope) -> None:
    paused = PausedCall()
    with record_events(gs) as events:
        calls = [asyncio.create_task(gs.idempotency.run("key", paused.run)) for _ in range(2)]
        await paused.started()
        await ticks()
        paused.resume()
        await asyncio.gather(*calls)
        await gs.idempotency.run("key", fail)
    told = [type(event) for event in events]
    assert told == [IdempotentExecuted, IdempotentReplayed, IdempotentReplayed]


async def test_the_durations_are_the_execution_and_the_wait_for_it(store: Store, gs: Scope) -> None:
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
    assert events == [
        IdempotentExecuted(key="key", duration_ms=3000),
        IdempotentReplayed(key="key", duration_ms=1000),
        IdempotentReplayed(key="key", duration_ms=0),
    ]


async def test_a_refused_replay_is_not_told_as_one(gs: Scope) -> None:
    await gs.idempotency.run("key", PaymentService().charge, fingerprint="a")
    with record_events(gs) as events, pytest.raises(FingerprintMismatch):
        await gs.idempotency.run("key", fail, fingerprint="b")
    assert events == []

"""Idempotent calls in flight: duplicates wait, and one takes over when the call fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import IdempotencyRecord, LeaseLost, OperationInProgress, Scope
from goscope.backend.records import RecordIdempotencyProvider
from goscope.memory import MemoryAdapter

from .factories import fail
from .payments import PaymentService, Receipt
from .support import PausedCall, Store, lease_watchers, leases_of, ticks, wait_until

pytestmark = pytest.mark.asyncio


async def test_duplicates_wait_for_the_call_in_flight_and_get_its_result(
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


@pytest.mark.parametrize("in_other_process", [False, True])
async def test_wait_0_does_not_wait(gs: Scope, other: Scope, in_other_process: bool) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    scope = other if in_other_process else gs
    with pytest.raises(OperationInProgress, match="'key' is still in progress"):
        await scope.idempotency.run("key", paused.run, wait=0)
    paused.resume()
    await first


@pytest.mark.parametrize("in_other_process", [False, True])
async def test_a_wait_that_is_over_raises_operation_in_progress(
    store: Store, gs: Scope, other: Scope, in_other_process: bool
) -> None:
    paused = PausedCall()
    first = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    scope = other if in_other_process else gs
    second = asyncio.create_task(scope.idempotency.run("key", paused.run, wait="3s"))
    await store.wait_until_idle()
    await store.advance("2500ms")
    assert not second.done()
    await store.advance("1s")
    with pytest.raises(OperationInProgress):
        await asyncio.wait_for(second, 10)
    paused.resume()
    await first


async def test_wait_0_runs_a_new_call_and_replays_a_stored_result(gs: Scope) -> None:
    payments = PaymentService()
    for _ in range(2):
        assert await gs.idempotency.run("key", payments.charge, wait=0, type=Receipt) == Receipt(1)


async def test_a_caller_that_times_out_does_not_end_the_wait_of_another(
    store: Store, gs: Scope, other: Scope
) -> None:
    """The first caller here times out on the other process; the second keeps waiting."""
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
async def test_the_callers_of_the_leaders_process_share_its_error(
    gs: Scope, error: type[Exception]
) -> None:
    """A ``TimeoutError`` of the call is not taken for one of the wait."""
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


async def test_a_waiter_replaces_a_cancelled_leader(gs: Scope) -> None:
    paused, payments = PausedCall(), PaymentService()
    leader = asyncio.create_task(gs.idempotency.run("key", paused.run))
    await paused.started()
    calls = [asyncio.create_task(gs.idempotency.run("key", payments.charge)) for _ in range(3)]
    await ticks()
    leader.cancel()
    assert await asyncio.gather(*calls) == [{"number": 1}] * 3
    assert payments.charges == 1


async def test_a_caller_that_died_is_replaced_when_its_lease_expires(
    store: Store, gs: Scope
) -> None:
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


async def test_a_caller_that_lost_its_lease_is_cancelled(store: Store, gs: Scope) -> None:
    """A waiter of its process takes over."""
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
    """Another process completes the call right after the first lookup."""

    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        record = await super().get(key, type=type)
        if record is None:
            await self.set(key, "theirs")
        return record


@pytest.mark.parametrize("wait", [None, "5s"])
async def test_a_call_that_asks_for_its_own_result_is_an_error(gs: Scope, wait: str | None) -> None:
    async def recursive() -> Any:
        await gs.idempotency.run("other", PaymentService().charge)
        return await gs.idempotency.run("key", recursive, wait=wait)

    with pytest.raises(RuntimeError, match="'key' asks for 'key' itself"):
        await asyncio.wait_for(gs.idempotency.run("key", recursive), 10)
    assert await gs.idempotency.run("key", PaymentService().charge) == {"number": 1}


async def test_a_call_that_does_not_wait_for_itself_gets_operation_in_progress(
    gs: Scope,
) -> None:
    async def charge() -> str:
        with pytest.raises(OperationInProgress):
            await gs.idempotency.run("key", charge, wait=0)
        return "charged"

    assert await gs.idempotency.run("key", charge) == "charged"


async def test_a_result_stored_between_lookup_and_grant_is_replayed() -> None:
    adapter = MemoryAdapter()
    adapter.idempotency = LateResults(adapter.context, adapter, adapter.lease.notifier)
    async with Scope(persistence=adapter) as gs:
        result = await gs.idempotency.run_detailed("key", fail)
    assert (result.value, result.replayed) == ("theirs", True)


async def test_a_result_stored_by_another_program_ends_the_wait(
    store: Store, gs: Scope, other: Scope
) -> None:
    """A program that ignores the lease, such as a service under Bun."""
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


async def test_a_renewal_right_after_the_result_does_not_cancel_the_call(
    store: Store, gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing the result ends the lease: the renewal is refused, but nothing is lost."""
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

"""Idempotent calls that succeed and whose result cannot be stored: they never run again."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from goscope import (
    MISSING,
    BackendBusy,
    BackendFull,
    FingerprintMismatch,
    ResultNotStored,
    Scope,
    SerializationError,
)
from goscope.backend.records import RecordIdempotencyProvider
from goscope.memory import MemoryAdapter
from goscope.testing import record_events

from .factories import fail
from .support import PausedCall, Store, ticks

pytestmark = pytest.mark.asyncio


class Receipt:
    """What an SDK returns: JSON has no form for it."""

    def __init__(self, number: str, amount: Decimal) -> None:
        self.number, self.amount = number, amount


class Till:
    """Charges, and counts how often."""

    def __init__(self, result: Any = None) -> None:
        self.charges = 0
        self._result = Receipt("r-1", Decimal("12.50")) if result is None else result

    async def charge(self) -> Any:
        self.charges += 1
        return self._result


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    breed: str = "beagle"


async def test_the_call_runs_once_and_every_caller_is_told(gs: Scope, other: Scope) -> None:
    till = Till()
    for scope in (gs, gs, other):
        with pytest.raises(ResultNotStored, match=r"'charge:1' succeeded.*no JSON form") as caught:
            await scope.idempotency.run("charge:1", till.charge)
        assert caught.value.key == "charge:1"
        assert "no JSON form" in caught.value.reason
    assert till.charges == 1
    with pytest.raises(ResultNotStored):
        await gs.idempotency.get("charge:1")


async def test_the_caller_that_ran_it_gets_the_result_with_the_error(
    gs: Scope, other: Scope
) -> None:
    till = Till()
    with pytest.raises(ResultNotStored) as first:
        await gs.idempotency.run("charge:1", till.charge)
    assert first.value.result.number == "r-1"
    assert isinstance(first.value.__cause__, SerializationError)
    with pytest.raises(ResultNotStored) as later:
        await other.idempotency.run("charge:1", till.charge)
    assert later.value.result is MISSING


async def test_the_error_can_be_pickled_although_the_result_cannot(gs: Scope) -> None:
    async def charge() -> Any:
        return lambda: None

    with pytest.raises(ResultNotStored) as caught:
        await gs.idempotency.run("charge:1", charge)
    found = pickle.loads(pickle.dumps(caught.value))
    assert (found.key, found.reason, found.result) == ("charge:1", caught.value.reason, MISSING)


async def test_callers_in_flight_are_told_too(gs: Scope, other: Scope, store: Store) -> None:
    paused = PausedCall()
    result = Receipt("r-1", Decimal(1))
    callers = [
        asyncio.create_task(scope.idempotency.run("key", lambda: paused.run(result)))
        for scope in (gs, gs, other)
    ]
    await paused.started()
    await store.wait_until_idle()
    paused.resume()
    told = asyncio.gather(*callers, return_exceptions=True)
    while not told.done():  # whichever scope waits for the other one polls
        await store.advance("1s")
    errors = await told
    assert [type(error) for error in errors] == [ResultNotStored] * 3
    assert paused.calls == 1


async def test_another_payload_is_told_so(gs: Scope) -> None:
    till = Till()
    with pytest.raises(ResultNotStored):
        await gs.idempotency.run("key", till.charge, fingerprint={"cents": 1})
    with pytest.raises(FingerprintMismatch):
        await gs.idempotency.run("key", till.charge, fingerprint={"cents": 2})
    assert till.charges == 1


async def test_a_deleted_or_expired_completion_lets_the_call_run_again(
    store: Store, gs: Scope
) -> None:
    till = Till()
    for _ in range(2):
        with pytest.raises(ResultNotStored):
            await gs.idempotency.run("key", till.charge, ttl="1h")
        store.clock.step_wall("2h")
    assert till.charges == 2
    with pytest.raises(ResultNotStored):
        await gs.idempotency.run("key", till.charge, ttl="1h")
    assert await gs.idempotency.delete("key")
    assert await gs.idempotency.run("key", lambda: "new") == "new"


def no_ttl(result: object) -> Any:
    raise LookupError("no ttl")


UNSTORABLE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "NaN": (float("nan"), {}, "nan"),
    "wrong type": ({"surname": "x"}, {"type": Animal}, "required field `name`"),
    "subclass in a list": ([Dog("rex")], {"type": list[Animal]}, "a Dog comes back as a Animal"),
    "reserved": ({"goscope:result_not_stored": ""}, {}, "is reserved"),
    "ttl raises": (1, {"ttl": no_ttl}, "no ttl"),
    "ttl without a unit": (5, {"ttl": int}, "5s"),
    "when raises": (1, {"when": no_ttl}, "no ttl"),
}


@pytest.mark.parametrize(("result", "options", "reason"), UNSTORABLE.values(), ids=UNSTORABLE)
async def test_whatever_fails_after_the_body_does_not_run_it_again(
    gs: Scope, result: Any, options: dict[str, Any], reason: str
) -> None:
    till = Till(result)
    for _ in range(2):
        with pytest.raises(ResultNotStored) as caught:
            await gs.idempotency.run("key", till.charge, **options)
        assert reason in caught.value.reason
    assert till.charges == 1


async def test_go_go_scope_finds_a_result_that_names_what_happened(gs: Scope) -> None:
    """It would take an undecodable text, or no row, for a call that has to be run."""
    with pytest.raises(ResultNotStored):
        await gs.idempotency.run("key", Till().charge)
    assert gs.persistence.idempotency is not None
    record = await gs.persistence.idempotency.get("key")
    assert record is not None
    assert list(record.value) == ["goscope:result_not_stored"]


async def test_an_integer_that_javascript_cannot_read_is_remembered_as_done(
    tmp_path: Path,
) -> None:
    till = Till(2**60)
    async with Scope(backend="sqlite-bun", path=str(tmp_path / "app.db")) as gs:
        for _ in range(2):
            with pytest.raises(ResultNotStored, match=r"2\*\*53"):
                await gs.idempotency.run("key", till.charge)
    assert till.charges == 1


async def test_a_cancelled_caller_stores_the_result_of_a_finished_body(
    gs: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write has not begun when the caller is cancelled."""
    till = Till("receipt")
    provider = gs.persistence.idempotency
    assert provider is not None
    write, began, go_on = provider.set, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> None:
        began.set()
        await go_on.wait()
        await write(*args, **kwargs)

    monkeypatch.setattr(provider, "set", slow)
    caller = asyncio.create_task(gs.idempotency.run("key", till.charge))
    await began.wait()
    caller.cancel()
    await ticks()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await gs.idempotency.run("key", fail) == "receipt"
    assert till.charges == 1


class FailingStore(RecordIdempotencyProvider):
    """Refuses the next writes with these errors."""

    def __init__(self, adapter: MemoryAdapter, errors: list[Exception]) -> None:
        super().__init__(adapter.context, adapter, adapter.lease.notifier)
        self.errors = errors

    async def set(self, key: str, value: Any, ttl: Any = None, **options: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await super().set(key, value, ttl, **options)


def failing_scope(errors: list[Exception]) -> Scope:
    adapter = MemoryAdapter()
    adapter.idempotency = FailingStore(adapter, errors)
    return Scope(persistence=adapter)


async def test_a_busy_store_is_asked_once_more() -> None:
    till = Till("receipt")
    async with failing_scope([BackendBusy("locked")]) as gs:
        assert await gs.idempotency.run("key", till.charge) == "receipt"
        assert await gs.idempotency.run("key", till.charge) == "receipt"
    assert till.charges == 1


async def test_a_result_the_store_refuses_is_remembered_as_done() -> None:
    till = Till("receipt")
    async with failing_scope([BackendFull("no space for 2 GB")]) as gs:
        for _ in range(2):
            with pytest.raises(ResultNotStored, match="no space for 2 GB"):
                await gs.idempotency.run("key", till.charge)
    assert till.charges == 1


@pytest.mark.parametrize("error", [BackendBusy, BackendFull])
async def test_a_store_that_records_nothing_says_that_the_call_succeeded(
    error: Callable[[str], Exception],
) -> None:
    till = Till("receipt")
    async with failing_scope([error("refused"), error("refused")]) as gs:
        with pytest.raises((BackendBusy, BackendFull)) as caught:
            await gs.idempotency.run("key", till.charge)
        assert "the next call with this key runs it again" in caught.value.__notes__[0]
        assert await gs.idempotency.run("key", till.charge) == "receipt"
    assert till.charges == 2


async def test_the_execution_is_reported_as_one_that_ended_well(gs: Scope) -> None:
    with record_events(gs) as events, pytest.raises(ResultNotStored):
        await gs.idempotency.run("key", Till().charge)
    assert "IdempotentExecuted" in [type(event).__name__ for event in events]

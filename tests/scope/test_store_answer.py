"""`answer_within` and `SingleFlight`, where the features bring about only some of the cases.

Both are private.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goscope import BackendBusy
from goscope._single_flight import Flight, SingleFlight
from goscope._store_answer import answer_within
from goscope.testing import FakeClock

from .support import PausedCall, ticks

pytestmark = pytest.mark.asyncio


class Request:
    """A request to a store that ignores its cancellation, and what reverts it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.paused = PausedCall()
        self.undone: list[Any] = []
        self._error = error

    async def run(self) -> str:
        try:
            await self.paused.run()
        except asyncio.CancelledError:
            await self.paused.run()
        if self._error is not None:
            raise self._error
        return "granted"

    async def undo(self, answer: str) -> None:
        self.undone.append(answer)
        raise BackendBusy("nobody notices")


def answer(request: Request, clock: FakeClock) -> asyncio.Task[str]:
    return asyncio.create_task(answer_within(request.run(), 1_000, clock, undo=request.undo))


async def test_an_answer_in_time_is_returned_and_not_undone() -> None:
    clock, request = FakeClock(), Request()
    waiting = answer(request, clock)
    await clock.advance("999ms")
    request.paused.resume()
    assert await waiting == "granted"
    assert request.undone == []


async def test_an_error_in_time_is_raised() -> None:
    clock, request = FakeClock(), Request(LookupError("no"))
    waiting = answer(request, clock)
    request.paused.resume()
    with pytest.raises(LookupError):
        await waiting


async def test_a_late_answer_is_undone() -> None:
    clock, request = FakeClock(), Request()
    waiting = answer(request, clock)
    await clock.advance("1s")
    with pytest.raises(BackendBusy, match="did not answer within 1 s"):
        await waiting
    request.paused.resume()
    await ticks()
    assert request.undone == ["granted"]


async def test_the_time_of_a_blocked_loop_does_not_count() -> None:
    clock, request = FakeClock(), Request()
    waiting = answer(request, clock)
    await request.paused.started()
    clock._move_to(clock.steady_ms() + 60_000)  # the loop does not run meanwhile
    await clock.advance("1ms")
    assert not waiting.done()
    request.paused.resume()
    assert await waiting == "granted"


async def test_a_late_error_is_ignored() -> None:
    clock, request = FakeClock(), Request(LookupError("no"))
    waiting = answer(request, clock)
    await clock.advance("1s")
    with pytest.raises(BackendBusy):
        await waiting
    request.paused.resume()
    await ticks()
    assert request.undone == []


async def test_a_cancelled_caller_waits_until_the_answer_is_undone() -> None:
    clock, request = FakeClock(), Request()
    waiting = answer(request, clock)
    await request.paused.started()
    waiting.cancel()
    await ticks()
    assert not waiting.done()
    request.paused.resume()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert request.undone == ["granted"]


async def test_of_several_callers_that_may_not_join_one_leads_the_others() -> None:
    flights, clock = SingleFlight[str](), FakeClock()
    old, new = PausedCall(), PausedCall()

    async def lead_old(flight: Flight[str], left_ms: int | None) -> str:
        flight.closed = True
        result: str = await old.run("old")
        return result

    async def lead_new(flight: Flight[str], left_ms: int | None) -> str:
        result: str = await new.run("new")
        return result

    async def may_join(flight: Flight[str]) -> bool:
        await ticks(3)
        return not flight.closed

    before = asyncio.create_task(flights.do("key", lead_old, clock=clock, may_join=may_join))
    await old.started()
    after = [
        asyncio.create_task(flights.do("key", lead_new, clock=clock, may_join=may_join))
        for _ in range(5)
    ]
    await new.started()
    await ticks()
    old.resume()
    new.resume()
    assert await asyncio.gather(before, *after) == ["old", *["new"] * 5]
    assert new.calls == 1

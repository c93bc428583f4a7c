"""Which outcomes of a call count as failures of the service, and which as successes."""

from __future__ import annotations

import asyncio

import pytest

from goscope import CircuitBreaker, CircuitOpen, ConfigurationError, LockTimeout, Scope

from .circuits import ServiceDown, fail_times, state, work
from .support import PausedCall

pytestmark = pytest.mark.asyncio


async def test_only_exceptions_of_the_selected_types_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=3, on=(ServiceDown, TimeoutError))
    await fail_times(breaker, 2)

    async def wrong() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await breaker.call(wrong)
    assert await state(breaker) == ("closed", 0), "the service answered: a success"


class HttpError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status}")


def is_server_error(exc: BaseException) -> bool:
    return isinstance(exc, HttpError) and exc.status >= 500


async def test_only_exceptions_for_which_the_function_is_true_count(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=2, on=is_server_error)

    async def fetch(status: int) -> None:
        raise HttpError(status)

    async def fetch_status(status: int) -> None:
        with pytest.raises(HttpError):
            await breaker.call(lambda: fetch(status))

    await fetch_status(500)
    assert await state(breaker) == ("closed", 1)
    await fetch_status(404)
    assert await state(breaker) == ("closed", 0), "the service answered: a success"
    await fetch_status(404)
    await fetch_status(503)
    await fetch_status(500)
    assert await state(breaker) == ("open", 2)


async def test_the_function_gets_the_exception_itself(gs: Scope) -> None:
    error = ServiceDown()
    breaker = gs.circuit_breaker("api", on=lambda exc: exc is error)

    async def raise_error() -> None:
        raise error

    with pytest.raises(ServiceDown):
        await breaker.call(raise_error)
    assert await state(breaker) == ("closed", 1)


async def test_the_function_is_not_asked_about_goscopes_own_errors_and_cancellations(
    gs: Scope,
) -> None:
    def select(exc: BaseException) -> bool:
        pytest.fail(f"asked about {exc!r}")

    breaker = gs.circuit_breaker("api", on=select)

    async def blocked() -> None:
        raise LockTimeout("door", 0, None, None)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(LockTimeout):
        await breaker.call(blocked)
    with pytest.raises(asyncio.CancelledError):
        await breaker.call(cancelled)
    assert await state(breaker) == ("closed", 0)


async def test_the_function_is_part_of_the_settings_that_must_agree(gs: Scope) -> None:
    gs.circuit_breaker("api", on=is_server_error)
    gs.circuit_breaker("api", on=is_server_error)
    with pytest.raises(ConfigurationError, match="already has other settings"):
        gs.circuit_breaker("api", on=lambda exc: True)


async def test_goscopes_own_errors_never_count(gs: Scope, breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 1)

    async def blocked() -> None:
        async with gs.lock("door"):
            await gs.lock("door", wait=0).acquire()

    for _ in range(3):
        with pytest.raises(LockTimeout):
            await breaker.call(blocked)
    assert await state(breaker) == ("closed", 1), "neither a failure nor a success"


async def test_goscopes_own_errors_do_not_count_as_successes(gs: Scope) -> None:
    """Exceptions that ``on`` does not select do."""
    breaker = gs.circuit_breaker("api", on=ServiceDown)
    await fail_times(breaker, 1)

    async def blocked() -> None:
        raise LockTimeout("door", 0, None, None)

    with pytest.raises(LockTimeout):
        await breaker.call(blocked)
    assert await state(breaker) == ("closed", 1)


async def test_an_open_inner_circuit_does_not_open_the_outer_one(
    gs: Scope, breaker: CircuitBreaker
) -> None:
    inner = gs.circuit_breaker("inner", failure_threshold=1)
    await fail_times(inner, 1)
    for _ in range(3):
        with pytest.raises(CircuitOpen, match="inner"):
            await breaker.call(lambda: inner.call(work))
    assert await state(breaker) == ("closed", 0)


async def test_a_cancellation_does_not_count(breaker: CircuitBreaker) -> None:
    paused = PausedCall()
    await fail_times(breaker, 1)
    call = asyncio.create_task(breaker.call(paused.run))
    await paused.started()
    call.cancel()
    await asyncio.wait([call])
    assert await state(breaker) == ("closed", 1)


async def test_a_cancelled_call_does_not_count_although_it_was_marked_as_failed(
    breaker: CircuitBreaker,
) -> None:
    paused = PausedCall()

    async def marked() -> None:
        async with breaker as call:
            call.fail()
            await paused.run()

    task = asyncio.create_task(marked())
    await paused.started()
    task.cancel()
    await asyncio.wait([task])
    assert await state(breaker) == ("closed", 0)


class ProgramExit(BaseException):
    """Ends the program and says nothing about the service."""


async def test_an_exception_that_ends_the_program_does_not_count(breaker: CircuitBreaker) -> None:
    await fail_times(breaker, 1)
    with pytest.raises(ProgramExit):
        async with breaker:
            raise ProgramExit
    assert await state(breaker) == ("closed", 1)


async def test_a_result_can_count_as_a_failure(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=2, on_result=lambda status: status >= 500)

    async def answer(status: int) -> int:
        return status

    assert await breaker.call(lambda: answer(503)) == 503
    assert await breaker.call(lambda: answer(500)) == 500
    with pytest.raises(CircuitOpen):
        await breaker.call(lambda: answer(200))

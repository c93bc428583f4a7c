"""What calls do behind a circuit, and the state that they leave."""

from __future__ import annotations

import pytest

from goscope import CircuitBreaker, LockTimeout

from .support import Store


class ServiceDown(Exception):
    """The service does not answer."""


async def fail() -> None:
    raise ServiceDown


async def work() -> int:
    return 7


async def must_not_run() -> None:
    pytest.fail("the circuit should have rejected the call")


async def fail_times(breaker: CircuitBreaker, count: int) -> None:
    for _ in range(count):
        with pytest.raises(ServiceDown) as caught:
            await breaker.call(fail)
        assert not hasattr(caught.value, "__notes__"), "the failure was not recorded"


async def state(breaker: CircuitBreaker) -> tuple[str, int]:
    stored = await breaker.state()
    return stored.state, stored.failure_count


async def open_past_reset_timeout(store: Store, breaker: CircuitBreaker) -> None:
    """Let the circuit open, and its reset timeout pass."""
    await fail_times(breaker, breaker.settings.failure_threshold)
    await store.advance("30s")


async def end_without_outcome() -> None:
    """A call whose outcome says nothing about the service."""
    raise LockTimeout("door", 0, None, None)

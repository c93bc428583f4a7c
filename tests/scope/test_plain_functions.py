"""Functions given to a scope may be plain or async; decorators take coroutine functions only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from goscope import ConfigurationError, Scope

pytestmark = pytest.mark.asyncio

Call = Callable[[Scope, Callable[..., Any]], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "get_or_set": lambda gs, fn: gs.cache.get_or_set("key", fn),
    "idempotency.run": lambda gs, fn: gs.idempotency.run("key", fn),
    "tasks.run": lambda gs, fn: gs.tasks.run("key", lambda task: fn()),
    "breaker.call": lambda gs, fn: gs.circuit_breaker("key").call(fn),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Call:
    return CALLS[request.param]


async def test_the_value_of_a_plain_function_is_the_result(gs: Scope, call: Call) -> None:
    calls: list[int] = []

    def plain() -> list[int]:
        calls.append(1)
        return [7]

    assert await call(gs, plain) == [7]
    assert calls == [1]


async def test_what_a_plain_function_returns_is_awaited(gs: Scope, call: Call) -> None:
    async def fetch(number: int) -> int:
        return number

    assert await call(gs, lambda: fetch(7)) == 7


async def test_the_error_of_a_plain_function_is_raised(gs: Scope, call: Call) -> None:
    def plain() -> int:
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        await call(gs, plain)


async def test_a_plain_failure_opens_a_circuit(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, on_result=lambda status: status >= 500)
    assert await breaker.call(lambda: 200) == 200
    assert (await breaker.state()).state == "closed"
    assert await breaker.call(lambda: 500) == 500
    assert (await breaker.state()).state == "open"


DECORATORS: dict[str, Callable[[Scope], Callable[[Any], Any]]] = {
    "cached": lambda gs: gs.cached("5m", key="key"),
    "idempotent": lambda gs: gs.idempotent("key"),
    "resumable": lambda gs: gs.resumable("key"),
    "circuit_breaker": lambda gs: gs.circuit_breaker("key"),
}


@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
async def test_decorators_refuse_plain_functions(gs: Scope, decorate: Any) -> None:
    """What calls them expects a value, not a coroutine."""

    def plain(task: Any = None) -> int:
        return 1

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        decorate(gs)(plain)

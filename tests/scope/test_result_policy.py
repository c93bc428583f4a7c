"""What a result says about how it is stored: ``ttl`` and ``when`` as functions; fingerprints."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from goscope import ConfigurationError, Duration, FingerprintMismatch, Scope, SerializationError

from .support import PausedCall, Store, ticks

pytestmark = pytest.mark.asyncio


@dataclass
class Token:
    text: str
    lifetime: str | None


class Payment(BaseModel):
    cents: int
    card: SecretStr


def lifetime(token: Token) -> Duration | None:
    return token.lifetime


async def test_a_cached_function_takes_the_ttl_of_its_result(store: Store, gs: Scope) -> None:
    calls: list[str] = []

    @gs.cached(lifetime, key="token:{user}")
    async def token(user: str, valid_for: str | None) -> Token:
        calls.append(user)
        return Token(user, valid_for)

    for user, valid_for in (("short", "1m"), ("long", "1h"), ("forever", None)):
        await token(user, valid_for)
    store.clock.step_wall("30m")
    for user, valid_for in (("short", "1m"), ("long", "1h"), ("forever", None)):
        await token(user, valid_for)
    assert calls == ["short", "long", "forever", "short"]
    entry = await gs.cache.get_entry("token:long")
    assert entry is not None
    assert entry.expires_in_ms is not None
    assert 29 * 60_000 <= entry.expires_in_ms <= 30 * 60_000


async def test_get_or_set_takes_the_ttl_of_the_value(store: Store, gs: Scope) -> None:
    assert await gs.cache.get_or_set("key", lambda: {"seconds": 60}, ttl=from_seconds) == {
        "seconds": 60
    }
    store.clock.step_wall("59s")
    assert await gs.cache.has("key")
    store.clock.step_wall("2s")
    assert not await gs.cache.has("key")


def from_seconds(value: Any) -> str:
    return f"{value['seconds']}s"


async def test_an_idempotent_call_takes_the_ttl_of_its_result(store: Store, gs: Scope) -> None:
    @gs.idempotent("charge:{order_id}", ttl=lambda result: "1h" if result else "1m")
    async def charge(order_id: str) -> int:
        calls.append(order_id)
        return len(calls)

    calls: list[str] = []
    assert await charge("a") == await charge("a") == 1
    store.clock.step_wall("59m")
    assert await charge("a") == 1
    store.clock.step_wall("2m")
    assert await charge("a") == 2


@pytest.mark.parametrize("ttl", [5, "0s", "soon", True])
async def test_a_function_that_returns_no_ttl_stores_nothing(gs: Scope, ttl: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        await gs.cache.get_or_set("key", lambda: 1, ttl=lambda value: ttl)
    assert not await gs.cache.has("key")


async def asynchronous(result: object) -> Any: ...


async def test_ttl_and_when_are_plain_functions(gs: Scope) -> None:
    """A coroutine would be true, and never awaited."""
    cache: Any = gs.cache
    with pytest.raises(ConfigurationError, match="ttl= must be a duration or a plain function"):
        await cache.get_or_set("key", lambda: 1, ttl=asynchronous)
    with pytest.raises(ConfigurationError, match="when= must be a plain function"):
        gs.cached("5m", when=asynchronous)
    with pytest.raises(ConfigurationError, match="when= must be a plain function"):
        await gs.idempotency.run("key", lambda: 1, when=asynchronous)


async def test_a_result_that_when_rejects_is_returned_and_not_remembered(gs: Scope) -> None:
    statuses = iter([503, 500, 201, 500])

    @gs.idempotent("post:{request_id}", when=lambda status: status < 500)
    async def post(request_id: str) -> int:
        return next(statuses)

    assert [await post("a") for _ in range(4)] == [503, 500, 201, 201]


async def test_callers_in_flight_share_what_is_not_remembered(
    gs: Scope, other: Scope, store: Store
) -> None:
    """As they share an error; another process runs the call in its turn."""
    paused = PausedCall()

    def call(scope: Scope, status: int) -> asyncio.Task[Any]:
        run = scope.idempotency.run
        return asyncio.create_task(
            run("key", lambda: paused.run(status), when=lambda status: status < 500)
        )

    here = [call(gs, 503), call(gs, 504)]
    await paused.started()
    there = call(other, 201)
    await ticks()
    paused.resume()
    assert await asyncio.gather(*here) == [503, 503]
    await store.advance("1s")
    assert await there == 201
    assert paused.calls == 2


async def test_what_is_not_remembered_may_be_unstorable(gs: Scope) -> None:
    """The error is the plain one: the next call runs."""
    with pytest.raises(SerializationError):
        await gs.idempotency.run("key", object, when=lambda result: False)
    assert await gs.idempotency.run("key", lambda: 1) == 1


def payload(order_id: str, payment: Payment) -> Payment:
    return payment


@pytest.mark.parametrize("fingerprint", [["payment"], payload], ids=["names", "function"])
async def test_a_fingerprint_is_made_of_a_model(gs: Scope, fingerprint: Any) -> None:
    @gs.idempotent("charge:{order_id}", fingerprint=fingerprint)
    async def charge(order_id: str, payment: Payment) -> int:
        return payment.cents

    card = SecretStr("4242")
    assert await charge("a", Payment(cents=5, card=card)) == 5
    assert await charge("a", payment=Payment(cents=5, card=card)) == 5
    for other in (Payment(cents=6, card=card), Payment(cents=5, card=SecretStr("4111"))):
        with pytest.raises(FingerprintMismatch):
            await charge("a", other)


async def test_a_fingerprint_of_a_dict_ignores_its_order(gs: Scope) -> None:
    @gs.idempotent("charge:{order_id}", fingerprint=["body"])
    async def charge(order_id: str, body: dict[str, Any]) -> int:
        return 1

    await charge("a", {"cents": 1, "currency": "EUR"})
    await charge("a", {"currency": "EUR", "cents": 1})
    with pytest.raises(FingerprintMismatch):
        await charge("a", {"currency": "EUR", "cents": "1"})


async def test_fingerprints_are_checked_at_decoration(gs: Scope) -> None:
    async def charge(order_id: str, cents: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"fingerprint names .cent., .*did you mean"):
        gs.idempotent("charge:{order_id}", fingerprint=["cent"])(charge)
    with pytest.raises(ConfigurationError, match="fingerprint= must be a plain function"):
        gs.idempotent("charge:{order_id}", fingerprint=asynchronous)(charge)

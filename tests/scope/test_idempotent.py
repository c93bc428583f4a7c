"""``@gs.idempotent``: functions and methods that run once per key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from goscope import ConfigurationError, FingerprintMismatch, OperationInProgress, Scope

from .payments import PaymentService, Receipt
from .support import PausedCall

pytestmark = pytest.mark.asyncio


async def test_an_idempotent_function_runs_once_per_key(gs: Scope) -> None:
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


async def test_an_idempotent_method_is_bound(gs: Scope) -> None:
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
        pytest.fail("all orders without an id would share one key")

    for nothing in (None, ""):
        with pytest.raises(ValueError, match="order_id is None or empty"):
            await charge(nothing)

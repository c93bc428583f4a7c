"""Types that JSON cannot be decoded to, and values that do not come back: refused in time."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from goscope import ConfigurationError, Scope, SerializationError, TaskContext

from .factories import fail


@dataclass
class Paid:
    receipt: str


@dataclass
class Declined:
    reason: str


class Cat(BaseModel):
    lives: int


class Fish(BaseModel):
    fins: int


class Tabby(Cat):
    stripes: int


class Credentials(BaseModel):
    user: str
    password: SecretStr


class Query(BaseModel):
    text: str
    tenant: str = Field(exclude=True)


class Nested(BaseModel):
    queries: list[Query]


class Opaque:
    """A class that JSON has no form for."""


UNDECODABLE: dict[str, Any] = {
    "two dataclasses": Paid | Declined,
    "two models": Cat | Fish,
    "model or dict": Cat | dict[str, int],
    "UUID or str": uuid.UUID | str,
    "datetime or str": dt.datetime | str,
    "object": object,
    "list of object": list[object],
    "other class": Opaque,
    "secret": Credentials,
    "list of secrets": list[Credentials],
    "excluded field": Query,
    "excluded field of a field": Nested,
}

DECORATORS: dict[str, Callable[[Scope], Callable[[Any], Any]]] = {
    "cached": lambda gs: gs.cached("5m", key="key"),
    "idempotent": lambda gs: gs.idempotent("key"),
}

each_type = pytest.mark.parametrize("type_", UNDECODABLE.values(), ids=UNDECODABLE)


@each_type
@pytest.mark.parametrize("decorate", DECORATORS.values(), ids=DECORATORS)
def test_a_return_annotation_is_judged_at_decoration(decorate: Any, type_: Any) -> None:
    async def body() -> Any: ...

    body.__annotations__["return"] = type_
    with pytest.raises(ConfigurationError, match=r"the result of .*body: JSON cannot be decoded"):
        decorate(Scope(backend="memory"))(body)


CALLS: dict[str, Callable[[Scope, Any], Awaitable[Any]]] = {
    "idempotency.run": lambda gs, type_: gs.idempotency.run("key", fail, type=type_),
    "cache.get_or_set": lambda gs, type_: gs.cache.get_or_set("key", fail, type=type_),
    "tasks.run": lambda gs, type_: gs.tasks.run("key", lambda task: fail(), type=type_),
}


@each_type
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.asyncio
async def test_a_type_is_judged_before_the_function_is_called(call: Any, type_: Any) -> None:
    async with Scope(backend="memory") as gs:
        with pytest.raises(ConfigurationError, match="JSON cannot be decoded"):
            await call(gs, type_)


def test_the_type_of_a_task_is_judged_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match="JSON cannot be decoded"):
        Scope(backend="memory").resumable("etl", type=Paid | Declined)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.asyncio
async def test_an_annotation_may_name_a_class_that_is_defined_later(gs: Scope) -> None:
    async def load() -> Any:
        return LaterClass(7)

    async def refused() -> Any:
        pytest.fail("its result cannot be decoded")

    load.__annotations__["return"] = "Later"
    refused.__annotations__["return"] = "Later | Paid"
    right, wrong = gs.idempotent("right")(load), gs.idempotent("wrong")(refused)
    with pytest.raises(ConfigurationError, match="cannot be resolved: name 'Later'"):
        await right()
    globals()["Later"] = LaterClass
    try:
        assert await right() == await right() == LaterClass(7)
        with pytest.raises(ConfigurationError, match="JSON cannot be decoded"):
            await wrong()
    finally:
        del globals()["Later"]


@dataclass
class LaterClass:
    number: int


LOST: dict[str, tuple[Any, Any, str]] = {
    "subclass of a model": ([Tabby(lives=9, stripes=3)], list[Cat], r"\[0\]: a Tabby comes .* Cat"),
    "a str as an int": ("7", int, "Expected `int`"),
    "a dataclass as another": (Paid("r"), Declined, "missing required field"),
}


@pytest.mark.parametrize(("value", "type_", "reason"), LOST.values(), ids=LOST)
@pytest.mark.asyncio
async def test_a_cached_value_that_does_not_come_back_is_not_stored(
    gs: Scope, value: Any, type_: Any, reason: str
) -> None:
    with pytest.raises(SerializationError, match=reason):
        await gs.cache.get_or_set("key", lambda: value, type=type_)
    assert not await gs.cache.has("key")


@pytest.mark.parametrize(
    "value", [Credentials(user="a", password=SecretStr("b")), Query(text="a", tenant="b")]
)
@pytest.mark.asyncio
async def test_a_masked_or_excluded_field_is_never_stored(gs: Scope, value: Any) -> None:
    with pytest.raises(SerializationError, match="does not come back as it was"):
        await gs.cache.set("key", value)
    assert not await gs.cache.has("key")


@pytest.mark.asyncio
async def test_a_checkpoint_that_does_not_come_back_is_not_saved(gs: Scope) -> None:
    async def etl(task: TaskContext[list[Cat]]) -> None:
        await task.checkpoint.save([Cat(lives=9)])
        await task.checkpoint.save([Tabby(lives=9, stripes=3)])

    with pytest.raises(SerializationError, match="a Tabby comes back as a Cat"):
        await gs.tasks.run("etl", etl, type=list[Cat])

    async def resumed(task: TaskContext[list[Cat]]) -> list[Cat] | None:
        return task.checkpoint.data

    assert await gs.tasks.run("etl", resumed, type=list[Cat]) == [Cat(lives=9)]


@pytest.mark.asyncio
async def test_plain_json_is_decoded_to_the_type(gs: Scope) -> None:
    """As a client library returns it."""
    found = await gs.cache.get_or_set("key", lambda: {"receipt": "r", "more": 1}, type=Paid)
    assert found == Paid("r")

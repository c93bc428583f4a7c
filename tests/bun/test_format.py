"""Python and the real Bun read each other's values, in every table."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope.errors import SerializationError
from goscope.providers import Checkpoint, CircuitBreakerState
from goscope.testing import FakeClock
from goscope_bun_compat import BunSQLiteAdapter

from .conftest import BunService, Serve

pytestmark = pytest.mark.asyncio

BOTH_WAYS: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (0, "0"),
    (-7, "-7"),
    (0.1, "0.1"),
    (0.30000000000000004, "0.1 + 0.2"),
    (5e-324, "Number.MIN_VALUE"),
    (1.7976931348623157e308, "Number.MAX_VALUE"),
    (1e21, "1e21"),
    (2**53 - 1, "Number.MAX_SAFE_INTEGER"),
    (-(2**53) + 1, "Number.MIN_SAFE_INTEGER"),
    ("", "''"),
    ("1234567890123456789", "'1234567890123456789'"),
    ('é ключ 😀 \u2028 \u2029 \0 \x7f " \\ /', r"'é ключ 😀 \u2028 \u2029 \0 \x7f \" \\ /'"),
    ([], "[]"),
    ({}, "{}"),
    ([1, [None, {"": [{"deep": "é"}]}]], "[1, [null, {'': [{deep: 'é'}]}]]"),
    ({"z": 1, "a": {"ключ": [True, None]}}, "({z: 1, a: {ключ: [true, null]}})"),
]

FROM_BUN: list[tuple[str, Any]] = [
    ("5.0", 5),  # JavaScript has only one number type
    ("-0", 0),  # JSON.stringify drops the sign
    ("2 ** 53", 2**53),
    ("2 ** 64", 18446744073709552000),  # the digits that JSON.stringify writes
    ("12345678901234567890", 12345678901234567000),
    ("NaN", None),
    ("[undefined]", [None]),
    ("({gone: undefined, kept: 1})", {"kept": 1}),
    ("new Date(0)", "1970-01-01T00:00:00.000Z"),
    (r"'\ud83d'", "\ud83d"),  # a lone surrogate, which JSON.stringify escapes
    (r"({'\udc00': ['a\ud800b']})", {"\udc00": ["a\ud800b"]}),
]

FROM_PYTHON: list[tuple[Any, str]] = [
    (-0.0, "-0"),
    (5.0, "5"),
    (float(2**53), "2 ** 53"),
    (1e15, "1e15"),
    ((1, 2), "[1, 2]"),
    ({1: "one"}, "({'1': 'one'})"),
]

TOO_LARGE = [2**53, -(2**53), 2**64, [[1, 2**60]], {"id": 9007199254740993}, [0.1, 10**16]]

ODD_KEYS = ["it's", 'say "hi"', "100%", "a_b", "*", "?[x]", "a:b", "ключ 😀", " ", "\u2028", "--;"]


@pytest_asyncio.fixture(params=["", "shop:"])
async def adapter(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[BunSQLiteAdapter]:
    async with BunSQLiteAdapter(path, key_prefix=request.param, busy_timeout="60s") as adapter:
        yield adapter


@pytest.fixture
def service(serve: Serve, adapter: BunSQLiteAdapter) -> BunService:
    """The service with the prefix of the adapter."""
    return serve(adapter.context.prefix)


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal and of equal types, to the sign of zero."""
    if isinstance(expected, float):
        return type(found) is float and struct.pack("d", found) == struct.pack("d", expected)
    return type(found) is type(expected) and found == expected


# --- values ------------------------------------------------------------------------------------


async def test_values_of_python_are_the_same_under_bun(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    for value, expression in BOTH_WAYS + FROM_PYTHON:
        await adapter.cache.set("key", value)
        assert service.call("is", "key", expression), (value, expression)


async def test_values_of_bun_are_the_same_in_python(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    from_both = [(expression, value) for value, expression in BOTH_WAYS]
    for expression, value in from_both + FROM_BUN:
        service.call("set", "key", expression)
        found = await adapter.cache.get("key", "missing")
        assert same(found, value), (expression, found)


async def test_an_integer_that_javascript_would_round_is_refused(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    for value in TOO_LARGE:
        with pytest.raises(SerializationError):
            await adapter.cache.set("key", value)
        with pytest.raises(SerializationError):
            await adapter.cache.add("key", value)
        with pytest.raises(SerializationError):
            await adapter.idempotency.set("key", value)
        with pytest.raises(SerializationError):
            await adapter.checkpoint.save(checkpoint(1, value))
    assert service.call("keys") == []
    assert service.call("checkpoints", "task") == []


async def test_a_counter_stops_where_javascript_would_round_it(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    service.call("set", "count", "Number.MAX_SAFE_INTEGER - 1")
    assert await adapter.cache.increment("count") == 2**53 - 1
    with pytest.raises(SerializationError):
        await adapter.cache.increment("count")
    with pytest.raises(SerializationError):
        await adapter.cache.increment("new", 2**53)
    assert service.call("is", "count", "Number.MAX_SAFE_INTEGER")
    assert not service.call("has", "new")


# --- names and times ---------------------------------------------------------------------------


async def test_keys_are_the_same_on_both_sides(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    for key in ODD_KEYS:
        await adapter.cache.set(f"p{key}", key)
        assert service.call("is", f"p{key}", json.dumps(key)), key
        service.call("set", f"b{key}", json.dumps(key))
        assert await adapter.cache.get(f"b{key}") == key
    both = {f"{side}{key}" for side in "pb" for key in ODD_KEYS}
    assert set(await adapter.cache.keys()) == both
    prefix = f"{adapter.context.prefix}cache:"
    assert set(service.call("keys")) == {prefix + key for key in both}


async def test_a_wildcard_of_sql_clears_no_key_of_the_other_side(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    for key in ("user_1", "userX1", "user%1", "USER_1"):
        service.call("set", key, "1")
    await adapter.cache.clear("user_*")
    await adapter.cache.clear("user%*")
    assert sorted(await adapter.cache.keys()) == ["USER_1", "userX1"]


async def test_both_sides_respect_the_expiry(path: Path, serve: Serve) -> None:
    """Python to the millisecond; Bun, which counts whole seconds, up to a second later."""
    clock = FakeClock(wall_ms=time.time_ns() // 1_000_000)  # like the clock of Bun
    service = serve()
    async with BunSQLiteAdapter(path, busy_timeout="60s", clock=clock) as adapter:
        await adapter.cache.set("brief", 1, "61500ms")
        await adapter.cache.set("long", 1, "1h")
        await adapter.idempotency.set("result", 1, "1h")
        service.call("set", "theirs", "1", 3_600_000)
        keys = ["brief", "long", "theirs"]
        assert [service.call("has", key) for key in keys] == [True, True, True]
        result = service.call("result", "result")
        assert result["expiresAt"] * 1000 == clock.wall_ms() + 3_600_000
        await clock.advance("61600ms")
        assert await adapter.cache.get_many(keys) == {"long": 1, "theirs": 1}
        await clock.advance("2h")
        assert await adapter.cache.keys() == []
        assert await adapter.idempotency.get("result") is None


async def test_expired_rows_of_bun_are_swept(path: Path, serve: Serve) -> None:
    clock = FakeClock(wall_ms=time.time_ns() // 1_000_000)  # like the clock of Bun
    service = serve()
    async with BunSQLiteAdapter(path, busy_timeout="60s", clock=clock) as adapter:
        service.call("set", "key", "1", 1000)
        service.call("setResult", "key", "1", 1000)
        await clock.advance("1h")
        await adapter._sweeper.sweep()
    count = "SELECT (SELECT count(*) FROM go_goscope_cache) + count(*) AS n FROM "
    assert service.call("query", count + "go_goscope_idempotency") == [{"n": 0}]


# --- the other tables --------------------------------------------------------------------------


async def test_results_are_the_same_on_both_sides(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    await adapter.idempotency.set("python", {"id": 1}, fingerprint="print")
    assert service.call("result", "python") == {"value": {"id": 1}, "expiresAt": None}
    service.call("setResult", "bun", "({id: 2})", 3_600_000)
    found = await adapter.idempotency.get("bun")
    assert found is not None
    assert found.value == {"id": 2}
    assert found.expires_at is not None
    service.call("setResult", "python", "({id: 3})")
    found = await adapter.idempotency.get("python")
    assert found is not None
    assert (found.value, found.fingerprint) == ({"id": 3}, None), (
        "the fingerprint belongs to the replaced value"
    )


@pytest.mark.parametrize("state", ["closed", "open", "half-open"])
async def test_circuits_are_the_same_on_both_sides(
    adapter: BunSQLiteAdapter, service: BunService, state: Any
) -> None:
    service.call("setCircuit", "key", state, 3, 1_700_000_000_001, 1_700_000_000_002)
    found = await adapter.circuit_breaker.get_state("key")
    assert found == CircuitBreakerState(
        state=state,
        failure_count=3,
        last_failure_time=1_700_000_000_001,
        last_success_time=1_700_000_000_002,
    )
    assert await adapter.circuit_breaker.record_failure("key", 5) == 4
    row = service.call("circuit", "key")
    assert row["failure_count"] == 4
    assert row["state"] == ("open" if state == "half-open" else state)
    assert found is not None
    await adapter.circuit_breaker.set_state("key", found)
    row = service.call("circuit", "key")
    assert (row["state"], row["failure_count"]) == (state, 3)
    assert (row["last_failure_time"], row["last_success_time"]) == (
        1_700_000_000_001,
        1_700_000_000_002,
    )


async def test_checkpoints_are_the_same_on_both_sides(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    """The ids of tasks carry no prefix: every adapter and service reads every task."""
    service.call("saveCheckpoint", "any id / at all", "task", 1, 33.25, "({done: [1]})")
    latest = await adapter.checkpoint.load_latest("task")
    assert latest is not None
    assert (latest.id, latest.sequence, latest.progress) == ("any id / at all", 1, 33.25)
    assert latest.data == {"done": [1]}
    await adapter.checkpoint.save(checkpoint(2, {"done": [1, 2]}))
    newest, oldest = service.call("checkpoints", "task")
    assert (newest["id"], newest["progress"], newest["data"]) == ("id-2", 50, {"done": [1, 2]})
    assert newest["timestamp"] == 1_700_000_000_000
    assert newest["estimated_time_remaining"] == 5000
    assert oldest["id"] == "any id / at all"
    service.call("saveCheckpoint", "id-2", "task", 3, 75, "({done: [1, 2, 3]})")
    assert [each.sequence for each in await adapter.checkpoint.list("task")] == [1, 3]
    await adapter.checkpoint.cleanup("task", 1)
    assert [row["sequence"] for row in service.call("checkpoints", "task")] == [3]


async def test_tags_no_longer_apply_once_bun_has_replaced_the_value(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    await adapter.cache.set("mine", 1, "1h", tags=["tag"], stale_for="1h")
    await adapter.cache.set("theirs", 1, "1h", tags=["tag"], stale_for="1h")
    service.call("set", "theirs", "2")
    assert await adapter.cache.delete_by_tag("tag") == 1
    assert await adapter.cache.get_many(["mine", "theirs"]) == {"theirs": 2}


async def test_every_value_is_stored_as_text(
    adapter: BunSQLiteAdapter, service: BunService
) -> None:
    await adapter.cache.set("key", 1)
    await adapter.cache.increment("count")
    await adapter.idempotency.set("key", 1)
    await adapter.checkpoint.save(checkpoint(1, 1))
    types = """
        SELECT typeof(value) AS type FROM go_goscope_cache
        UNION SELECT typeof(value) FROM go_goscope_idempotency
        UNION SELECT typeof(data) FROM go_goscope_checkpoints
    """
    assert service.call("query", types) == [{"type": "text"}]


async def test_a_file_created_by_bun_gets_the_missing_tables(path: Path, serve: Serve) -> None:
    service = serve()
    service.call("set", "key", "'from bun'")
    async with BunSQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("key") == "from bun"
        lease = await adapter.lease.acquire("key")
        assert lease is not None
        await adapter.cache.set("key", "from python", fence=lease)
        assert service.call("is", "key", "'from python'")
    assert service.call("is", "key", "'from python'")


def checkpoint(sequence: int, data: Any) -> Checkpoint:
    return Checkpoint(
        id=f"id-{sequence}",
        task_id="task",
        sequence=sequence,
        timestamp=1_700_000_000_000,
        data=data,
        progress=50,
        estimated_time_remaining=5000,
    )

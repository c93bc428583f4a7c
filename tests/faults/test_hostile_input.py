"""Keys, patterns, values, URLs and settings that an attacker would choose."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from goscope import GoscopeError, Scope
from goscope._settings import resolve
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from tests.hostile_calls import HOSTILE, call_every_method

from .amounts import amount

examples = settings(
    max_examples=amount(25, 2000),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

valid_keys = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40
)
key_parts = st.sampled_from(
    ["a", "A", "%", "_", "?", "[", "]", "^", "\\", "*", "é", "İ", "'", "\n"]
)
patterns = st.lists(key_parts, min_size=1, max_size=6).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", [SQLiteAdapter, BunSQLiteAdapter])
@examples
@given(keys=st.lists(valid_keys | patterns, min_size=1, max_size=6), pattern=patterns)
@example(keys=["a_b", "aXb", "a%b"], pattern="a_b")
def test_a_pattern_finds_what_its_stars_match_and_nothing_else(
    kind: Any, keys: list[str], pattern: str
) -> None:
    as_regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    expected = {key for key in keys if as_regex.fullmatch(key)}

    async def check() -> None:
        async with kind(":memory:", key_prefix="app:") as it, it_other(kind) as other:
            for key in keys:
                await it.cache.set(key, key)
            assert set(await it.cache.keys(pattern)) == expected
            await it.cache.clear(pattern)
            assert set(await it.cache.keys()) == set(keys) - expected
            assert not await other.cache.keys()

    asyncio.run(check())


def it_other(kind: Any) -> Any:
    return kind(":memory:", key_prefix="other:")


@pytest.mark.parametrize("kind", [SQLiteAdapter, BunSQLiteAdapter])
@examples
@given(key=st.text(max_size=600), value=json_values)
@example(key="a\0b", value=None)
@example(key="\ud800", value=None)
@example(key="k", value="\ud800")
def test_any_key_and_value_is_stored_as_it_is_or_refused(kind: Any, key: str, value: Any) -> None:
    async def check() -> None:
        async with kind(":memory:", locks="shared") as it:
            try:
                await it.cache.set(key, value, tags=[key or "tag"])
            except (GoscopeError, ValueError):
                assert not await it.cache.keys()
            else:
                assert await it.cache.get(key) == value
                assert list(await it.cache.keys()) == [key]
                assert await it.cache.delete_by_tag(key) == 1
            assert await it.cache.get("other") is None

    asyncio.run(check())


@examples
@given(url=st.text(max_size=60) | st.text(max_size=40).map("sqlite://".__add__))
@example(url="sqlite:///a.db?path=b.db")
@example(url="sqlite://[::1")
@example(url="sqlite:///%00")
def test_any_url_is_resolved_or_refused_with_an_error_of_goscope(url: str) -> None:
    try:
        resolve(url, None, {})
    except GoscopeError as exc:
        refused = str(exc)
    else:
        return
    assert "\n" not in refused, "a URL of several lines is escaped"


@examples
@given(
    data=st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: f"[tool]\n{text}".encode(errors="surrogatepass"))
    | st.dictionaries(st.sampled_from(["url", "backend", "path", "locks", "x"]), st.text()).map(
        lambda table: "\n".join(f"{name} = {value!r}" for name, value in table.items()).encode(
            errors="surrogatepass"
        )
    )
)
@example(data=b"tool = 1")
@example(data=b"a = " + b"[" * 10_000)
@example(data=b"\xff")
def test_any_settings_file_is_read_or_refused_with_an_error_of_goscope(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("goscope.toml", "pyproject.toml"):
        (tmp_path / name).write_bytes(data)
        try:
            resolve(None, None, {})
        except GoscopeError:
            pass
        (tmp_path / name).unlink()


class RecordingConnection(sqlite3.Connection):
    """Notes the text of every statement."""

    statements: ClassVar[set[str]] = set()

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.statements.add(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.statements.add(sql)
        return super().executemany(sql, *parameters)

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        self.statements.add(sql)
        return super().executescript(sql)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(RecordingCursor)


class RecordingCursor(sqlite3.Cursor):
    """As `RecordingConnection`."""

    def execute(self, sql: str, *parameters: Any) -> RecordingCursor:
        RecordingConnection.statements.add(sql)
        super().execute(sql, *parameters)
        return self


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The texts of the statements that run in the test."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def recording(
        *arguments: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **options: Any
    ) -> sqlite3.Connection:
        recorded = type("Recorded", (RecordingConnection, factory), {})  # the writer's has its own
        return connect(*arguments, factory=recorded, **options)

    monkeypatch.setattr(sqlite3, "connect", recording)
    RecordingConnection.statements.clear()
    yield RecordingConnection.statements
    RecordingConnection.statements.clear()


@pytest.mark.parametrize("writes", ["loop", "thread"])
def test_no_statement_contains_what_came_in(
    tmp_path: Path, statements: set[str], writes: Any
) -> None:
    """Keys, values, tags, patterns, owners, ids and a file's name are never part of SQL."""
    path = tmp_path / f"{HOSTILE.replace('/', '')}.db"

    async def use() -> None:
        adapter = SQLiteAdapter(path, locks="shared", writes=writes)
        async with Scope(persistence=adapter) as gs:
            await call_every_method(gs, adapter, HOSTILE)
            await adapter.backup(tmp_path / f"copy {HOSTILE.replace('/', '')}")

    asyncio.run(use())
    assert len(statements) > 100, "the statements are not recorded"
    assert not [text for text in statements if "canary" in text]

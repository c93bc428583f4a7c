"""No statement that a server gets contains a text that came in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from goscope import Scope
from goscope.backend import SystemClock
from goscope_mysql._engine.connection import Connection, Result
from goscope_postgres import PostgresAdapter
from tests.hostile_calls import HOSTILE, call_every_method

from .mysql import databases
from .postgres.stores import Store as PostgresStore

pytestmark = pytest.mark.asyncio


def assert_clean(statements: set[str]) -> None:
    assert len(statements) > 30, "the statements are not recorded"
    assert not [text for text in statements if "canary" in text]


async def test_postgresql(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver tells what it sends; values travel beside it."""
    connect, statements = asyncpg.connect, set[str]()

    async def recording(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        connection.add_query_logger(lambda record: statements.add(record.query))
        return connection

    store = await PostgresStore.create()
    try:
        monkeypatch.setattr(asyncpg, "connect", recording)
        adapter = PostgresAdapter(store.dsn, schema=store.name)
        async with Scope(persistence=adapter) as gs:
            await call_every_method(gs, adapter, HOSTILE)
    finally:
        monkeypatch.undo()
        await store.drop()
    assert_clean(statements)


async def test_mysql(mysql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements are prepared. Those of a script, which are not, are noted before the values are
    put in, which the driver escapes in a session that has backslash escapes."""
    run, script, statements = Connection.run, Connection.script, set[str]()

    async def noted_run(self: Connection, sql: str, parameters: Sequence[Any] = ()) -> Result:
        statements.add(sql)
        return await run(self, sql, parameters)

    async def noted_script(self: Connection, parts: Any) -> list[Result]:
        statements.update(sql for sql, _ in parts)
        return await script(self, parts)

    monkeypatch.setattr(Connection, "run", noted_run)
    monkeypatch.setattr(Connection, "script", noted_script)
    try:
        adapter = await databases.adapter_on(tmp_path, clock=SystemClock())
        async with Scope(persistence=adapter) as gs:
            await call_every_method(gs, adapter, HOSTILE)
    finally:
        await databases.drop_all()
    assert_clean(statements)

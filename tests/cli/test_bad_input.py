"""Bad input: one clear line on standard error, an exit code, and nothing changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.missing import missing

from .operator import Operator, cached

COMMANDS = (["status"], ["locks", "list"], ["cache", "clear", "--yes"], ["prune"], ["backup", "x"])


def no_file(_: Operator) -> None:
    pass


def text(operator: Operator) -> None:
    operator.path.write_text("this is a text and not a database " * 100)


def other_tables(operator: Operator) -> None:
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")


def foreign_schema(operator: Operator) -> None:
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute("CREATE TABLE go_goscope_cache (name TEXT)")


def set_version(operator: Operator, version: int) -> None:
    operator.prepare(cached)
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute(
            "UPDATE go_goscope_meta SET value = ? WHERE key = 'schema_version'", (version,)
        )
        connection.commit()


def future(operator: Operator) -> None:
    set_version(operator, 99)


def older(operator: Operator) -> None:
    set_version(operator, 1)


def missing_table(operator: Operator) -> None:
    operator.prepare(cached)
    with closing(sqlite3.connect(operator.path)) as connection:
        connection.execute("DROP TABLE go_goscope_processes")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (no_file, "there is no goscope store"),
        (other_tables, "there is no goscope store"),
        (text, "not an SQLite database"),
        (foreign_schema, "lacks the columns"),
        (future, "Upgrade goscope-sqlite"),
        (older, "the schema has version 1"),
        (missing_table, "lacks go_goscope_processes"),
    ],
)
def test_a_store_that_cannot_be_opened_is_left_alone(
    operator: Operator, prepare: Callable[[Operator], None], reason: str
) -> None:
    prepare(operator)
    before = operator.contents()
    for command in COMMANDS:
        ran = operator(*command)
        assert (ran.code, ran.out) == (2, ""), command
        assert ran.err.count("\n") == 1
        assert ran.err.startswith(f"goscope {command[0]}")
        assert reason in ran.err
        assert operator.contents() == before


def test_a_file_of_another_user_is_reported(operator: Operator) -> None:
    operator.prepare(cached)
    operator.path.chmod(0)
    command = [*_without_rights_of_root(), sys.executable, "-m", "goscope", "status"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "app.db" in ran.stderr


def _without_rights_of_root() -> list[str]:
    """The beginning of a command line whose process may not read every file."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        missing("setpriv, which drops rights, is not installed: it is in util-linux")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize(
    "url",
    [
        "nope://me:s3cret@host",
        "sqlite:///no.db?pasword=s3cret",
        "postgres://me:s3cret@127.0.0.1:1/x",
        "mysql://me:s3cret@127.0.0.1:1/x",
        "redis://me:s3cret@127.0.0.1:1",
        "redis://me:s3cret@host:port",
        "memory://",
        "sqlite:///:memory:",
        "text",
    ],
)
def test_a_bad_url_is_one_line_without_the_password(operator: Operator, url: str) -> None:
    ran = operator("status", "--url", url)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "s3cret" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["redis://me:s3cret@host"],
        ["status", "redis://me:s3cret@host"],
        ["status", "--ulr", "redis://me:s3cret@host"],
        ["status", "--ulr=redis://me:s3cret@host"],
        ["locks", "redis://me:s3cret@host"],
        ["migrate", "--overwrit", "redis://me:s3cret@host", "redis://me:s3cret@host"],
    ],
)
def test_a_wrong_invocation_prints_no_password(operator: Operator, arguments: list[str]) -> None:
    ran = operator(*arguments)
    assert ran.code == 2
    assert "s3cret" not in ran.out + ran.err


def test_the_store_is_found_as_a_scope_finds_it(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.prepare(cached)
    monkeypatch.delenv("GOSCOPE_URL")
    monkeypatch.chdir(tmp_path)
    assert "no backend was chosen" in operator("cache", "keys").err
    (tmp_path / "goscope.toml").write_text('backend = "sqlite"\npath = "store/app.db"\n')
    assert len(operator("cache", "keys", "--json").records) == 3
    monkeypatch.setenv("GOSCOPE_URL", "sqlite:///missing.db")
    assert operator("cache", "keys").code == 2
    assert len(operator("cache", "keys", "--json", "--url", operator.url).records) == 3
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.asyncio
async def test_a_locked_file_can_be_read_and_a_write_says_that_it_is_busy(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.url += "&busy_timeout=1ms"
    monkeypatch.setenv("GOSCOPE_URL", operator.url)
    async with operator.scope() as gs:
        await cached(gs)
        with closing(sqlite3.connect(operator.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert (await operator.run("status")).code == 0
            ran = await operator.run("cache", "delete", "user:1", "--yes")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "kept the database locked" in ran.err

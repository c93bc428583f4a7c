"""``goscope migrate`` as a user starts it: real processes on real files."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from goscope import Checkpoint, CircuitBreakerState, Scope
from goscope.cli import _main

from .demo_runs import COMMAND, Run, finished

ENTRIES = 20_000
"""A migration that is still running when the test gets to kill it."""

Migrate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def migrate(tmp_path: Path) -> Migrate:
    """Run the command in the folder of the test."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "migrate", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def url(path: Path, backend: str = "sqlite") -> str:
    return f"{backend}:///{path}?key_prefix=shop:"


async def fill(path: Path, entries: int = 3) -> None:
    """A store with records of every kind."""
    async with Scope(f"{url(path)}&locks=shared") as gs:
        store = gs.persistence
        assert store.cache is not None
        assert store.circuit_breaker is not None
        assert store.checkpoint is not None
        assert store.idempotency is not None
        assert store.lock is not None
        await store.cache.set_many({f"key:{n}": {"number": n} for n in range(entries)}, "1h")
        await store.cache.set("tagged", 1.5, "1h", tags=["t"], stale_for="2h")
        await store.idempotency.set("paid", "receipt", "2h", fingerprint="f")
        await store.circuit_breaker.set_state("api", CircuitBreakerState(failure_count=2))
        for sequence in range(4):
            await store.checkpoint.save(
                Checkpoint(
                    id=f"c{sequence}", task_id="etl", sequence=sequence, timestamp=5, data=sequence
                )
            )
        await store.lock.acquire("door", "1h", "job-7")


async def contents(path: Path, backend: str = "sqlite") -> dict[str, Any]:
    """What the store holds; times left in hours, since two stores are read at two times."""
    found: dict[str, Any] = {}

    def hours(milliseconds: int | None) -> int | None:
        return None if milliseconds is None else round(milliseconds / 3_600_000)

    async with Scope(f"{url(path, backend)}&locks=shared") as gs:
        store = gs.persistence
        assert store.cache is not None
        assert store.checkpoint is not None
        assert store.idempotency is not None
        async for entry in gs.inspect.entries():
            times = hours(entry.expires_in_ms), hours(entry.stale_expires_in_ms)
            found[f"entry {entry.key}"] = await store.cache.get(entry.key), times, entry.tags
        async for result in gs.inspect.results():
            record = await store.idempotency.get(result.key)
            assert record
            left = hours(result.expires_in_ms)
            found[f"result {result.key}"] = record.value, left, record.fingerprint
        async for circuit in gs.inspect.circuits():
            found[f"circuit {circuit.key}"] = circuit.state
        async for task in gs.inspect.tasks():
            found[f"task {task.id}"] = await store.checkpoint.list(task.id)
        async for lease in gs.inspect.leases():
            found[f"lease {lease.key}"] = lease.owner, lease.pid, hours(lease.expires_in_ms)
    return found


def files(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def counts(output: str) -> dict[str, list[int]]:
    """The rows of the table."""
    rows = re.findall(r"^([a-z]+) +((?:[\d,]+ *){8})$", output, re.MULTILINE)
    return {name: [int(it.replace(",", "")) for it in row.split()] for name, row in rows}


@pytest.mark.asyncio
async def test_a_round_trip_over_another_backend_keeps_everything(
    tmp_path: Path, migrate: Migrate
) -> None:
    one, two, three = (tmp_path / name for name in ("1.db", "2.db", "3.db"))
    await fill(one)
    original = await contents(one)
    assert len(original) == 8
    for source, destination in (
        (url(one), url(two, "sqlite-bun")),
        (url(two, "sqlite-bun"), url(three)),
    ):
        done = await asyncio.to_thread(migrate, source, destination)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout.endswith("hold the same 8 live records.\n")
        assert counts(done.stdout)["entries"] == [4, 4, 0, 0, 0, 0, 4, 0]
        assert [c for c in done.stdout if not c.isprintable() and c != "\n"] == []
    assert await contents(two, "sqlite-bun") == original
    assert await contents(three) == original
    again = await asyncio.to_thread(migrate, url(one), url(three))
    assert again.returncode == 0
    assert counts(again.stdout)["entries"] == [4, 0, 4, 0, 0, 0, 4, 0]


@pytest.mark.long
def test_a_killed_migration_is_continued(tmp_path: Path, migrate: Migrate) -> None:
    source, destination = tmp_path / "1.db", tmp_path / "2.db"
    asyncio.run(fill(source, ENTRIES))
    command = [*COMMAND, "migrate", url(source), url(destination)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(r" [1-9]\d%  entries", line):
                break
        process.kill()
    assert process.returncode == -signal.SIGKILL
    moved = len(asyncio.run(contents(destination)))
    assert 0 < moved < ENTRIES
    done = migrate(url(source), url(destination))
    assert done.returncode == 0, done.stdout + done.stderr
    found, copied, present, *_, verified, _ = counts(done.stdout)["entries"]
    assert (found, present, verified) == (ENTRIES + 1, moved, ENTRIES + 1)
    assert copied == found - moved
    assert asyncio.run(contents(destination)) == asyncio.run(contents(source))


@pytest.mark.asyncio
async def test_a_difference_is_printed_with_its_key(tmp_path: Path, migrate: Migrate) -> None:
    source, destination = tmp_path / "1.db", tmp_path / "2.db"
    await fill(source)
    async with Scope(url(destination)) as gs:
        await gs.cache.set("key:1", "newer", None)
    done = await asyncio.to_thread(migrate, url(source), url(destination))
    assert done.returncode == 1
    assert "entries 'key:1': differs in the destination\n" in done.stdout
    assert "FAILED: 1 records" in done.stdout
    found = await contents(destination)
    assert found["entry key:1"][0] == "newer"
    done = await asyncio.to_thread(migrate, url(source), url(destination), "--overwrite")
    assert done.returncode == 0
    assert await contents(destination) == await contents(source)


@pytest.mark.asyncio
async def test_a_dry_run_creates_and_writes_nothing(tmp_path: Path, migrate: Migrate) -> None:
    source, destination = tmp_path / "1.db", tmp_path / "2.db"
    await fill(source)
    done = await asyncio.to_thread(migrate, url(source), url(destination), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout)["entries"] == [4, 4, 0, 0, 0, 0, 0, 0]
    assert not destination.exists()
    await fill(destination, 1)
    before = await contents(destination)
    done = await asyncio.to_thread(migrate, url(source), url(destination), "--dry-run")
    assert counts(done.stdout)["entries"] == [4, 2, 2, 0, 0, 0, 0, 0]
    assert await contents(destination) == before


def write_text(folder: Path) -> None:
    (folder / "bad.db").write_text("this is a text and not a database " * 100)


def write_other_tables(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "bad.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")


def write_wrong_schema(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "bad.db")) as connection:
        connection.execute("CREATE TABLE go_goscope_cache (name TEXT)")


def write_newer_schema(folder: Path) -> None:
    asyncio.run(fill(folder / "bad.db"))
    with closing(sqlite3.connect(folder / "bad.db")) as connection:
        connection.execute("UPDATE go_goscope_meta SET value = 99 WHERE key = 'schema_version'")
        connection.commit()


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (None, "there is no goscope store at SRC_URL"),
        (write_other_tables, "there is no goscope store at SRC_URL"),
        (write_text, "not an SQLite database"),
        (write_wrong_schema, "lacks the columns"),
        (write_newer_schema, "Upgrade goscope-sqlite"),
    ],
)
def test_a_bad_source_is_refused_and_left_alone(
    tmp_path: Path, migrate: Migrate, prepare: Callable[[Path], None] | None, reason: str
) -> None:
    if prepare is not None:
        prepare(tmp_path)
    before = files(tmp_path)
    done = migrate("sqlite:///bad.db", "sqlite:///new.db")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("goscope migrate: ")
    assert reason in done.stderr
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("sqlite:///./1.db?key_prefix=other:", "are the same store"),
        ("sqlite:///missing/2.db", "does not exist"),
        ("sqlite:////proc/2.db", "/proc/2.db"),
        ("memory://", "no capability 'persistent'"),
        ("nosuch://host/2", "no backend named 'nosuch' is installed"),
        ("2.db", "names no backend"),
        ("sqlite:///2.db?key_perfix=shop:", "key_perfix"),
    ],
)
def test_a_bad_destination_is_refused(
    tmp_path: Path, migrate: Migrate, destination: str, reason: str
) -> None:
    asyncio.run(fill(tmp_path / "1.db"))
    before = asyncio.run(contents(tmp_path / "1.db"))
    done = migrate(url(tmp_path / "1.db"), destination)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["1.db"]
    assert asyncio.run(contents(tmp_path / "1.db")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("sqlite://user:secret@host/1.db", "sqlite:///2.db"),
        ("nosuch://user:secret@host/1", "sqlite:///2.db?password=secret"),
        ("sqlite:///1.db", "nosuch://user:secret@host/1"),
        ("sqlite:///1.db", "sqlite:///2.db", "nosuch://user:secret@host/1"),
        ("sqlite:///1.db", "nosuch://user:secret@host:port/1"),
    ],
)
def test_no_password_is_printed(
    tmp_path: Path, migrate: Migrate, arguments: tuple[str, ...]
) -> None:
    asyncio.run(fill(tmp_path / "1.db"))
    done = migrate(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stdout + done.stderr


def test_a_terminal_gets_bars_that_end_in_the_same_table(tmp_path: Path) -> None:
    script = shlex.join([*COMMAND, "migrate", url(tmp_path / "1.db"), url(tmp_path / "2.db")])
    asyncio.run(fill(tmp_path / "1.db"))
    read = "import pty, shlex, sys; sys.exit(pty.spawn(shlex.split(sys.argv[1])) >> 8)"
    done = subprocess.run(
        [sys.executable, "-c", read, script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b[" in done.stdout
    assert "100%" in done.stdout
    assert "hold the same 8 live records" in done.stdout


def test_it_works_without_rich(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(fill(tmp_path / "1.db"))
    monkeypatch.setitem(sys.modules, "rich", None)
    assert _main.main(["migrate", url(tmp_path / "1.db"), url(tmp_path / "2.db")]) == 0
    assert "100%  entries      4 of 4" in capsys.readouterr().out


@pytest.mark.long
def test_a_stopped_demo_continues_in_another_file(tmp_path: Path, migrate: Migrate) -> None:
    folder, moved = tmp_path / "demo", tmp_path / "moved.db"
    with Run("--path", folder, "--records", "1500", "--seed", "3") as run:
        run.read_until(r" [2-9]\d%")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.finish() == 130, run.output + run.errors
    prefix = f"demo-{json.loads((folder / 'plan.json').read_text())['id']}:"
    source, destination = (
        f"sqlite:///{path}?key_prefix={prefix}" for path in (folder / "import.db", moved)
    )
    done = migrate(source, destination)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout)["results"][1] > 100
    for file in folder.glob("import.db*"):
        file.unlink()
    code, continued = finished("--path", folder, "--url", f"sqlite:///{moved}")
    assert code == 0, continued.output + continued.errors
    assert continued.output.startswith("Resuming the import of 1,500 airports")
    assert continued.ledger["records imported"].value == "1,500 of 1,500"
    assert continued.ledger["duplicate charges"].value == "0"

"""``goscope backup`` and ``goscope restore``."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from goscope import Scope
from goscope_sqlite import SQLiteAdapter, restore
from goscope_sqlite._engine import copy_check

from .operator import OPEN, Operator, cached, charged, half_done, locked, process, run_beside

WRITERS = 4
WRITER = """if True:
    import asyncio, sys
    from goscope import Scope

    async def main(url, name):
        async with Scope(url) as gs:
            for number in range(100_000):
                await gs.idempotency.run(f"{name}:{number}", lambda: "x" * 500)
                print(number, flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def settings_are_there(gs: Scope) -> None:
    assert await gs.cache.get("settings") == [1]


def results(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT key FROM go_goscope_idempotency")}


def test_a_backup_under_load_holds_every_acknowledged_result(
    operator: Operator, tmp_path: Path
) -> None:
    operator.prepare(cached, half_done)
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, operator.url, f"writer{n}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(WRITERS)
    ]
    acknowledged: set[str] = set()
    try:
        for number, writer in enumerate(processes):
            assert writer.stdout is not None
            for _ in range(25):
                acknowledged.add(f"writer{number}:{writer.stdout.readline().strip()}")
        ran = operator("backup", str(target))
        for writer in processes:  # they wrote on, and found the store unlocked
            assert writer.stdout is not None
            assert writer.stdout.readline()
    finally:
        for writer in processes:
            writer.kill()
            writer.communicate()
    assert ran.code == 0, ran.err
    assert "100%" in ran.err
    assert ran.out.startswith(f"Backed up to {target}")
    assert names(target.parent) == {"copy.db"}
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(acknowledged) == WRITERS * 25
    assert acknowledged <= results(target)
    operator.use(target)
    operator.prepare(settings_are_there)
    assert operator("doctor").code == 0


def test_a_fresh_backup_is_listed_and_changed_in_its_journal_mode(
    operator: Operator, tmp_path: Path
) -> None:
    operator.prepare(cached, locked)
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = folder / "copy.db"
    assert operator("backup", str(copy)).code == 0
    operator.use(copy)
    before = operator.contents()
    for listing in (["status"], ["locks", "list"], ["cache", "keys"], ["cache", "get", "user:1"]):
        ran = operator(*listing)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out
    assert operator.contents() == before
    assert operator("locks", "release", "door", "--yes").code == 0
    assert operator("locks", "list").out == ""
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
    assert list(operator.contents()) == ["copy.db"]


@pytest.mark.asyncio
async def test_a_program_can_open_a_backup_while_a_command_reads_it(
    operator: Operator, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with SQLiteAdapter(operator.path) as adapter:
        await adapter.cache.set("settings", [1])
        await adapter.backup(copy)
    attached = SQLiteAdapter(copy)
    await attached.attach()
    assert await attached.cache.get("settings") == [1]
    async with SQLiteAdapter(copy) as program:  # switches the file to WAL
        await program.cache.set("settings", [2])
        assert await attached.cache.get("settings") == [2]
        await attached.cache.set("settings", [3])
        assert await program.cache.get("settings") == [3]
        await attached.disconnect()


def test_an_existing_file_is_not_replaced(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached)
    target = tmp_path / "copy.db"
    target.write_text("mine")
    ran = operator("backup", str(target))
    assert (ran.code, ran.out) == (2, "")
    assert target.read_text() == "mine"


def test_a_backup_that_cannot_be_written_leaves_nothing(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached)
    ran = operator("backup", str(tmp_path / "missing" / "copy.db"))
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert names(tmp_path) == {"store"}


def test_a_copy_that_differs_is_not_kept(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.prepare(cached)

    counts = iter([{"table": 1}, {"table": 2}])

    def count(_: sqlite3.Connection) -> dict[str, int]:
        return next(counts)

    monkeypatch.setattr(copy_check, "_counts", count)
    ran = operator("backup", str(tmp_path / "copy.db"))
    assert ran.code == 1
    assert names(tmp_path) == {"store"}


@pytest.mark.asyncio
async def test_a_cancelled_backup_leaves_nothing(operator: Operator, tmp_path: Path) -> None:
    async with SQLiteAdapter(operator.path) as adapter:
        await adapter.cache.set("big", "x" * 3_000_000)
        copying = asyncio.Event()

        def on_progress(_: int, __: int) -> None:
            copying.set()

        running = asyncio.ensure_future(adapter.backup(tmp_path / "copy.db", progress=on_progress))
        await copying.wait()
        running.cancel()
        await asyncio.wait([running])
        assert names(tmp_path) - {"copy.db"} == {"store"}


def test_restore_brings_back_what_the_backup_held(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached, half_done, charged, locked)
    copy = tmp_path / "copy.db"
    assert operator("backup", str(copy)).code == 0

    async def go_on(gs: Scope) -> None:
        await gs.cache.clear()
        for _ in range(50):
            async with gs.lock("door2"):
                pass

    operator.prepare(go_on)
    before = copy.read_bytes()
    ran = operator("restore", str(copy), "--yes")
    assert ran.code == 0, ran.err
    assert ran.out.endswith("3 entries, 1 results, 1 tasks, 0 circuits.\n")
    assert operator("locks", "list").out == ""  # its holder does not use this store
    assert copy.read_bytes() == before
    assert names(operator.path.parent) == {"app.db"}
    assert names(tmp_path) == {"copy.db", "store"}

    async def token(gs: Scope) -> None:
        assert gs.persistence.lock is not None
        handle = await gs.persistence.lock.acquire("door")
        assert handle is not None
        assert handle.fencing_token is not None
        assert handle.fencing_token > 51  # above all that were granted before

    operator.prepare(token)


def test_restore_creates_a_missing_store(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached)
    copy = tmp_path / "copy.db"
    assert operator("backup", str(copy)).code == 0
    operator.path.unlink()
    assert operator("restore", str(copy)).code == 2
    operator.answer("y")
    ran = operator("restore", str(copy))
    assert ran.code == 0
    assert "Replace the missing store" in ran.err
    assert len(operator("cache", "keys", "--json").records) == 3


def test_restore_refuses_a_store_that_is_open(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached)
    copy = tmp_path / "copy.db"
    assert operator("backup", str(copy)).code == 0
    with process(OPEN, operator.url) as pid:
        ran = operator("restore", str(copy), "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert f"is open in process {pid}" in ran.err
    assert operator("restore", str(copy), "--yes").code == 0


@pytest.mark.parametrize("content", ["", "a text " * 1000, None])
def test_restore_refuses_what_is_no_backup(
    operator: Operator, tmp_path: Path, content: str | None
) -> None:
    operator.prepare(cached)
    source = tmp_path / "source"
    if content is not None:
        source.write_text(content)
    before = operator.contents()
    ran = operator("restore", str(source), "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert operator.contents() == before
    assert operator("restore", str(operator.path), "--yes").code == 2


def test_a_damaged_backup_is_refused(operator: Operator, tmp_path: Path) -> None:
    operator.prepare(cached)
    copy = tmp_path / "copy.db"
    assert operator("backup", str(copy)).code == 0
    with copy.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(40_960))
    before = operator.contents()
    ran = operator("restore", str(copy), "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert operator.contents() == before


def test_a_failed_restore_leaves_the_store_as_it_was(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.prepare(cached)
    copy = tmp_path / "copy.db"
    assert operator("backup", str(copy)).code == 0
    run_beside(lambda: _clear(operator))
    before = operator.contents()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(restore, "_end_leases", fail)
    assert operator("restore", str(copy), "--yes").code == 2
    assert operator.contents() == before


async def _clear(operator: Operator) -> None:
    async with operator.scope() as gs:
        await gs.cache.clear()


def test_vacuum_makes_the_file_smaller(operator: Operator) -> None:
    async def fill(gs: Scope) -> None:
        await gs.cache.set("big", "x" * 2_000_000)
        await gs.cache.delete("big")

    operator.prepare(fill)
    before = operator.path.stat().st_size
    ran = operator("vacuum", "--yes")
    assert ran.code == 0
    assert operator.path.stat().st_size < before // 4

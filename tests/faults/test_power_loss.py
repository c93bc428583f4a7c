"""The power fails after each call that changes a file. A kill does not show this: the kernel lives.

The calls of a real run are recorded. For each of them a model computes what the disk may hold at
that moment, and plain sqlite3 opens it.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from .amounts import SEED, amount, is_long
from .conftest import Count
from .shim import run_with
from .trace import RECORD, Change, Disk, Record, read_trace

KEPT: Final = (0.0, 0.5, 1.0)
"""Which share of what was not synced reached the disk."""


def losses(folder: Path, trace: list[Record], scratch: Path, *, step: int, full: bool) -> int:
    """Fail the power after each sync, and after each step-th other call; how often it failed."""
    rng = random.Random(SEED)
    disk, failures = Disk(folder), 0
    for number, record in enumerate(trace):
        disk.apply(record)
        if record.change is Change.SYNC or number % step == 0:
            for kept in KEPT:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                disk.lose_power(scratch, rng, kept)
                acknowledged = {int(mark) for mark in disk.marks}
                problem = _problem(scratch / "store.db", acknowledged, full=full)
                assert not problem, f"after call {number}, {kept:.0%} kept: {problem} (seed {SEED})"
                failures += 1
    return failures


def _problem(path: Path, acknowledged: set[int], *, full: bool) -> str:
    """What is wrong with the files that are left; "" if nothing is."""
    if not path.exists():
        return f"the file is gone, and {acknowledged} with it" if full and acknowledged else ""
    try:
        with closing(sqlite3.connect(path)) as connection:
            [(integrity,)] = connection.execute("PRAGMA integrity_check").fetchall()
            if integrity != "ok":
                return str(integrity)
            tables = connection.execute("SELECT 1 FROM sqlite_master").fetchall()
            if not tables:
                return f"{acknowledged} are gone" if full and acknowledged else ""
            entries = dict(connection.execute("SELECT key, value FROM go_goscope_cache"))
            tags = {key for (key,) in connection.execute("SELECT key FROM go_goscope_cache_tags")}
    except sqlite3.DatabaseError as exc:
        return str(exc)
    found = {int(key.removeprefix("cache:")) for key in entries}
    if tags != entries.keys():
        return f"entries without their tags, or tags without entries: {tags ^ entries.keys()}"
    if found != set(range(len(found))):
        return f"a later write is there and an earlier one is not: {sorted(found)}"
    if full and not acknowledged <= found:
        return f"{acknowledged - found} were acknowledged and are missing"
    return ""


def record(shim: Path, folder: Path, durability: str, writes: str, sessions: int) -> list[Record]:
    folder.mkdir()
    trace = folder.parent / "trace"
    run_with(shim, "power_writer", folder, trace, durability, writes, sessions, timeout=300)
    return list(read_trace(trace))


@pytest.mark.parametrize("writes", ["auto", "loop"])
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_failure_after_any_call(
    shim: Path, tmp_path: Path, durability: str, writes: str, count: Count
) -> None:
    """``full`` keeps what was acknowledged, ``normal`` all writes up to one of them."""
    if not is_long() and writes != "auto":
        pytest.skip("only in make torture")
    trace = record(shim, tmp_path / "store", durability, writes, amount(1, 20))
    step = 1 if is_long() else 101
    failures = losses(
        tmp_path / "store", trace, tmp_path / "left", step=step, full=durability == "full"
    )
    syncs = sum(it.change is Change.SYNC for it in trace)
    count(f"power failures, durability={durability}, writes={writes}", failures)
    count(f"sync points of them, durability={durability}, writes={writes}", syncs)


def test_without_the_syncs_of_the_wal_the_model_finds_lost_writes(
    shim: Path, tmp_path: Path
) -> None:
    """What ``normal`` does is a broken ``full``."""
    trace = record(shim, tmp_path / "store", "normal", "auto", 1)
    with pytest.raises(AssertionError, match=r"acknowledged and are missing|gone"):
        losses(tmp_path / "store", trace, tmp_path / "left", step=7, full=True)


def test_a_checkpoint_before_the_sync_of_the_wal_is_found(shim: Path, tmp_path: Path) -> None:
    """Without syncs of the WAL, the database file can be newer than what describes it."""
    trace = record(shim, tmp_path / "store", "normal", "auto", 3)
    path = os.fsencode(tmp_path / "store" / "store.db-wal")
    wals = {it.inode for it in trace if it.change is Change.CREATE and it.data == path}
    unsynced = [it for it in trace if not (it.change is Change.SYNC and it.inode in wals)]
    assert len(unsynced) < len(trace)
    with pytest.raises(AssertionError, match="after call"):
        losses(tmp_path / "store", unsynced, tmp_path / "left", step=1, full=False)


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(
        RECORD.pack(Change.WRITE, 3, 7, 4096) + b"abc" + struct.pack("=IIQQ", Change.SYNC, 0, 7, 0)
    )
    assert list(read_trace(path)) == [
        Record(Change.WRITE, 7, 4096, b"abc"),
        Record(Change.SYNC, 7, 0, b""),
    ]

"""Compares what killed processes were told with what plain sqlite3 finds in the file.

It shares no code with goscope: the names of tables and the form of keys are written out.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from .kill_worker import STORE


class Note(NamedTuple):
    """A line of the log of a process."""

    what: str
    key: str
    value: str


def notes_of(log: Path) -> list[Note]:
    """The complete lines of a log."""
    lines = log.read_text().split("\n")[:-1]
    return [Note(*(line.split(" ", 2))) for line in lines]


class Rows:
    """The rows of the file, as sqlite3 reads them."""

    def __init__(self, folder: Path) -> None:
        self._path: Final = folder / STORE

    def all(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, timeout=60)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def values_of(self, name: str) -> dict[str, Any]:
        """The cache entries of a process, by key."""
        sql = "SELECT key, value FROM go_goscope_cache WHERE key GLOB ?"
        found = self.all(sql, f"cache:{name}.*")
        return {key.removeprefix("cache:"): json.loads(value) for key, value in found}


def violations_of_one(rows: Rows, name: str, notes: list[Note]) -> Iterator[str]:
    """What is missing or partial of the writes of a process that was killed."""
    done = {note for note in notes if note.what.startswith("done-")}
    yield from (f"{name} failed: {it.key} {it.value}" for it in notes if it.what == "error")
    if not any(note.what.startswith("begin-") for note in notes):
        return  # killed during its first open; there may be no table yet
    values = rows.values_of(name)
    tags = Counter(
        key.removeprefix("cache:")
        for (key,) in rows.all(
            "SELECT key FROM go_goscope_cache_tags WHERE key GLOB ?", f"cache:{name}.*"
        )
    )
    for note in notes:
        was_told = note._replace(what=note.what.replace("begin-", "done-")) in done
        if note.what == "begin-set":
            found = values.get(note.key), tags[note.key]
            if found not in ((int(note.value), 2), (None, 0)):
                yield f"{note.key} is partial: {found}"
            if was_told and found[0] is None:
                yield f"{note.key} was acknowledged and is missing"
        elif note.what == "begin-many":
            present = sum(values.get(f"{note.key}:{each}") is not None for each in range(3))
            if present not in ((3,) if was_told else (0, 3)):
                yield f"{present} of the 3 entries of {note.key} are present"
        elif note.what == "done-delete" and note.key in values:
            yield f"{note.key} was deleted and is present"
        elif note.what == "violation":
            yield f"{name} entered the lock with token {note.value} while another process was in it"
    yield from _missing_records(rows, name, notes)


def _missing_records(rows: Rows, name: str, notes: list[Note]) -> Iterator[str]:
    checkpoints = dict(
        rows.all(
            "SELECT task_id, sequence FROM go_goscope_checkpoints WHERE id GLOB ?", f"{name}.*"
        )
    )
    results = dict(
        rows.all("SELECT key, value FROM go_goscope_idempotency WHERE key GLOB ?", f"{name}.*")
    )
    leases = {
        key
        for (key,) in rows.all(
            "SELECT key FROM go_goscope_locks WHERE key GLOB ?", f"lease:idempotency:{name}.*"
        )
    }
    for note in notes:
        if note.what == "done-save" and checkpoints.get(note.key) != int(note.value):
            yield f"the checkpoint {note.key} was acknowledged and is missing"
        elif note.what == "begin-complete":
            has_lease = f"lease:idempotency:{note.key}" in leases
            if (note.key in results) == has_lease:
                yield f"{note.key}: the result and the end of its lease were not one transaction"
        elif note.what == "done-complete" and note.key not in results:
            yield f"the result {note.key} was acknowledged and is missing"


def violations_of_all(rows: Rows, notes: list[Note]) -> Iterator[str]:
    """What concerns all processes: the counts, the tokens and the file."""
    begun, done = Counter[str](), Counter[str]()
    for note in notes:
        phase, _, kind = note.what.partition("-")
        if phase == "begin":
            begun[kind] += 1
        elif phase == "done":
            done[kind] += 1
    [(count,)] = rows.all("SELECT value FROM go_goscope_cache WHERE key = 'cache:count'")
    [(failures,)] = rows.all("SELECT failure_count FROM go_goscope_circuit")
    for kind, found in (("increment", int(count)), ("fail", failures)):
        if not done[kind] <= found <= begun[kind]:
            yield f"{kind}: {done[kind]} acknowledged, {found} stored, {begun[kind]} begun"
    tokens = Counter(note.value for note in notes if note.what == "done-lock")
    yield from (f"token {token} was granted twice" for token, n in tokens.items() if n > 1)
    [(found,)] = rows.all("PRAGMA integrity_check")
    if found != "ok":
        yield f"integrity_check: {found}"

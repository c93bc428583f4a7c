"""Kills processes at random moments, and compares the user's tables with goscope's records.

python -m tests.sqlite.crashes 500

"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.sqlite import crash_worker
from tests.sqlite.crash_worker import ROWS

WORKERS: Final = 2
MAX_LIFE_S: Final = 0.01
"""A worker does a few operations in this time."""

CHARGES_THAT_DIFFER: Final = """
    SELECT 'charge ' || c.charge, c.receipt, i.value FROM charged AS c
    LEFT JOIN go_goscope_idempotency AS i
        ON i.key = 'charge:' || c.charge AND i.value = '"' || c.receipt || '"'
    WHERE i.key IS NULL
    UNION ALL
    SELECT i.key, c.receipt, i.value FROM go_goscope_idempotency AS i
    LEFT JOIN charged AS c ON i.key = 'charge:' || c.charge
    WHERE c.charge IS NULL
    UNION ALL
    SELECT 'charge ' || charge, count(*), 'charged several times' FROM charged
    GROUP BY charge HAVING count(*) > 1
"""
IMPORTS_THAT_DIFFER: Final = f"""
    WITH saved AS (
        SELECT task_id, max(CAST(data AS INTEGER)) AS done FROM go_goscope_checkpoints
        GROUP BY task_id
    ),
    written AS (
        SELECT 'import:' || import AS task_id, count(*) AS rows,
            count(DISTINCT row) AS distinct_rows
        FROM imported GROUP BY import
    )
    SELECT w.task_id, w.rows, coalesce(s.done, 'no checkpoint')
    FROM written AS w LEFT JOIN saved AS s USING (task_id)
    WHERE w.rows <> coalesce(s.done, {ROWS}) OR w.rows <> w.distinct_rows
    UNION ALL
    SELECT s.task_id, 'no rows', s.done FROM saved AS s
    WHERE s.task_id NOT IN (SELECT task_id FROM written)
"""
"""A finished import has all its rows and no checkpoint."""


class Counts(NamedTuple):
    """What a run has done. ``differences`` ended it, if there are any."""

    kills: int
    checks: int
    charges: int
    imports: int
    differences: list[tuple[Any, ...]]
    seconds: float


def run(path: Path, operations: int, *, planted: bool = False) -> Counts:
    """Do the operations in processes that are killed, until all are done or a check fails."""
    asyncio.run(crash_worker.create_tables(str(path)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.sqlite.crash_worker", "goscope_sqlite.adapter"])
    started, kills, checks = time.monotonic(), 0, 0
    differences: list[tuple[Any, ...]] = []
    is_done = False
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        while not (is_done or differences):
            workers = [_Worker(context, str(path), operations, planted) for _ in range(WORKERS)]
            try:
                for worker in workers:
                    worker.let_work()
                for worker in workers:
                    time.sleep(random.uniform(0, MAX_LIFE_S))
                    differences += differing(connection)
                    is_done |= worker.kill()
                    differences += differing(connection)
                    checks += 2
            finally:
                kills += sum(worker.was_killed() for worker in workers)
        charges, imports = (
            connection.execute(f"SELECT count(DISTINCT {column}) FROM {table}").fetchone()[0]
            for column, table in (("charge", "charged"), ("import", "imported"))
        )
    seconds = time.monotonic() - started
    return Counts(kills, checks, charges, imports, differences, seconds)


class _Worker:
    """A process that has opened the file."""

    def __init__(
        self, context: ForkServerContext, path: str, operations: int, planted: bool
    ) -> None:
        self._starter, theirs = context.Pipe()
        self._process = context.Process(
            target=crash_worker.work, args=(path, operations, planted, theirs)
        )
        self._process.start()
        theirs.close()

    def let_work(self) -> None:
        if self._starter.poll(60):
            self._starter.recv()
        with contextlib.suppress(BrokenPipeError):  # it has failed, as the counts show
            self._starter.send(None)

    def kill(self) -> bool:
        """End it; whether it had ended by itself because all operations were done."""
        self._process.kill()
        self._process.join()
        self._starter.close()
        if self._process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"a worker failed with exit code {self._process.exitcode}")
        return self._process.exitcode == 0

    def was_killed(self) -> bool:
        self.kill()
        return self._process.exitcode == -signal.SIGKILL


def differing(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """The rows without their record and the records without their rows, at one moment."""
    connection.execute("BEGIN")
    try:
        found: list[tuple[Any, ...]] = connection.execute(CHARGES_THAT_DIFFER).fetchall()
        return found + connection.execute(IMPORTS_THAT_DIFFER).fetchall()
    finally:
        connection.execute("COMMIT")


def main(operations: int) -> int:
    """Print the counts of a run, and those of one whose rows are committed on their own."""
    for planted in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            counts = run(Path(folder, "crash.db"), operations, planted=planted)
        sys.stdout.write(
            f"{'rows outside the transaction' if planted else 'rows in the transaction'}: "
            f"{counts.kills} kills, {counts.checks} checks, {counts.charges} charges and "
            f"{counts.imports} imports in {counts.seconds:.1f} s; "
            f"{len(counts.differences)} differences {counts.differences[:3] or ''}\n"
        )
        if bool(counts.differences) != planted:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

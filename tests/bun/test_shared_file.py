"""Python and Bun write to the same file at the same time, and no write is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from goscope_bun_compat import BunSQLiteAdapter

from .conftest import Serve

SECONDS = float(os.environ.get("GOSCOPE_STRESS_SECONDS", "3"))
MIN_ROUNDS = int(5 * SECONDS)
"""Every process works for so many rounds, however slow the machine is."""

WORKER = Path(__file__).with_name("worker.py")
PYTHONS = ("p1", "p2", "p3", "p4")
BUNS = ("b1", "b2")


@pytest.mark.asyncio
async def test_four_python_and_two_bun_processes_lose_no_write(path: Path, serve: Serve) -> None:
    """``make stress`` runs it for 20 s; set another duration as ``GOSCOPE_STRESS_SECONDS``."""
    services = [serve() for _ in BUNS]
    with ExitStack() as stack:
        for name, service in zip(BUNS, services, strict=True):
            service.start("hammer", name, int(SECONDS * 1000), MIN_ROUNDS)
        workers = [start_worker(stack, path, name) for name in PYTHONS]
        by_bun = total(service.result() for service in services)
        by_python = total(outcome(worker) for worker in workers)
    print(f"\nby Python: {dict(by_python)}\nby Bun: {dict(by_bun)}")  # noqa: T201  # with -s
    done = by_python + by_bun
    assert min(by_python["increments"], by_bun["increments"]) >= 2 * MIN_ROUNDS
    assert done["torn"] == 0
    await check_from_python(path, done)
    query = services[0].call
    counts = query("query", "SELECT value FROM go_goscope_cache WHERE key = 'cache:count'")
    assert json.loads(counts[0]["value"]) == done["increments"]
    assert query("circuit", "shared")["failure_count"] == done["failures"]


async def check_from_python(path: Path, done: Counter[str]) -> None:
    """Every count in the file matches the reports of the processes."""
    async with BunSQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("count") == done["increments"]
        circuit = await adapter.circuit_breaker.get_state("shared")
        assert circuit is not None
        assert circuit.failure_count == done["failures"]
        assert len(await adapter.cache.keys("[pb]*")) == 0, "* is the only wildcard"
        entries = sum([len(await adapter.cache.keys(f"{name}*:*")) for name in (*PYTHONS, *BUNS)])
        assert entries == done["entries"]
        assert len(await adapter.checkpoint.list("b1")) > 0
    connection = sqlite3.connect(path)
    saved = connection.execute("""
        SELECT count(*), count(DISTINCT id), sum(highest) FROM go_goscope_checkpoints
        LEFT JOIN (SELECT task_id AS task, max(sequence) AS highest, min(id) AS first
                   FROM go_goscope_checkpoints GROUP BY task_id) ON first = id
    """).fetchall()
    assert saved == [(done["checkpoints"],) * 3]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def start_worker(stack: ExitStack, path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), name, str(SECONDS), str(MIN_ROUNDS)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stack.enter_context(worker)
    stack.callback(worker.kill)
    return worker


def outcome(worker: subprocess.Popen[str]) -> dict[str, int]:
    """The report of the worker; its errors go to the stderr of the test."""
    stdout, _ = worker.communicate(timeout=SECONDS + 300)
    assert worker.returncode == 0
    done: dict[str, int] = json.loads(stdout)
    return done


def total(parts: Iterable[dict[str, int]]) -> Counter[str]:
    done: Counter[str] = Counter()
    for part in parts:
        done.update(part)
    return done

"""What holds among real processes on one file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from goscope import CircuitBreakerState, Scope

WORKER = Path(__file__).parent / "worker.py"
PROCESSES = 4


class Process:
    """A worker."""

    def __init__(self, what: str, folder: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, WORKER, what, folder / "app.db", folder / "journal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def line(self) -> str:
        """The next line it prints."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def go(self) -> None:
        """Let it begin."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()

    def result(self) -> Any:
        """What it prints at its end."""
        result = json.loads(self.line())
        assert self._popen.wait(30) == 0
        return result

    def kill(self) -> None:
        """End it where it is, if it has not ended."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(30)
        for stream in (self._popen.stdin, self._popen.stdout):
            assert stream is not None
            stream.close()


Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a worker; none outlives the test."""
    processes: list[Process] = []

    def start(what: str) -> Process:
        processes.append(Process(what, tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def run_all(start: Start, what: str) -> tuple[set[int], list[Any]]:
    """Let several processes begin at once: their ids and their results."""
    processes = [start(what) for _ in range(PROCESSES)]
    for process in processes:
        assert process.line() == "ready"
    for process in processes:
        process.go()
    return {process.pid for process in processes}, [process.result() for process in processes]


def journal(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "journal").read_text().split()]


@pytest.mark.parametrize("what", ["get_or_set", "once"])
def test_it_happens_once_and_everyone_gets_the_result(
    start: Start, tmp_path: Path, what: str
) -> None:
    """4 processes, 10 callers each."""
    pids, results = run_all(start, what)
    (pid,) = journal(tmp_path)
    assert pid in pids
    assert results == [[pid] * 10] * PROCESSES


def test_one_caller_probes_a_half_open_circuit(start: Start, tmp_path: Path) -> None:
    """Its failure opens the circuit again, so that of 4 times 10 callers no other gets through."""
    two_hours_ago = round(time.time() * 1000) - 7_200_000
    state = CircuitBreakerState(state="open", failure_count=1, last_failure_time=two_hours_ago)

    async def open_circuit() -> None:
        async with Scope(backend="sqlite", path=tmp_path / "app.db") as gs:
            circuits = gs.persistence.circuit_breaker
            assert circuits is not None
            await circuits.set_state("api", state)

    asyncio.run(open_circuit())
    _, results = run_all(start, "probe")
    assert len(journal(tmp_path)) == 1
    assert Counter(chain.from_iterable(results)) == {"ConnectionError": 1, "CircuitOpen": 39}


def test_a_killed_tasks_owner_is_replaced_at_once(start: Start) -> None:
    """Not when its lease of 10 s runs out: the process is seen to be gone."""
    first = start("task")
    assert first.line() == "ready"
    first.go()
    assert first.line() == "saved"
    second = start("task")
    assert second.line() == "ready"
    first.kill()
    began = time.monotonic()
    second.go()
    assert second.result() == 3
    assert time.monotonic() - began < 5

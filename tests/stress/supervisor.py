"""The fault injector: starts workers, kills and suspends them at random, and restarts them."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from .event_log import Log
from .worker import LEASE_MS

ROOT: Final = Path(__file__).parents[2]
TIMEOUT_S: Final = 60.0
"""A bound for the start and for the exit of a worker."""


class Worker:
    """One worker process."""

    def __init__(self, folder: Path, slot: int, number: int, seed: str) -> None:
        self.slot: Final = slot
        self.number: Final = number
        self.name: Final = f"{slot}.{number}"
        self.resume_at = 0.0
        self.is_ready = False
        self._errors = folder / f"{self.name}.err"
        command = [sys.executable, "-m", "tests.stress.worker", str(folder), self.name, seed]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    @property
    def is_suspended(self) -> bool:
        return self.resume_at > 0

    def wait_ready(self) -> None:
        """Wait until the scope of the worker is open."""
        if not self.is_ready:
            assert self._process.stdout is not None
            readable, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_S)
            self.is_ready = bool(readable) and self._process.stdout.readline() == b"ready\n"
            assert self.is_ready, f"{self.name} did not open its scope: {self._errors.read_text()}"

    def send(self, signal: signal.Signals) -> None:
        self._process.send_signal(signal)

    def request_exit(self) -> None:
        """Close the standard input, which makes the worker exit."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the exit and return its code."""
        return self._process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """Kill the worker if it is running, and close its pipes."""
        if not self.has_exited:
            self._process.kill()
        self._process.wait(TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    @property
    def last_error(self) -> str:
        """The last line of the error output: the exception."""
        lines = [line.strip(" |+-") for line in self._errors.read_text().splitlines()]
        return next((line for line in reversed(lines) if line), "no message")


class Supervisor:
    """Runs workers under faults. The end of its ``with`` block kills those that are left."""

    def __init__(self, folder: Path, log: Log, count: int, seed: str) -> None:
        self._folder = folder
        self._log = log
        self._seed = seed
        self._rng = random.Random(seed)
        self._count = count
        self._all: list[Worker] = []
        self._workers: list[Worker] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.kill()

    def run(self, seconds: float) -> None:
        """Run the workers and inject faults for this time; then let the workers exit."""
        self._workers = [self._start(slot, 1) for slot in range(self._count)]
        for worker in self._workers:
            worker.wait_ready()
        deadline = time.monotonic() + seconds
        faults = (self._suspend_past_the_lease, self._kill, self._suspend_within_the_lease)
        pending = list(faults)  # the shortest run has one fault of each kind
        while pending or time.monotonic() < deadline:
            inject = pending.pop(0) if pending else self._rng.choice(faults)
            inject()
            self._sleep(self._rng.uniform(0.05, 0.4))
        self._stop_all()

    def _kill(self) -> None:
        worker = self._rng.choice(self._workers)
        if worker.has_exited:
            self._log_exit(worker)
        else:
            self._log.mark("kill", worker.name)
        worker.kill()
        self._workers[worker.slot] = self._start(worker.slot, worker.number + 1)

    def _suspend_past_the_lease(self) -> None:
        self._suspend(self._rng.uniform(1.1, 2.5))

    def _suspend_within_the_lease(self) -> None:
        self._suspend(self._rng.uniform(0.02, 0.8))

    def _suspend(self, leases: float) -> None:
        """Suspend a worker for a multiple of the lease, unless half of them are suspended."""
        running = [worker for worker in self._workers if not worker.is_suspended]
        if len(running) <= len(self._workers) // 2:
            return
        worker = self._rng.choice(running)
        self._log.mark("suspend", worker.name, value=round(leases * LEASE_MS))
        worker.send(signal.SIGSTOP)
        worker.resume_at = time.monotonic() + leases * LEASE_MS / 1000

    def _sleep(self, seconds: float) -> None:
        """Sleep, and resume the suspended workers that are due."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for worker in self._workers:
                if worker.is_suspended and worker.resume_at <= time.monotonic():
                    self._resume(worker)
            time.sleep(min(left, 0.01))

    def _resume(self, worker: Worker) -> None:
        worker.send(signal.SIGCONT)
        worker.resume_at = 0.0
        self._log.mark("resume", worker.name)

    def _stop_all(self) -> None:
        for worker in self._workers:
            if worker.is_suspended:
                self._resume(worker)
        for worker in self._workers:
            worker.wait_ready()
            worker.request_exit()
        for worker in self._workers:
            self._log_exit(worker)

    def _log_exit(self, worker: Worker) -> None:
        """Record the exit of a worker that was not killed."""
        status = worker.wait()
        self._log.mark("exit", worker.name, status and f"{status}: {worker.last_error}")

    def _start(self, slot: int, number: int) -> Worker:
        worker = Worker(self._folder, slot, number, self._seed)
        self._all.append(worker)
        self._log.mark("start", worker.name)
        return worker

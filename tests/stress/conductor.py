"""Starts workers, kills and stops them at random moments, and ends them all."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from .record import Log
from .worker import LEASE_MS

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds a worker has to come to its end."""


class Worker:
    """One process."""

    def __init__(self, folder: Path, slot: int, number: int, seed: str) -> None:
        self.slot: Final = slot
        self.number: Final = number
        self.who: Final = f"{slot}.{number}"
        self.resumes = 0.0
        self.ready = False
        self._errors = folder / f"{self.who}.err"
        command = [sys.executable, "-m", "tests.stress.worker", str(folder), self.who, seed]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    @property
    def stopped(self) -> bool:
        return self.resumes > 0

    def wait_ready(self) -> None:
        """Wait until it has its scope open."""
        if not self.ready:
            assert self._process.stdout is not None
            said, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            self.ready = bool(said) and self._process.stdout.readline() == b"ready\n"
            assert self.ready, f"{self.who} did not open its scope: {self._errors.read_text()}"

    def send(self, signal: signal.Signals) -> None:
        self._process.send_signal(signal)

    def finish(self) -> None:
        """Let it come to its end, which it also does when this process is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """How it ended."""
        return self._process.wait(PATIENCE)

    def end(self) -> None:
        """End it where it is, if it has not ended, and give back what it took."""
        if not self.has_ended:
            self._process.kill()
        self._process.wait(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    @property
    def last_words(self) -> str:
        """The end of what it printed, which names its error."""
        lines = [line.strip(" |+-") for line in self._errors.read_text().splitlines()]
        return next((line for line in reversed(lines) if line), "no message")


class Conductor:
    """Workers that come and go; ``with`` it, so that none is left."""

    def __init__(self, folder: Path, log: Log, count: int, seed: str) -> None:
        self._folder = folder
        self._log = log
        self._seed = seed
        self._choice = random.Random(seed)
        self._count = count
        self._all: list[Worker] = []
        self._workers: list[Worker] = []

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.end()

    def run(self, seconds: float) -> None:
        """Let the workers work for so long, and disturb them; then let them come to an end."""
        self._workers = [self._start(slot, 1) for slot in range(self._count)]
        for worker in self._workers:
            worker.wait_ready()
        over = time.monotonic() + seconds
        disturbances = (self._stop_for_long, self._kill, self._stop_shortly)
        first = list(disturbances)  # even the shortest run has one of each
        while time.monotonic() < over:
            disturb = first.pop(0) if first else self._choice.choice(disturbances)
            disturb()
            self._pass_time(self._choice.uniform(0.05, 0.4))
        self._finish()

    def _kill(self) -> None:
        worker = self._choice.choice(self._workers)
        if worker.has_ended:
            self._report(worker)
        else:
            self._log.at("kill", worker.who)
        worker.end()
        self._workers[worker.slot] = self._start(worker.slot, worker.number + 1)

    def _stop_for_long(self) -> None:
        self._stop(self._choice.uniform(1.1, 2.5))

    def _stop_shortly(self) -> None:
        self._stop(self._choice.uniform(0.02, 0.8))

    def _stop(self, leases: float) -> None:
        """Stop a worker for so many times a lease, unless too few would be left running."""
        running = [worker for worker in self._workers if not worker.stopped]
        if len(running) <= len(self._workers) // 2:
            return
        worker = self._choice.choice(running)
        self._log.at("stop", worker.who, value=round(leases * LEASE_MS))
        worker.send(signal.SIGSTOP)
        worker.resumes = time.monotonic() + leases * LEASE_MS / 1000

    def _pass_time(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for worker in self._workers:
                if worker.stopped and worker.resumes <= time.monotonic():
                    self._resume(worker)
            time.sleep(min(left, 0.01))

    def _resume(self, worker: Worker) -> None:
        worker.send(signal.SIGCONT)
        worker.resumes = 0.0
        self._log.at("continue", worker.who)

    def _finish(self) -> None:
        for worker in self._workers:
            if worker.stopped:
                self._resume(worker)
        for worker in self._workers:
            worker.wait_ready()
            worker.finish()
        for worker in self._workers:
            self._report(worker)

    def _report(self, worker: Worker) -> None:
        """Write down how a worker that was not killed has ended."""
        status = worker.wait()
        self._log.at("exit", worker.who, status and f"{status}: {worker.last_words}")

    def _start(self, slot: int, number: int) -> Worker:
        worker = Worker(self._folder, slot, number, self._seed)
        self._all.append(worker)
        self._log.at("start", worker.who)
        return worker

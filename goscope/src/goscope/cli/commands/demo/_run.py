"""The conductor: starts the service and the workers, has one of them killed, and checks it all."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from typing import Final

import msgspec

from .... import (
    BackendError,
    ConfigurationError,
    InvalidOption,
    LeaseLost,
    Scope,
    TaskAlreadyRunning,
)
from . import _ledger, _log, _records
from ._child import Job
from ._crew import ChildFailed, Crew
from ._killer import Killer
from ._plan import Folder, Plan
from ._screen import Screen, open_screen
from ._snapshot import take
from ._store import CONDUCTOR, KILLED, RUNS, TTL, Kill, Store

LOOK_SECONDS: Final = 0.05


def run(arguments: argparse.Namespace) -> int:
    """Import and show the ledger; the exit code. Raises `ConfigurationError`."""
    folder = Folder(arguments.path)
    plan = folder.settle(arguments.records, arguments.seed)
    screen = open_screen()
    conductor = _Conductor(arguments, folder, plan, screen)
    try:
        return asyncio.run(conductor.run())
    except (BackendError, ChildFailed, LeaseLost, asyncio.CancelledError) as exc:
        if conductor.interrupted_by is None:
            screen.say(f"The import stopped: {exc}\nRun it again to resume {folder.path}.")
            return 1
    screen.say(f"Interrupted: nothing is left running. Run it again to resume {folder.path}.")
    return 128 + conductor.interrupted_by


class _Conductor:
    """One run of the command."""

    def __init__(
        self, arguments: argparse.Namespace, folder: Folder, plan: Plan, screen: Screen
    ) -> None:
        self._arguments = arguments
        self._folder = folder
        self._plan = plan
        self._screen = screen
        self._shards = _records.split(_records.load(plan.records))
        self.interrupted_by: signal.Signals | None = None

    async def run(self) -> int:
        """Import, then check; remove the files after success."""
        self._handle_signals()
        began = time.monotonic()
        store = await self._open_store()
        async with store.scope() as gs:
            self._folder.write(self._plan)  # not before: what cannot be opened was never begun
            facts = await self._alone(gs, store)
        lines = _ledger.lines(facts._replace(file_size=self._folder.file_size()))
        ok = not any(line.wrong for line in lines)
        self._screen.show_ledger(lines)
        seconds = time.monotonic() - began
        self._screen.say(f"{'All as it must be' if ok else 'NOT as it must be'}, {seconds:.1f} s")
        if ok and not self._arguments.keep:
            self._folder.remove()
        else:
            self._screen.say(f"The files are in {self._folder.path}")
        return 0 if ok else 1

    def _handle_signals(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine always runs in a task

        def leave(number: signal.Signals) -> None:
            # Once: impatience must not interrupt what makes the children leave.
            if self.interrupted_by is None:
                self.interrupted_by = number
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, leave, number)

    async def _open_store(self) -> Store:
        """Settle how everyone opens the store. Not every backend takes a path."""
        prefix = f"demo-{self._plan.id}:"
        if self._arguments.url is not None:
            return Store(prefix, url=self._arguments.url)
        backend = self._arguments.backend or "sqlite"
        store = Store(prefix, backend=backend, path=str(self._folder.database))
        try:
            async with store.scope():
                return store
        except InvalidOption as exc:
            if exc.option != "path":
                raise
            return msgspec.structs.replace(store, path=None)

    async def _alone(self, gs: Scope, store: Store) -> _ledger.Facts:
        """Conduct as a task of the store: two conductors would start twice the workers."""
        try:
            return await gs.tasks.run(CONDUCTOR, lambda _: self._conduct(gs, store), wait=0)
        except TaskAlreadyRunning as exc:
            pid = "unknown" if exc.holder is None else exc.holder.pid
            raise ConfigurationError(
                f"another one is at work in {self._folder.path} (process {pid}). "
                f"Wait for its end, or choose another folder with --path"
            ) from exc

    async def _conduct(self, gs: Scope, store: Store) -> _ledger.Facts:
        number = await gs.cache.increment(RUNS, ttl=TTL)
        self._greet(number)
        async with Crew(self._folder.errors) as crew:
            job = Job("service", self._plan, store, str(self._folder.path))
            url = await crew.start_service(job)
            for worker in range(1, self._arguments.workers + 1):
                name = f"{number}.{worker}"
                await crew.start_worker(msgspec.structs.replace(job, name=name, service=url))
            with self._screen:
                await self._watch(gs, crew)
        return await self._facts(gs, number)

    def _greet(self, number: int) -> None:
        verb = "Importing" if number == 1 else "Resuming the import of"
        self._screen.say(
            f"{verb} {self._plan.records:,} airports with {self._arguments.workers} workers "
            f"in {self._folder.path} (run {number}, --seed {self._plan.seed})"
        )

    async def _watch(self, gs: Scope, crew: Crew) -> None:
        """Show how far the workers are until they are done, and have one killed meanwhile."""
        killer = Killer(gs, self._plan, self._shards)
        kill = await gs.cache.get(KILLED, type=Kill)
        may_kill = kill is None and not self._arguments.no_kill
        self._screen.begin(self._plan.records, list(crew.workers))
        while crew.check(None if kill is None else kill.worker):
            snapshot = await take(gs, self._shards)
            self._screen.show(snapshot)
            if may_kill and (kill := await killer.look(snapshot, crew.workers)) is not None:
                may_kill = False
                self._screen.show_kill(kill)
            await asyncio.sleep(LOOK_SECONDS)
        self._screen.show(await take(gs, self._shards))

    async def _facts(self, gs: Scope, number: int) -> _ledger.Facts:
        return await _ledger.gather(
            gs,
            self._shards,
            self._plan.batch,
            _log.read(self._folder.service_log),
            kill_expected=number == 1 and not self._arguments.no_kill,
        )

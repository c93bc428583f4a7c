"""The supervisor: starts the service and the workers, kills a worker, and verifies the result."""

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
from . import _airports, _ledger, _log, _records
from ._child import Job
from ._children import ChildFailed, Children
from ._fault_injector import FaultInjector
from ._plan import Folder, Plan
from ._screen import Screen, open_screen
from ._snapshot import take
from ._store import KILLED, RUNS, SUPERVISOR_TASK, TTL, Kill, Store

POLL_INTERVAL_S: Final = 0.05


def run(arguments: argparse.Namespace) -> int:
    """Run the import, show the ledger, return the exit code. Raises `ConfigurationError`."""
    folder = Folder(arguments.path)
    plan = folder.load_or_create_plan(arguments.records, arguments.seed)
    screen = open_screen()
    supervisor = Supervisor(arguments, folder, plan, screen)
    try:
        return asyncio.run(supervisor.run())
    except (BackendError, ChildFailed, LeaseLost, asyncio.CancelledError) as exc:
        if supervisor.interrupted_by is None:
            screen.message(f"The import failed: {exc}")
            screen.message(f"Run the command again to resume it. Files: {folder.path}")
            return 1
    screen.message("Interrupted. All processes have stopped.")
    screen.message(f"Run the command again to resume the import. Files: {folder.path}")
    return 128 + supervisor.interrupted_by


class Supervisor:
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
        """Import and check; remove the files after success."""
        self._handle_signals()
        started = time.monotonic()
        store = await self._open_store()
        async with store.scope() as gs:
            self._folder.write(self._plan)  # now: a store that cannot open leaves no plan behind
            facts = await self._run_exclusively(gs, store)
        checks = _ledger.check(facts._replace(file_size=self._folder.file_size()))
        failed = sum(not check.passed for check in checks)
        self._screen.show_ledger(checks)
        result = f"{failed} of {len(checks)} checks FAILED" if failed else "All checks passed"
        self._screen.message(f"{result} in {time.monotonic() - started:.1f} s")
        if failed or self._arguments.keep:
            self._screen.message(f"Files: {self._folder.path}")
        else:
            self._folder.remove()
        return 1 if failed else 0

    def _handle_signals(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine always runs in a task

        def interrupt(number: signal.Signals) -> None:
            # Only once: a second Ctrl-C must not cancel the shutdown of the children.
            if self.interrupted_by is None:
                self.interrupted_by = number
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt, number)

    async def _open_store(self) -> Store:
        """Find out how all processes open the store: not every backend has a path."""
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

    async def _run_exclusively(self, gs: Scope, store: Store) -> _ledger.Facts:
        """Run as a task of the store, so that a second supervisor is refused."""
        try:
            return await gs.tasks.run(SUPERVISOR_TASK, lambda _: self._import(gs, store), wait=0)
        except TaskAlreadyRunning as exc:
            pid = "unknown" if exc.holder is None else exc.holder.pid
            raise ConfigurationError(
                f"process {pid} is running the demo in {self._folder.path}. "
                f"Wait until it ends, or choose another folder with --path"
            ) from exc

    async def _import(self, gs: Scope, store: Store) -> _ledger.Facts:
        number = await gs.cache.increment(RUNS, ttl=TTL)
        self._announce(number)
        if _airports.is_in_file(gs, store):
            await _airports.create(gs)
        async with Children(self._folder.errors) as children:
            job = Job("service", self._plan, store, str(self._folder.path))
            url = await children.start_service(job)
            for worker in range(1, self._arguments.workers + 1):
                name = f"{number}.{worker}"
                await children.start_worker(msgspec.structs.replace(job, name=name, service=url))
            with self._screen:
                await self._watch(gs, children)
        return await self._facts(gs, store, number)

    def _announce(self, number: int) -> None:
        verb = "Importing" if number == 1 else "Resuming the import of"
        self._screen.message(
            f"{verb} {self._plan.records:,} airports with {self._arguments.workers} workers "
            f"(run {number}, --seed {self._plan.seed})"
        )
        self._screen.message(f"Files: {self._folder.path}")

    async def _watch(self, gs: Scope, children: Children) -> None:
        """Show the progress and kill one worker, until all workers have ended."""
        injector = FaultInjector(gs, self._plan, self._shards)
        kill = await gs.cache.get(KILLED, type=Kill)
        may_kill = kill is None and not self._arguments.no_kill
        self._screen.begin(self._plan.records, list(children.workers))
        while children.check(None if kill is None else kill.worker):
            snapshot = await take(gs, self._shards)
            self._screen.show(snapshot)
            if may_kill:
                kill = await injector.kill_if_due(snapshot, children.workers)
                if kill is not None:
                    may_kill = False
                    self._screen.show_kill(kill)
            await asyncio.sleep(POLL_INTERVAL_S)
        self._screen.show(await take(gs, self._shards))

    async def _facts(self, gs: Scope, store: Store, number: int) -> _ledger.Facts:
        return await _ledger.gather(
            gs,
            self._shards,
            self._plan.batch,
            _log.read(self._folder.service_log),
            kill_expected=number == 1 and not self._arguments.no_kill,
            rows=await _airports.read(gs) if _airports.is_in_file(gs, store) else None,
        )

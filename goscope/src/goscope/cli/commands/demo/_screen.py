"""The output of the demo: progress bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table

from ._ledger import Check
from ._snapshot import Snapshot
from ._store import Kill

PLAIN_STEP_PERCENT: Final = 10
"""Progress between two lines of the plain output."""

DESCRIPTION_WIDTH: Final = len("all records, circuit half-open")
"""A fixed width: the bars keep their place when a description changes."""


class Screen(ABC):
    """Shows the progress of an import inside its block, and the ledger after it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    @abstractmethod
    def message(self, text: str) -> None:
        """Print a line."""

    @abstractmethod
    def begin(self, records: int, workers: Sequence[str]) -> None:
        """Start to show the progress of these workers."""

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show the progress."""

    def show_kill(self, kill: Kill) -> None:
        """Report the kill of a worker."""
        self.message(
            f"Killed worker {kill.worker} with SIGKILL "
            f"at record {kill.done:,} of shard {kill.shard}"
        )

    @abstractmethod
    def show_ledger(self, checks: Sequence[Check]) -> None:
        """Show the ledger."""


def open_screen() -> Screen:
    """The screen that fits the standard output."""
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(console)
    return PlainScreen()


class PlainScreen(Screen):
    """Lines for pipes and files: no control characters, no wrapping."""

    def __init__(self) -> None:
        self._records = 0
        self._next_percent = 0

    def message(self, text: str) -> None:
        print(text, flush=True)

    def begin(self, records: int, workers: Sequence[str]) -> None:
        self._records = records

    def show(self, snapshot: Snapshot) -> None:
        percent = 100 * snapshot.done // self._records
        if percent >= self._next_percent:
            self._next_percent = percent - percent % PLAIN_STEP_PERCENT + PLAIN_STEP_PERCENT
            total = f"{self._records:,}"
            self.message(f"{percent:3}%  {snapshot.done:{len(total)},} of {total} records")

    def show_ledger(self, checks: Sequence[Check]) -> None:
        width = max(len(check.name) for check in checks)
        for check in checks:
            verdict = "ok" if check.passed else "FAILED"
            expected = "" if check.passed else f" ({check.expected})"
            self.message(f"{verdict:6}  {check.name:{width}}  {check.value}{expected}")


class LiveScreen(Screen):
    """Progress bars: one for all records, one per worker. `show` redraws them, no thread does."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn(
                "{task.description}", table_column=Column(width=DESCRIPTION_WIDTH, no_wrap=True)
            ),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", justify="right"),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._total: TaskID | None = None
        self._workers: dict[str, TaskID] = {}
        self._records = 0

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for bar in self._bars.task_ids:
            if bar != self._total:
                self._bars.remove_task(bar)  # the final screen keeps only the total
        self._bars.refresh()
        self._bars.stop()

    def message(self, text: str) -> None:
        # Not wrapped, so that a path can be copied as one line.
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self, records: int, workers: Sequence[str]) -> None:
        self._records = records
        self._total = self._add("[bold]all records")
        self._workers = {worker: self._add(f"worker {worker}") for worker in workers}
        self._bars.start()

    def show(self, snapshot: Snapshot) -> None:
        if self._total is None:
            return
        state = snapshot.circuit.replace("_", "-")
        note = "" if state == "closed" else f", [yellow]circuit {state}"
        self._update(self._total, f"[bold]all records{note}", snapshot.done, self._records)
        for worker, bar in self._workers.items():
            shard = snapshot.shard_of(worker)
            if shard is None:
                self._reset(bar, f"worker {worker}")
            else:
                text = f"worker {worker}, shard {shard.shard.number}"
                self._update(bar, text, shard.done, shard.shard.size)
        self._bars.refresh()

    def show_kill(self, kill: Kill) -> None:
        super().show_kill(kill)
        bar = self._workers.pop(kill.worker)
        self._reset(bar, f"[red]worker {kill.worker}, killed")

    def show_ledger(self, checks: Sequence[Check]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for check in checks:
            verdict = "[green]ok" if check.passed else "[bold red]FAILED"
            expected = "" if check.passed else f" [red]({escape(check.expected)})"
            table.add_row(verdict, check.name, escape(check.value) + expected)
        self._console.print(table)

    def _add(self, text: str) -> TaskID:
        return self._bars.add_task(text, total=1, count="")

    def _reset(self, bar: TaskID, text: str) -> None:
        self._bars.update(bar, description=text, completed=0, count="")

    def _update(self, bar: TaskID, text: str, done: int, total: int) -> None:
        self._bars.update(
            bar, description=text, completed=done, total=total, count=f"{done:,}/{total:,}"
        )

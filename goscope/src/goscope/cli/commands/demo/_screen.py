"""What the user sees: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ._ledger import Line
from ._snapshot import Snapshot
from ._store import Kill

PLAIN_STEP: Final = 10
"""Percent between two plain lines."""


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
    def say(self, text: str) -> None:
        """Tell what happened."""

    @abstractmethod
    def begin(self, records: int, workers: Sequence[str]) -> None:
        """Get ready to show the progress of these workers."""

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show how far the import is."""

    def show_kill(self, kill: Kill) -> None:
        """Tell that a worker was killed."""
        self.say(
            f"Killed worker {kill.worker} (SIGKILL), at record {kill.done:,} of shard {kill.shard}"
        )

    @abstractmethod
    def show_ledger(self, lines: Sequence[Line]) -> None:
        """Show the ledger."""


def open_screen() -> Screen:
    """The screen that fits the standard output."""
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(console)
    return PlainScreen()


class PlainScreen(Screen):
    """Lines for pipes and files: no control characters, nothing wrapped."""

    def __init__(self) -> None:
        self._records = 0
        self._next = 0

    def say(self, text: str) -> None:
        print(text, flush=True)

    def begin(self, records: int, workers: Sequence[str]) -> None:
        self._records = records

    def show(self, snapshot: Snapshot) -> None:
        percent = 100 * snapshot.done // self._records
        if percent >= self._next:
            self._next = percent - percent % PLAIN_STEP + PLAIN_STEP
            self.say(f"{percent:3} %  {snapshot.done:,} of {self._records:,} records")

    def show_ledger(self, lines: Sequence[Line]) -> None:
        width = max(len(line.name) for line in lines)
        for line in lines:
            verdict = "WRONG" if line.wrong else "ok"
            wrong = f" ({line.wrong})" if line.wrong else ""
            self.say(f"{verdict:5}  {line.name:{width}}  {line.value}{wrong}")


class LiveScreen(Screen):
    """Bars that move: one for all records, one a worker. Drawn by `show`, not by a thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", justify="right"),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._all: TaskID | None = None
        self._workers: dict[str, TaskID] = {}
        self._records = 0

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def begin(self, records: int, workers: Sequence[str]) -> None:
        self._records = records
        self._all = self._add("[bold]all records")
        self._workers = {worker: self._add(f"worker {worker}") for worker in workers}
        self._bars.start()

    def show(self, snapshot: Snapshot) -> None:
        if self._all is None:
            return
        note = "" if snapshot.circuit == "closed" else f", [yellow]circuit {snapshot.circuit}"
        self._update(self._all, f"[bold]all records{note}", snapshot.done, self._records)
        for worker, bar in self._workers.items():
            state = snapshot.of(worker)
            if state is None:
                self._reset(bar, f"worker {worker}")
            else:
                text = f"worker {worker}, shard {state.shard.number:2}"
                self._update(bar, text, state.done, state.shard.size)
        self._bars.refresh()

    def show_kill(self, kill: Kill) -> None:
        super().show_kill(kill)
        self._reset(self._workers.pop(kill.worker), f"[red]worker {kill.worker}, killed")

    def show_ledger(self, lines: Sequence[Line]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        for line in lines:
            verdict = "[bold red]WRONG" if line.wrong else "[green]ok"
            wrong = f" [red]({escape(line.wrong)})" if line.wrong else ""
            table.add_row(verdict, line.name, escape(line.value) + wrong)
        self._console.print(table)

    def _add(self, text: str) -> TaskID:
        return self._bars.add_task(text, total=1, count="")

    def _reset(self, bar: TaskID, text: str) -> None:
        self._bars.update(bar, description=text, completed=0, total=1, count="")

    def _update(self, bar: TaskID, text: str, done: int, total: int) -> None:
        self._bars.update(
            bar, description=text, completed=done, total=total, count=f"{done:,}/{total:,}"
        )

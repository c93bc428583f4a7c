"""Checkpoints against one list per task."""

from __future__ import annotations

from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import invariant, rule

from ....errors import CheckpointConflict
from ....providers import Checkpoint
from .._base import checkpoints_of
from .._samples import checkpoint
from ._machine import Machine

TASKS: Final = ("a", "A")
IDS: Final = ("one", "two", "three", "four", "five")

any_task = st.sampled_from(TASKS)


class CheckpointMachine(Machine):
    """Every method, with ids that collide within a task and between two."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[str, list[Checkpoint]] = {task: [] for task in TASKS}

    @rule(task=any_task, ahead=st.integers(-1, 2), id=st.sampled_from(IDS), data=st.integers(0, 9))
    def save(self, task: str, ahead: int, id: str, data: int) -> None:
        rows = self.saved[task]
        latest = rows[-1] if rows else None
        sequence = max((latest.sequence if latest else 0) + ahead, 0)
        new = checkpoint(sequence, task, data, id=id)
        replaces = latest is not None and (latest.id, latest.sequence) == (id, sequence)
        is_above = latest is None or sequence > latest.sequence
        is_new = all(id != row.id for saved in self.saved.values() for row in saved)
        try:
            self.call(lambda it: checkpoints_of(it).save(new))
            rejected = False
        except CheckpointConflict:
            rejected = True
        self.check(f"{new} was rejected", rejected, not (replaces or (is_above and is_new)))
        if not rejected:
            self.saved[task] = [*(rows[:-1] if replaces else rows), new]

    @rule(task=any_task, keep=st.integers(0, 3))
    def cleanup(self, task: str, keep: int) -> None:
        self.call(lambda it: checkpoints_of(it).cleanup(task, keep))
        self.saved[task] = self.saved[task][-keep:] if keep else []

    @rule(task=any_task)
    def delete_all(self, task: str) -> None:
        self.call(lambda it: checkpoints_of(it).delete_all(task))
        self.saved[task] = []

    @rule(id=st.sampled_from(IDS))
    def load(self, id: str) -> None:
        found = self.call(lambda it: checkpoints_of(it).load(id))
        rows = [row for saved in self.saved.values() for row in saved if row.id == id]
        self.check(f"load({id!r})", found, rows[0] if rows else None)

    @invariant()
    def all_tasks_match(self) -> None:
        for task in TASKS:
            self._check_task(task, self.saved[task])

    def _check_task(self, task: str, rows: list[Checkpoint]) -> None:
        found = self.call(lambda it: checkpoints_of(it).list(task))
        self.check(f"list({task!r})", list(found), rows)
        latest = self.call(lambda it: checkpoints_of(it).load_latest(task))
        self.check(f"load_latest({task!r})", latest, rows[-1] if rows else None)

"""``goscope tasks``: which tasks run, which are half done, and deleting the latter."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ... import Scope
from ...inspection import TaskInfo
from ...providers import Checkpoint
from .._arguments import Group, add_key, add_pattern
from .._ask import confirm
from .._changes import delete_task, not_found
from .._exit import EXIT_OK, Refused
from .._find import find_task
from .._output import Columns, print_listing, print_record
from .._records import ListedCheckpoint, ListedTask
from .._store import run_on_store as run
from .._units import duration, moment, size
from .._values import json_value

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = "List tasks that run or are half done, read their checkpoints, and delete them."
EXTRA = "cli"
PACKAGES = ()

COLUMNS: Final[Columns[ListedTask]] = {
    "ID": lambda it: it.task.id,
    "STATE": lambda it: it.state,
    "PROGRESS": lambda it: None if it.task.progress is None else f"{it.task.progress:.0f}%",
    "ETA": lambda it: eta(it.task),
    "CHECKPOINTS": lambda it: it.task.checkpoints,
    "SIZE": lambda it: size(it.task.size_bytes),
    "SAVED": lambda it: moment(it.task.saved_at),
    "OWNER": lambda it: it.task.lease and it.task.lease.owner,
}
_CHECKPOINTS: Final[Columns[ListedCheckpoint]] = {
    "SEQUENCE": lambda it: it.sequence,
    "ID": lambda it: it.id,
    "SAVED": lambda it: moment(it.saved_at),
    "PROGRESS": lambda it: f"{it.progress:.0f}%",
    "SIZE": lambda it: size(it.size_bytes),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = Group(parser)
    add_pattern(group.listing("list", _list, "list the tasks that run or are half done"))
    show = group.listing("show", _show, "show one task")
    checkpoints = group.listing("checkpoints", _checkpoints, "list its checkpoints")
    delete = group.change("delete", _delete, "delete its checkpoints, so that it starts anew")
    for one in (show, checkpoints, delete):
        add_key(one, "id")


async def _list(gs: Scope, arguments: argparse.Namespace) -> int:
    async def listed() -> AsyncIterator[ListedTask]:
        async for task in gs.inspect.tasks(arguments.pattern):
            yield ListedTask.of(task)

    await print_listing(listed(), COLUMNS, as_json=arguments.json)
    return EXIT_OK


async def _show(gs: Scope, arguments: argparse.Namespace) -> int:
    task = ListedTask.of(await _find(gs, arguments.id))
    fields = {name.lower(): value(task) for name, value in COLUMNS.items()}
    print_record(task, fields, as_json=arguments.json)
    return EXIT_OK


async def _checkpoints(gs: Scope, arguments: argparse.Namespace) -> int:
    task = await _find(gs, arguments.id)

    async def listed() -> AsyncIterator[ListedCheckpoint]:
        assert gs.persistence.checkpoint is not None  # it has checkpoints
        for checkpoint in await gs.persistence.checkpoint.list(task.id, type=msgspec.Raw):
            yield _listed(checkpoint)

    if task.checkpoints:
        await print_listing(listed(), _CHECKPOINTS, as_json=arguments.json)
    return EXIT_OK


async def _delete(gs: Scope, arguments: argparse.Namespace) -> int:
    task = await _find(gs, arguments.id)
    lease = task.lease
    if lease is not None and task.is_running:
        raise Refused(
            f"nothing was deleted: task {task.id!r} is running in pid {lease.pid} on {lease.host} "
            f"({lease.owner}). Stop it first"
        )
    confirm(
        f"Delete the {task.checkpoints} checkpoints ({size(task.size_bytes)}) of task {task.id!r}, "
        f"the last one saved {moment(task.saved_at)} at {task.progress or 0:.0f}%?",
        arguments,
    )
    await delete_task(gs, task)
    print(f"Deleted the checkpoints of task {task.id!r}. Its next run starts anew.")
    return EXIT_OK


async def _find(gs: Scope, task_id: str) -> TaskInfo:
    task = await find_task(gs, task_id)
    if task is None:
        raise not_found("task", task_id)
    return task


def _listed(checkpoint: Checkpoint) -> ListedCheckpoint:
    return ListedCheckpoint(
        id=checkpoint.id,
        sequence=checkpoint.sequence,
        saved_at=checkpoint.timestamp,
        progress=checkpoint.progress,
        size_bytes=len(bytes(checkpoint.data)),
        data=json_value(checkpoint.data),
    )


def eta(task: TaskInfo) -> str | None:
    """The estimated time remaining."""
    remaining = task.estimated_time_remaining
    return None if remaining is None else duration(remaining)

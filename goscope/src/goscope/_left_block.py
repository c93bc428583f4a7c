"""Which block a task leaves when many tasks enter the same context manager."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

B = TypeVar("B")


def leave_block(
    entered: list[tuple[asyncio.Task[Any] | None, B]],
) -> tuple[asyncio.Task[Any] | None, B]:
    """Remove and return the block that the current task leaves, with the task that entered it.

    It is the last one that the current task entered. Another task may leave a block too, such as
    the one in which asyncio closes an abandoned generator, or the finalizer of a fixture: then by
    preference one whose own task has ended, and of several the oldest. Raises ``RuntimeError`` when
    no block was entered.
    """
    if not entered:
        raise RuntimeError(
            "this block was left without having been entered: use it as `async with`"
        )
    task = asyncio.current_task()
    own = [item for item in entered if item[0] is task]
    ended = [item for item in entered if item[0] is None or item[0].done()]
    item = (own[-1:] or ended or entered)[0]
    entered.remove(item)
    return item

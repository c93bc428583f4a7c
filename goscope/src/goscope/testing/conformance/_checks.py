"""Assertions and steps that many conformance tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import pytest

from ._samples import Bad

HANG_S: Final = 60.0
"""Real time after which an operation that takes milliseconds on an idle machine has hung."""


async def rejects(what: str, call: Callable[[Any], Awaitable[object]], bad: Iterable[Bad]) -> None:
    """Fail unless ``call`` raises the error of each bad argument."""
    for value, error in bad:
        text = f"{value!r:.60}"
        try:
            await call(value)
        except error:
            continue
        except Exception as exc:
            pytest.fail(f"{what} raised {exc!r} for {text}: raise {error.__name__}")
        pytest.fail(f"{what} accepted {text}: raise {error.__name__} before anything else")


def is_same(found: object, stored: object) -> bool:
    """Whether two JSON values are equal and of the same top-level type: 1 is not True."""
    return found == stored and type(found) is type(stored)


async def run_ticks(count: int) -> None:
    """Let the event loop run ``count`` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)

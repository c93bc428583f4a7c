"""Refusing work that would wait for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class ReentrancyGuard:
    """Knows which task runs the work of which key, to refuse work that would wait for itself.

    It recognises only the task itself. A task that the work has started may wait for the same key:
    it may outlive the work, and whether the work waits for it cannot be known.
    """

    def __init__(self) -> None:
        self._running: set[tuple[asyncio.Task[Any] | None, str]] = set()

    def check(self, key: str) -> None:
        """Raise ``RuntimeError`` when the current task runs the work of the key."""
        if (asyncio.current_task(), key) in self._running:
            raise RuntimeError(
                f"the work behind key {key!r} asks for {key!r} itself and would wait for its own "
                f"end. Call what it needs directly, or give that another key"
            )

    @contextmanager
    def running(self, key: str) -> Generator[None]:
        """Mark the block as the work of the key."""
        body = asyncio.current_task(), key
        self._running.add(body)
        try:
            yield
        finally:
            self._running.discard(body)

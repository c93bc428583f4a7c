"""A backend that is correct only within one process. `test_broken` runs the kit on it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from goscope.backend import Capability
from goscope.backend.records import RecordAdapter, Records
from goscope.testing.conformance import BackendConformance, EventsConformance, WaitConformance

T = TypeVar("T")


class UnlockedAdapter(RecordAdapter):
    """Replaces its file without excluding other processes."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    async def read_records(self, look: Callable[[Records], T]) -> T:
        return look(self.load())

    async def change_records(self, change: Callable[[Records], T]) -> T:
        records = self.load()
        result = change(records)
        new = self.path.with_suffix(f".{os.getpid()}")
        new.write_bytes(msgspec.json.encode(records))
        new.replace(self.path)
        return result

    def load(self) -> Records:
        if not self.path.exists():
            return Records()
        return msgspec.json.decode(self.path.read_bytes(), type=Records)


class TestUnlocked(BackendConformance, WaitConformance, EventsConformance):
    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[UnlockedAdapter]:
        path = tmp_path / "store"
        async with UnlockedAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

"""The adapter: transactions on one JSON file."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from goscope.backend import Capability, finish_before_cancel
from goscope.backend.records import RecordAdapter, Records
from goscope.errors import BackendCorrupt, BackendUnavailable

T = TypeVar("T")


class JSONAdapter(RecordAdapter):
    """A store in one JSON file, for a few hundred entries and any number of processes."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})

    def __init__(self, path: str | Path, **options: Any) -> None:
        super().__init__(**options)
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"JSONAdapter({str(self._path)!r})"

    async def read_records(self, look: Callable[[Records], T]) -> T:
        return look(await asyncio.to_thread(self._load))

    async def change_records(self, change: Callable[[Records], T]) -> T:
        return await finish_before_cancel(asyncio.to_thread(self._change, change))

    def _change(self, change: Callable[[Records], T]) -> T:
        new = Path(f"{self._path}.new")
        try:
            with open(f"{self._path}.lock", "wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # excludes other threads and processes
                records = self._load()
                result = change(records)
                new.write_bytes(msgspec.json.encode(records))
                new.replace(self._path)  # readers see the old file or the new one
                return result
        except OSError as exc:
            raise BackendUnavailable(f"{self._path} cannot be written: {exc}") from exc

    def _load(self) -> Records:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Records)
        except FileNotFoundError:
            return Records()
        except OSError as exc:
            raise BackendUnavailable(f"{self._path} cannot be read: {exc}") from exc
        except msgspec.DecodeError as exc:
            raise BackendCorrupt(f"{self._path} is not a JSON store: {exc}") from exc

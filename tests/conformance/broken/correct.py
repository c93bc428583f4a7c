"""A correct backend, and the test class that runs the kit on a broken variant of it."""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from goscope.backend.records import (
    RecordAdapter,
    RecordLockProvider,
    Records,
)
from goscope.providers import Capability
from goscope.testing.conformance import BackendConformance, EventsConformance, WaitConformance

PROVIDERS = ("lock", "cache", "circuit", "checkpoint", "idempotency")

T = TypeVar("T")


class CorrectAdapter(RecordAdapter):
    """A correct backend, whose stores are JSON texts in this process, by the name of a file."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    stores: ClassVar[dict[Path, bytes]] = {}

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(**options)
        self.path = path
        self.break_it()

    def break_it(self) -> None:
        """Introduce the bug."""

    async def read_records(self, look: Callable[[Records], T]) -> T:
        await asyncio.sleep(0)
        return look(self.load())

    async def change_records(self, change: Callable[[Records], T]) -> T:
        await asyncio.sleep(0)
        records = self.load()
        result = change(records)
        self.stores[self.path] = msgspec.json.encode(records)
        return result

    def load(self) -> Records:
        stored = self.stores.get(self.path)
        return Records() if stored is None else msgspec.json.decode(stored, type=Records)


class Broken(BackendConformance, WaitConformance, EventsConformance, abstract=True):
    """Runs the kit on ``adapter``; ``provider`` is the part of it that is broken."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True
    histories = 15
    adapter: ClassVar[type[CorrectAdapter]] = CorrectAdapter
    provider: ClassVar[str] = "any"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name.startswith("test_") and not cls.concerns(name.split("_")[1]):
                setattr(cls, name, None)  # pytest does not collect None

    @classmethod
    def concerns(cls, part: str) -> bool:
        """Whether the part of the contract may detect the bug; starting processes takes minutes."""
        provider = "lock" if part == "wait" else part
        is_of_another = provider in PROVIDERS and cls.provider not in ("any", provider)
        return part != "process" and not is_of_another

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[CorrectAdapter]:
        path = tmp_path / "store"
        async with self.adapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


def broken_locks(provider: type[RecordLockProvider]) -> type[CorrectAdapter]:
    """The correct adapter with another class for its locks and leases."""

    class Adapter(CorrectAdapter):
        def break_it(self) -> None:
            self.lock = provider(self.context, "lock", self)
            self.lease = provider(self.context, "lease", self)

    return Adapter


def broken(name: str, provider: type[Any]) -> type[CorrectAdapter]:
    """The correct adapter with another class for one provider."""

    class Adapter(CorrectAdapter):
        def break_it(self) -> None:
            arguments = (self.lease.notifier,) if name == "idempotency" else ()
            setattr(self, name, provider(self.context, self, *arguments))

    return Adapter

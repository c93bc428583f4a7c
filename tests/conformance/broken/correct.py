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
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)

from .caught_by import CAUGHT_BY, COMPARED_WITH_MODEL, MODEL

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


class Broken(
    BackendConformance, WaitConformance, InspectionConformance, EventsConformance, abstract=True
):
    """Runs the kit on ``adapter``; ``provider`` is the part of it that is broken."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True
    histories = 15
    adapter: ClassVar[type[CorrectAdapter]] = CorrectAdapter
    provider: ClassVar[str] = "any"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name.startswith("test_") and not cls.concerns(name):
                setattr(cls, name, None)  # pytest does not collect None

    @classmethod
    def concerns(cls, test: str) -> bool:
        """Whether to run a test: one of the broken provider, or of a part that detects the bug.

        Starting processes takes minutes, and comparing each backend with the models as well.
        """
        part = test.split("_")[1]
        caught_by = CAUGHT_BY.get(cls.__name__)
        if part == "process":
            return False
        if caught_by is None:  # the backend without a bug
            return True
        if test.endswith(MODEL):
            return COMPARED_WITH_MODEL.get(part) == cls.__name__
        return part in {cls.provider, *(name.split("_")[1] for name in caught_by)}

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
            self.lock = provider(self.context, "lock", self.store)
            self.lease = provider(self.context, "lease", self.store)

    return Adapter


def broken(name: str, provider: type[Any]) -> type[CorrectAdapter]:
    """The correct adapter with another class for one provider."""

    class Adapter(CorrectAdapter):
        def break_it(self) -> None:
            arguments = (self.lease.notifier,) if name in ("cache", "idempotency") else ()
            setattr(self, name, provider(self.context, self.store, *arguments))

    return Adapter

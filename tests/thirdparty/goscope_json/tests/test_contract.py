"""The backend "json" meets the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope_json import JSONAdapter

from goscope.backend import Capability
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    WaitConformance,
)


class TestJSON(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[JSONAdapter]:
        path = tmp_path / "store.json"
        async with JSONAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

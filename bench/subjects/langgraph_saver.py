"""LangGraph's checkpointers on SQLite and PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from ..subject import Operation, Subject, import_peer
from ..values import large
from .postgres import URL, OnServer


class _Saver(Subject):
    """A saver with an open connection."""

    async def open_saver(self, saver: Any, address: str) -> None:
        self._stack = AsyncExitStack()
        self._saver = await self._stack.enter_async_context(saver.from_conn_string(address))
        await self._saver.setup()

    async def close(self) -> None:
        await self._stack.aclose()

    def operations(self) -> Mapping[str, Operation]:
        return {"checkpoint": self.checkpoint}

    async def checkpoint(self, number: int) -> Any:
        config = {"configurable": {"thread_id": f"task:{number % 10}", "checkpoint_ns": ""}}
        checkpoint = {
            "v": 4,
            "id": str(uuid.UUID(int=uuid.uuid1().time << 64)),  # sorts by time, as its own ids do
            "ts": datetime.now(UTC).isoformat(),
            "channel_values": {"state": large(number)},
            "channel_versions": {"state": 1},
            "versions_seen": {},
        }
        metadata = {"source": "loop", "step": number}
        await self._saver.aput(config, checkpoint, metadata, {"state": 1})
        return await self._saver.aget_tuple(config)


class LanggraphSaver(_Saver):
    name = "langgraph AsyncSqliteSaver"
    about = "AsyncSqliteSaver.from_conn_string(path), aput and aget_tuple"
    packages = ("langgraph-checkpoint-sqlite",)

    async def open(self) -> None:
        saver = import_peer("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        await self.open_saver(saver, str(self.path))


class LanggraphPostgresSaver(_Saver, OnServer):
    name = "langgraph AsyncPostgresSaver"
    about = "AsyncPostgresSaver.from_conn_string(url), one connection, aput and aget_tuple"
    packages = ("langgraph-checkpoint-postgres", "psycopg")

    async def open(self) -> None:
        saver = import_peer("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver
        await self.create()
        await self.open_saver(saver, f"{URL}?options=-csearch_path%3D{self.schema}")

    async def close(self) -> None:
        await super().close()
        await self.drop()

"""aiosqlite as its documentation shows it, with the pragmas and batched reads that it needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiosqlite
import msgspec

from goscope_sqlite import SQLiteAdapter

from ..sql import (
    CHECKPOINT,
    FAILURE,
    GET,
    GET_MANY,
    KEYS_PAGE,
    LATEST,
    RELEASE,
    REMEMBER,
    REPLAY,
    SET,
    STATE,
    TAKE,
)
from ..subject import BATCH_KEYS, PAGE_ROWS, Operation, Subject
from ..values import large, small


class AiosqliteDirect(Subject):
    """One thread round trip per statement, the minimum for a program that uses aiosqlite."""

    name = "aiosqlite"
    about = "one execute_fetchall per statement, autocommit, WAL, synchronous=NORMAL, msgspec"
    packages = ("aiosqlite",)
    persistent_verbs = frozenset({"set", "remember"})

    async def open(self) -> None:
        async with SQLiteAdapter(self.path):  # creates the tables
            pass
        self._connection = await aiosqlite.connect(self.path, isolation_level=None)
        self._fetch = self._connection.execute_fetchall
        await self._fetch("PRAGMA synchronous = NORMAL")
        await self._fetch(f"PRAGMA cache_size = -{16 * 1024}")
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    async def close(self) -> None:
        await self._connection.close()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "get_many": self.get_many,
            "count_failure": self.failure,
            "failure": self.failure,
            "healthy": self.healthy,
            "checkpoint": self.checkpoint,
            "remember": self.remember,
            "replay": self.replay,
            "shared_lock": self.shared_lock,
            "contend": self.contend,
            "some_keys": self.some_keys,
        }

    async def get(self, number: int) -> Any:
        rows = await self._rows(GET, (f"cache:{self.key(number)}", time.time()))
        return self._decode(rows[0][0]) if rows else None

    async def set(self, number: int) -> None:
        now = time.time()
        text = self._encode(small(number)).decode()
        await self._fetch(SET, (f"cache:{self.key(number)}", text, now + 3600, int(now)))

    async def get_many(self, number: int) -> Any:
        wanted = [f"cache:{self.key(number + more)}" for more in range(BATCH_KEYS)]
        rows = await self._rows(GET_MANY, (self._encode(wanted).decode(), time.time()))
        return {key: self._decode(text) for key, text in rows}

    async def failure(self, number: int) -> Any:
        key = f"circuit:{self.key(number)}"
        await self._fetch(FAILURE, (key, time.time_ns() // 1_000_000))
        return await self._fetch(STATE, (key,))

    async def healthy(self, number: int) -> Any:
        return await self._fetch(STATE, (f"circuit:{self.key(number)}",))

    async def checkpoint(self, number: int) -> Any:
        now = time.time_ns()
        task = f"task:{number % 10}"
        text = self._encode(large(number)).decode()
        await self._fetch(CHECKPOINT, (f"{now}", task, now, now // 1_000_000, 50, text))
        rows = await self._rows(LATEST, (task,))
        return self._decode(rows[0][0])

    async def remember(self, number: int) -> None:
        await self._fetch(REMEMBER, (self.key(number), time.time() + 3600))

    async def replay(self, number: int) -> Any:
        rows = await self._rows(REPLAY, (self.key(number), time.time()))
        return self._decode(rows[0][0])

    async def shared_lock(self, number: int) -> None:
        await self._take(f"lock:{self.lock_key(number)}", number)
        await self._fetch(RELEASE, (f"lock:{self.lock_key(number)}", number))

    async def contend(self, number: int) -> None:
        token = time.time_ns()
        while not await self._take("lock:contended", token):  # noqa: ASYNC110  # polls a file
            await asyncio.sleep(0.001)
        await self._fetch(RELEASE, ("lock:contended", token))

    async def some_keys(self, number: int) -> int:
        parameters = ("cache:user:1", "cache:user:2", time.time(), PAGE_ROWS)
        return len(await self._rows(KEYS_PAGE, parameters))

    async def _take(self, key: str, token: int) -> bool:
        now = time.monotonic_ns() // 1_000_000
        parameters = (key, token, now + 30_000, now)
        return bool(await self._rows(f"{TAKE} RETURNING token", parameters))

    async def _rows(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        return list(await self._fetch(sql, parameters))

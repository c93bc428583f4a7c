"""goscope's backends, through the public API."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import goscope
from goscope.backend import BaseAdapter
from goscope.memory import MemoryAdapter
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from ..rows import expire
from ..subject import BATCH_KEYS, PAGE_ROWS, Operation, Subject
from ..values import checkpoint, small

NEVER: Final = 1_000_000_000


class _Goscope(Subject):
    sweep_interval = "30s"

    @abstractmethod
    def adapter(self) -> BaseAdapter:
        """Return an adapter that is not connected yet."""

    async def open(self) -> None:
        adapter = self.adapter()
        self._scope = goscope.Scope(persistence=adapter)
        await self._scope.open()
        self._cache = self._scope.cache
        assert adapter.lock is not None
        assert adapter.circuit_breaker is not None
        assert adapter.checkpoint is not None
        self._locks = adapter.lock
        self._circuits = adapter.circuit_breaker
        self._checkpoints = adapter.checkpoint
        self._breaker = self._scope.circuit_breaker("healthy")

    async def close(self) -> None:
        await self._scope.close()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "get_many": self.get_many,
            "set_many": self.set_many,
            "get_or_set": self.get_or_set,
            "count_failure": self.count_failure,
            "failure": self.failure,
            "healthy": self.healthy,
            "checkpoint": self.checkpoint,
            "remember": self.replay,
            "replay": self.replay,
        }

    # Most operations return goscope's own awaitable: wrapping it in a coroutine would add to its
    # time.

    def get(self, number: int) -> Awaitable[Any]:
        return self._cache.get(self.key(number))

    def set(self, number: int) -> Awaitable[None]:
        return self._cache.set(self.key(number), small(number), "1h")

    def get_many(self, number: int) -> Awaitable[Any]:
        return self._cache.get_many([self.key(number + more) for more in range(BATCH_KEYS)])

    def set_many(self, number: int) -> Awaitable[None]:
        values = {self.key(number + more): small(number + more) for more in range(BATCH_KEYS)}
        return self._cache.set_many(values, "1h")

    def get_or_set(self, number: int) -> Awaitable[Any]:
        return self._cache.get_or_set(self.key(number), _missed, ttl="1h")

    def count_failure(self, number: int) -> Awaitable[int]:
        return self._circuits.record_failure(self.key(number), NEVER)

    async def failure(self, number: int) -> Any:
        key = self.key(number)
        await self._circuits.record_failure(key, NEVER)
        return await self._circuits.get_state(key)

    def healthy(self, number: int) -> Awaitable[Any]:
        return self._breaker.call(_succeed)

    async def checkpoint(self, number: int) -> Any:
        saved = checkpoint(number)
        await self._checkpoints.save(saved)
        return await self._checkpoints.load_latest(saved.task_id)

    def replay(self, number: int) -> Awaitable[Any]:
        return self._scope.idempotency.run(self.key(number), _succeed)


class _WithMemoryLocks(_Goscope):
    """A backend whose default for ``gs.lock`` is a lock in memory."""

    def operations(self) -> Mapping[str, Operation]:
        return {**super().operations(), "lock": self.lock, "hold": self.hold}

    async def lock(self, number: int) -> None:
        handle = await self._locks.acquire("stock:42")
        assert handle is not None
        await handle.release()

    def hold(self, number: int) -> Awaitable[Any]:
        return self._locks.acquire(f"held:{number}", "1h")


class GoscopeOnServer(_Goscope):
    """A backend on a server, whose locks are shared. It leaves nothing on the server."""

    @abstractmethod
    async def create(self) -> None:
        """Create what holds the store. Raises `SubjectUnavailable` without a server."""

    @abstractmethod
    async def drop(self) -> None:
        """Remove what `create` created, with all that is in it."""

    async def open(self) -> None:
        await self.create()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self.drop()

    def operations(self) -> Mapping[str, Operation]:
        return {**super().operations(), "shared_lock": self.shared_lock}

    async def shared_lock(self, number: int) -> None:
        handle = await self._locks.acquire(self.lock_key(number))
        assert handle is not None
        await handle.release()


class GoscopeFile(_WithMemoryLocks):
    """A backend that stores its data in a file."""

    persistent_verbs = frozenset({"set", "remember"})

    def operations(self) -> Mapping[str, Operation]:
        return {
            **super().operations(),
            "shared_lock": self.shared_lock,
            "scoped_lock": self.scoped_lock,
            "contend": self.contend,
            "keys": self.list_keys,
            "some_keys": self.some_keys,
            "expire": self.expire,
            "prune": self.prune,
            "reopen": self.reopen,
        }

    @abstractmethod
    def shared_lock_adapter(self) -> BaseAdapter:
        """Return an adapter with ``locks="shared"`` that is not connected yet."""

    async def open(self) -> None:
        await super().open()
        adapter = self.shared_lock_adapter()
        self._shared_scope = goscope.Scope(persistence=adapter)
        await self._shared_scope.open()
        assert adapter.lock is not None
        self._shared_locks = adapter.lock

    async def close(self) -> None:
        await self._shared_scope.close()
        await super().close()

    async def shared_lock(self, number: int) -> None:
        handle = await self._shared_locks.acquire(self.lock_key(number))
        assert handle is not None
        await handle.release()

    async def scoped_lock(self, number: int) -> None:
        async with self._shared_scope.lock(self.lock_key(number)):
            pass

    async def contend(self, number: int) -> None:
        async with self._shared_scope.lock("contended"):
            pass

    async def list_keys(self, number: int) -> int:
        return len(await self._cache.keys())

    async def some_keys(self, number: int) -> int:
        found = 0
        async for _ in self._cache.scan("user:1*"):
            found += 1
            if found == PAGE_ROWS:
                break
        return found

    async def expire(self, number: int) -> None:
        expire(self.path, self.keys)

    def prune(self, number: int) -> Awaitable[int]:
        return self._cache.prune()

    async def reopen(self, number: int) -> None:
        async with self.adapter() as adapter:
            assert adapter.cache is not None
            await adapter.cache.get("user:0")


class GoscopeSQLite(GoscopeFile):
    name = "goscope sqlite"
    about = "SQLiteAdapter(path); locks='shared' for the shared lock"
    packages = ("goscope-workspace", "aiosqlite", "msgspec")

    def adapter(self) -> BaseAdapter:
        return SQLiteAdapter(self.path, sweep_interval=self.sweep_interval)

    def shared_lock_adapter(self) -> BaseAdapter:
        return SQLiteAdapter(self.path, locks="shared", sweep_interval="1h")


class GoscopeSQLiteBun(GoscopeFile):
    name = "goscope sqlite-bun"
    about = "BunSQLiteAdapter(path); locks='shared' for the shared lock"

    def adapter(self) -> BaseAdapter:
        return BunSQLiteAdapter(self.path, sweep_interval=self.sweep_interval)

    def shared_lock_adapter(self) -> BaseAdapter:
        return BunSQLiteAdapter(self.path, locks="shared", sweep_interval="1h")


class GoscopeMemory(_WithMemoryLocks):
    name = "goscope memory"
    about = "MemoryAdapter()"

    def adapter(self) -> BaseAdapter:
        return MemoryAdapter()


async def _missed() -> Any:
    raise AssertionError("every call should be a hit")


async def _succeed() -> int:
    return 1

"""goscope and its peers on the Redis server at GOSCOPE_TEST_REDIS_URL."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from goscope.backend import BaseAdapter
from goscope_redis import RedisAdapter
from goscope_redis.options import options_from_url

from ..subject import Operation, Subject, SubjectUnavailable, import_peer
from ..values import large, small
from .goscope_backends import GoscopeOnServer

URL: Final = os.environ.get("GOSCOPE_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
HOUR_MS: Final = 3_600_000
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class _OnRedis(Subject):
    """A subject whose keys contain a hash tag, and are removed when it closes."""

    def __init__(self, folder: Path, keys: int) -> None:
        super().__init__(folder, keys)
        digest = hashlib.sha1(str(self.folder).encode(), usedforsecurity=False).hexdigest()
        self.tag: Final = f"bench-{digest[:12]}"

    async def create(self) -> None:
        """Connect the driver."""
        self.client: Any = Redis.from_url(URL)  # pyright: ignore[reportUnknownMemberType]  # of redis-py
        try:
            await self.client.ping()
        except RedisConnectionError as exc:
            raise SubjectUnavailable(f"no server: {exc}") from exc

    async def drop(self) -> None:
        """Remove the keys, and disconnect."""
        async for key in self.client.scan_iter(match=f"*{{{self.tag}}}*", count=1000):
            await self.client.unlink(key)
        await self.client.aclose()

    def name_of(self, kind: str, key: object) -> str:
        return f"{{{self.tag}}}{kind}:{key}"


class _Peer(_OnRedis):
    """A subject that uses the driver itself."""

    packages: ClassVar[tuple[str, ...]] = ("redis",)

    async def open(self) -> None:
        await self.create()

    async def close(self) -> None:
        await self.drop()


class RedisPy(_Peer):
    """redis-py with as many commands as goscope's calls take round trips."""

    name = "redis-py"
    about = "redis.asyncio.Redis with its pool of connections, msgspec"

    async def open(self) -> None:
        await super().open()
        self._release = self.client.register_script(RELEASE)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "count_failure": self.count_failure,
            "checkpoint": self.checkpoint,
            "shared_lock": self.shared_lock,
        }

    async def get(self, number: int) -> Any:
        return self._decode(await self.client.get(self.name_of("cache", self.key(number))))

    def set(self, number: int) -> Any:
        name = self.name_of("cache", self.key(number))
        return self.client.set(name, self._encode(small(number)), px=HOUR_MS)

    def count_failure(self, number: int) -> Any:
        return self.client.incr(self.name_of("circuit", self.key(number)))

    async def checkpoint(self, number: int) -> Any:
        name = self.name_of("checkpoint", number % 10)
        await self.client.set(name, self._encode(large(number)))
        return self._decode(await self.client.get(name))

    async def shared_lock(self, number: int) -> None:
        name = self.name_of("lock", self.lock_key(number))
        assert await self.client.set(name, "me", px=30_000, nx=True)
        assert await self._release(keys=[name], args=["me"])


class RedisPyLock(_Peer):
    name = "redis-py Lock"
    about = "Redis.lock(key, timeout=30)"

    def operations(self) -> Mapping[str, Operation]:
        return {"shared_lock": self.shared_lock}

    async def shared_lock(self, number: int) -> None:
        async with self.client.lock(self.name_of("lock", self.lock_key(number)), timeout=30):
            pass


class CashewsRedis(_Peer):
    name = "cashews redis"
    about = "setup(URL), default pickle"
    packages = ("cashews", "redis")

    async def open(self) -> None:
        await super().open()
        self._cache = import_peer("cashews").Cache()
        self._cache.setup(URL)
        await self._cache.init()

    async def close(self) -> None:
        await self._cache.close()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Any:
        return self._cache.get(self.name_of("cashews", self.key(number)))

    def set(self, number: int) -> Any:
        name = self.name_of("cashews", self.key(number))
        return self._cache.set(name, small(number), expire=3600)


class KeyValueRedis(_Peer):
    name = "py-key-value redis"
    about = "RedisStore(url=URL)"
    packages = ("py-key-value-aio", "redis")

    async def open(self) -> None:
        await super().open()
        module = import_peer("key_value.aio.stores.redis")
        self._store = module.RedisStore(url=URL, default_collection=self.name_of("kv", ""))
        await self._store.setup()

    async def close(self) -> None:
        await self._store.close()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Any:
        return self._store.get(self.key(number))

    def set(self, number: int) -> Any:
        return self._store.put(self.key(number), small(number), ttl=3600)


class Aioredlock(_Peer):
    name = "aioredlock"
    about = "Aioredlock([URL]).lock(key, lock_timeout=30)"
    packages = ("aioredlock", "aioredis")

    async def open(self) -> None:
        await super().open()
        self._manager = import_peer("aioredlock").Aioredlock([URL])

    async def close(self) -> None:
        await self._manager.destroy()
        await super().close()

    def operations(self) -> Mapping[str, Operation]:
        return {"shared_lock": self.shared_lock}

    async def shared_lock(self, number: int) -> None:
        name = self.name_of("aioredlock", self.lock_key(number))
        await self._manager.unlock(await self._manager.lock(name, lock_timeout=30))


class GoscopeRedis(_OnRedis, GoscopeOnServer):
    name = "goscope redis"
    about = "RedisAdapter(host, port)"
    packages = ("goscope-workspace", "redis", "msgspec")

    def adapter(self) -> BaseAdapter:
        return RedisAdapter(**options_from_url(urlsplit(URL)), hash_tag=self.tag)

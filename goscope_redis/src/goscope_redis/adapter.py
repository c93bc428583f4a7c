"""The adapter of the backend "redis"."""

# The providers are never None here, which narrows the annotations of the base class.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from goscope._tools.process import unique_name
from goscope.backend import BaseAdapter, Capability, Clock, check_choice, milliseconds
from goscope.errors import BackendError, BackendUnavailable, ConfigurationError, InvalidOption
from goscope.providers import Milliseconds

from ._server.address import Address, Node
from ._server.client_name import ATTACHED, client_name
from ._server.connecting import Connector
from ._server.script import Script
from ._server.server import SCAN_COUNT, Greeting, Server
from .clock import ReplacedClock, ServerClock
from .keys import Keys, glob
from .options import Eviction
from .providers.cache import RedisCacheProvider
from .providers.checkpoint import RedisCheckpointProvider
from .providers.circuit_breaker import RedisCircuitBreakerStateProvider
from .providers.idempotency import RedisIdempotencyProvider
from .providers.inspection import RedisInspectionProvider
from .providers.lock import RedisLockProvider
from .providers.wakeups import Wakeups

RESERVED_PREFIXES: Final = frozenset({"checkpoint:", "idempotency:"})
"""Besides those that no backend accepts: on this one they are namespaces of keys as well."""

SHARED_NAMESPACES: Final = (b"cache:", b"checkpoint:", b"circuit:", b"idempotency:", b"lock:")
"""What the keys that go-go-scope may have written begin with, after the prefix."""

_HASH_TAG: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

_GREETING: Final = Script(
    """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return {redis.call('GET', KEYS[1]), now_ms()}
"""
)
"""The identity of the store, and the time of the server."""

_READ_IDENTITY: Final = Script("return {redis.call('GET', KEYS[1]), now_ms()}", "no-writes")
"""The same of a store that exists."""


class RedisAdapter(BaseAdapter):
    """A store on a Redis or Valkey server, or in one hash slot of a cluster.

    ``hash_tag`` is part of every key of the store: a cluster needs one, and keeps all keys of the
    store on one node. ``tls`` encrypts the connection; ``tls_ca``, ``tls_cert`` and ``tls_key``
    are paths of files. ``connect_timeout`` and ``command_timeout`` are how long connecting and
    any other call may take before they raise `BackendUnavailable`.

    With ``wait_replicas`` a grant of a lock, a circuit, a checkpoint and a result is acknowledged
    only once so many replicas have it, within ``wait_timeout``. ``eviction="accept"`` connects
    also to a server that deletes keys when its memory is full, and with them locks.

    Raises `ConfigurationError` for invalid options. `connect` raises it for a refused login and
    for a server that cannot keep what goscope promises, and `BackendUnavailable` for one that
    cannot be reached.
    """

    lock: RedisLockProvider
    lease: RedisLockProvider
    cache: RedisCacheProvider
    circuit_breaker: RedisCircuitBreakerStateProvider
    checkpoint: RedisCheckpointProvider
    idempotency: RedisIdempotencyProvider
    inspection: RedisInspectionProvider

    capabilities = frozenset(
        {
            Capability.PERSISTENT,
            Capability.SHARED_LOCKS,
            Capability.DISTRIBUTED,
            Capability.NOTIFICATIONS,
        }
    )

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        *,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        hash_tag: str | None = None,
        key_prefix: str | None = None,
        default_lock_ttl: Milliseconds = "30s",
        connect_timeout: Milliseconds = "2s",
        command_timeout: Milliseconds = "5s",
        wait_replicas: int = 0,
        wait_timeout: Milliseconds = "1s",
        eviction: Eviction = "refuse",
        clock: Clock | None = None,
    ) -> None:
        self._clock = ServerClock() if clock is None else ReplacedClock(clock)
        super().__init__(
            key_prefix=key_prefix, default_lock_ttl=default_lock_ttl, clock=self._clock
        )
        check_choice("eviction", eviction, ("refuse", "accept"), type(self).__name__)
        _check_prefix(self.context.prefix)
        self._keys = Keys(_check_hash_tag(hash_tag))
        self._node = Node(host, port)
        address = Address(
            node=self._node,
            db=db,
            username=username,
            password=password,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            connect_timeout_s=milliseconds(connect_timeout, "connect_timeout") / 1000,
        )
        command_timeout_ms = milliseconds(command_timeout, "command_timeout")
        wait_timeout_ms = milliseconds(wait_timeout, "wait_timeout")
        _check_waiting(wait_replicas, wait_timeout_ms, command_timeout_ms)
        self._server = Server(
            repr(self),
            Connector(address, hash_tag=hash_tag or "", eviction=eviction),
            self.context.check,
            command_timeout_s=command_timeout_ms / 1000,
            wait_replicas=wait_replicas,
            wait_timeout_ms=wait_timeout_ms,
        )
        self._wakeups = Wakeups(self._server, self._keys)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened_at = 0
        self._create_providers()

    async def has_store(self) -> bool:
        """Whether there are keys of this store, also of go-go-scope. Creates nothing.

        True also for a server that does not answer: connecting says why. The adapter need not be
        connected. Raises `ConfigurationError`.
        """
        connector = self._server.connector
        try:
            connection = await connector.connect()
            try:
                return await self._is_in_use(partial(connector.ask, connection, connector.node))
            finally:
                await connection.disconnect(nowait=True)
        except BackendError:
            return True

    async def _is_in_use(self, ask: Callable[..., Awaitable[Any]]) -> bool:
        if await ask("EXISTS", f"{self._keys.own}store"):
            return True
        pattern = f"{glob(self._keys.name(self.context.prefix))}*:*"
        cursor: bytes | None = None
        while cursor != b"0":
            start = "0" if cursor is None else cursor.decode()
            cursor, names = await ask("SCAN", start, "MATCH", pattern, "COUNT", SCAN_COUNT)
            if any(map(self._is_shared, names)):
                return True
        return False

    def _is_shared(self, name: bytes) -> bool:
        start = self._keys.name(self.context.prefix).encode()
        return name.removeprefix(start).startswith(SHARED_NAMESPACES)

    def __repr__(self) -> str:
        return f"RedisAdapter('{self._node}')"

    def _create_providers(self) -> None:
        shared = (self.context, self._server, self._keys)
        self.lock = RedisLockProvider(*shared, self._wakeups, "lock")
        self.lease = RedisLockProvider(*shared, self._wakeups, "lease")
        self.cache = RedisCacheProvider(*shared, self.lease.notifier)
        self.circuit_breaker = RedisCircuitBreakerStateProvider(*shared)
        self.checkpoint = RedisCheckpointProvider(*shared)
        self.idempotency = RedisIdempotencyProvider(*shared, self.lease.notifier)
        self.inspection = RedisInspectionProvider(*shared)

    async def attach(self) -> None:
        """Open the store as `connect` does, but create nothing.

        Other processes do not see that this one has it open. Raises what `connect` raises, and
        `BackendUnavailable` if goscope has not opened the store yet.
        """
        await self._open_with(self._attach)

    async def _connect(self) -> None:
        new_id = unique_name()
        greeting = Greeting(
            _GREETING,
            keys=[f"{self._keys.own}store"],
            # A server that has lost its data gets its old identity again.
            arguments=lambda: [self.context.store_id or new_id],
            answered=self._on_greeting,
            name=lambda: client_name(self._keys.hash_tag, self._opened_at),
        )
        self.inspection.lists_this = True
        await self._open(greeting)

    async def _attach(self) -> None:
        greeting = Greeting(
            _READ_IDENTITY,
            keys=[f"{self._keys.own}store"],
            arguments=lambda: (),
            answered=self._on_read,
            name=lambda: ATTACHED,
        )
        self.inspection.lists_this = False
        await self._open(greeting)

    async def _open(self, greeting: Greeting) -> None:
        if self._loop is not asyncio.get_running_loop():
            self._abandon()
        self._loop = asyncio.get_running_loop()
        self._opened_at = 0
        await self._server.open(greeting)

    def _on_read(self, answer: Any) -> None:
        if answer[0] is None:
            raise BackendUnavailable(
                f"{self!r}: goscope has not opened this store yet, or the server has lost its "
                f"data; nothing was changed. Open it once with your program"
            )
        self._on_greeting(answer)

    def _on_greeting(self, answer: Any) -> None:
        store_id, server_ms = answer
        self.context.store_id = store_id.decode()
        self._clock.set_wall(server_ms)
        self._opened_at = self._opened_at or server_ms
        self._wakeups.restart()  # the keys may be on another node now

    async def _disconnect(self) -> None:
        if self._loop is not asyncio.get_running_loop():  # that one is closed
            self._abandon()
            return
        await self._wakeups.stop()
        await self._server.close()

    def _abandon(self) -> None:
        self._wakeups.abandon()
        self._server.abandon()


def _check_prefix(prefix: str) -> None:
    if prefix in RESERVED_PREFIXES:
        raise ConfigurationError(
            f"key_prefix {prefix!r} is reserved: it would collide with the keys that goscope uses"
        )


def _check_hash_tag(hash_tag: str | None) -> str:
    if hash_tag is None:
        return ""
    if not _HASH_TAG.fullmatch(hash_tag):
        raise InvalidOption(
            "hash_tag",
            "RedisAdapter",
            f"must be letters, digits, '_', '.' or '-', not {hash_tag!r}",
        )
    return hash_tag


def _check_waiting(replicas: int, wait_timeout_ms: int, command_timeout_ms: int) -> None:
    if replicas < 0:
        raise InvalidOption("wait_replicas", "RedisAdapter", f"must be 0 or more, not {replicas}")
    if replicas and wait_timeout_ms >= command_timeout_ms:
        raise InvalidOption("wait_timeout", "RedisAdapter", "must be shorter than command_timeout")

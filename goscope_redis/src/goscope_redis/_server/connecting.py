"""Opening connections to the node that holds the keys."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from goscope.errors import BackendUnavailable

from ..options import Eviction
from .address import Address, Node
from .errors import translate
from .facts import Facts, check
from .slot import hash_slot, owner_of, slot_ranges

MAX_HOPS: Final = 3
"""How many nodes of a cluster may point to another one while their slots move."""


REFUSAL_S: Final = 0.2
"""How long to wait for the reason of a failure. A server that refuses a client says so at once."""

_ANSWERED: Final = ("max number of clients", "Invalid Database")
"""The refusals by a server that redis-py raises as if the connection had failed."""


class Connector:
    """Connects to a server or, in a cluster, to the node that serves the slot of ``hash_tag``."""

    def __init__(self, address: Address, *, hash_tag: str, eviction: Eviction) -> None:
        self.address: Final = address
        self._hash_tag = hash_tag
        self._eviction: Eviction = eviction
        self.nodes: list[Node] = [address.node]
        """Where to ask, in this order: where the keys were last, and the other nodes."""

    @property
    def node(self) -> Node:
        """The node that served the keys last."""
        return self.nodes[0]

    def prefer(self, node: Node) -> None:
        """Try this node first from now on."""
        self.nodes = list(dict.fromkeys([node, *self.nodes]))

    async def connect(self) -> Connection:
        """A connection to the node that holds the keys, checked for what goscope needs.

        Raises `BackendUnavailable` or `ConfigurationError`.
        """
        failure: BackendUnavailable | None = None
        for node in list(self.nodes):
            try:
                return await self._connect_by(node)
            except BackendUnavailable as exc:
                failure = failure or exc
        assert failure is not None
        raise failure

    async def _connect_by(self, node: Node) -> Connection:
        """Connect to the node, or to the one that it names as the owner of the slot."""
        for _ in range(MAX_HOPS):
            connection = await self.open(node)
            try:
                owner = await self._owner(connection, node)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if owner == node:
                self.prefer(node)
                return connection
            await connection.disconnect(nowait=True)
            node = owner
        raise BackendUnavailable(f"Redis cluster at {node}: its nodes disagree about a hash slot")

    async def open(self, node: Node) -> Connection:
        """A connection to this node. Raises `BackendUnavailable` or `ConfigurationError`."""
        connection = self.address.connection(node)
        try:
            async with asyncio.timeout(self.address.connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]  # it has no annotations
        except BaseException as exc:
            await connection.disconnect(nowait=True)
            error = await self._connect_error(node, exc)
            raise error from error.__cause__
        return connection

    async def ask(self, connection: Connection, node: Node, *command: str | int) -> Any:
        """The answer to a command on a connection to the node.

        Raises `BackendUnavailable`, or another `GoscopeError` for an error that it answers.
        """
        try:
            async with asyncio.timeout(self.address.connect_timeout_s):
                await connection.send_command(*command, check_health=False)
                read: Any = connection.read_response  # its answers have no types
                return await read(disable_decoding=True)
        except (OSError, RedisError, TimeoutError) as exc:
            error = await self._connect_error(node, exc)
            raise error from error.__cause__

    async def _owner(self, connection: Connection, node: Node) -> Node:
        """Check the server; the node that serves the slot."""
        info = await self.ask(connection, node, "INFO")
        facts = Facts.parse(info)
        if not (facts.is_cluster and facts.is_replica):
            name = f"Redis at {node}"
            db = self.address.db
            check(facts, name, hash_tag=self._hash_tag, db=db, eviction=self._eviction)
        if not facts.is_cluster:
            return node
        ranges = slot_ranges(await self.ask(connection, node, "CLUSTER", "SLOTS"), node)
        owner = owner_of(ranges, hash_slot(self._hash_tag))
        if owner is None:
            raise BackendUnavailable(
                f"Redis cluster at {node}: no node serves the hash slot of {self._hash_tag!r}"
            )
        self.nodes = list(dict.fromkeys([*self.nodes, *(found.node for found in ranges)]))
        return owner

    async def _connect_error(self, node: Node, exc: BaseException) -> BaseException:
        """goscope's error for one of connecting, with that as its cause; others unchanged."""
        if isinstance(exc, RedisConnectionError):
            exc = await self._refusal(node) or exc
        if isinstance(exc, (TimeoutError, RedisTimeoutError)):
            reason = f"it did not answer within {self.address.connect_timeout_s:g} s"
        elif type(exc) is RedisConnectionError and not str(exc).startswith(_ANSWERED):
            reason = str(exc).rstrip(".")
        elif isinstance(exc, RedisError):
            return translate(exc, f"Redis at {node}")
        elif isinstance(exc, OSError):
            reason = str(exc)
        else:
            return exc
        error = BackendUnavailable(
            f"Redis at {node} cannot be reached: {reason}. Check host, port, network and TLS"
        )
        error.__cause__ = exc
        return error

    async def _refusal(self, node: Node) -> ResponseError | None:
        """What the server says to a client that has sent nothing, such as one too many.

        A client that has sent a command does not always receive it: the connection is reset.
        """
        if self.address.tls:
            return None
        try:
            async with asyncio.timeout(REFUSAL_S):
                reader, writer = await asyncio.open_connection(node.host, node.port)
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        return ResponseError(line[1:].decode().strip()) if line.startswith(b"-ERR max") else None

"""Where the server is, and how to connect to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.asyncio import Connection, SSLConnection


class Node(NamedTuple):
    """One server process."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server, and the login for it. The password is not part of its repr."""

    node: Node
    db: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    connect_timeout_s: float

    def connection(self, node: Node) -> Connection:
        """A connection to the node, with this login; not connected yet."""
        arguments: dict[str, Any] = {
            "host": node.host,
            "port": node.port,
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": self.connect_timeout_s,
            # Whole calls have a timeout, see `PipelinedConnection`.
            "socket_timeout": None,
            "socket_keepalive": True,
            "protocol": 2,
        }
        if not self.tls:
            return Connection(**arguments)
        return SSLConnection(
            **arguments,
            ssl_ca_certs=self.tls_ca,
            ssl_certfile=self.tls_cert,
            ssl_keyfile=self.tls_key,
            ssl_check_hostname=True,
        )

"""How to reach a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TLS: TypeAlias = Literal["off", "required", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to reach a server; times in milliseconds. The repr has no password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    unix_socket: str | None
    tls: TLS
    tls_ca: str | None
    connect_timeout_ms: int
    timeout_ms: int
    max_connections: int

    @property
    def lock_wait_s(self) -> int:
        """How long a statement waits for a row, in whole seconds as the servers have it."""
        return max(1, self.timeout_ms // 3000)

    @property
    def address(self) -> str:
        """Where the server is, for messages."""
        place = self.unix_socket or f"{self.host}:{self.port}"
        return f"{self.user}@{place}/{self.database}"

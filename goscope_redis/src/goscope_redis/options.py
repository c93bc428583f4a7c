"""The options of the backend "redis", and how a URL names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Eviction: TypeAlias = Literal["refuse", "accept"]
"""Whether to connect to a server that may evict keys, and with them locks, when it is full."""


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "redis"; see `RedisAdapter`."""

    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    hash_tag: str | None = None
    key_prefix: str | None = None
    default_lock_ttl: str = "30s"
    connect_timeout: str = "2s"
    command_timeout: str = "5s"
    wait_replicas: int = 0
    wait_timeout: str = "1s"
    eviction: Eviction = "refuse"

    def __repr__(self) -> str:
        """Without the password."""
        return f"RedisOptions(host={self.host!r}, port={self.port}, db={self.db})"


def options_from_url(url: SplitResult) -> Mapping[str, Any]:
    """The options in ``redis://user:password@host:port/db``; ``rediss`` turns TLS on.

    Raises ``ValueError`` for a path that is not the number of a database.
    """
    from urllib.parse import unquote  # a SplitResult exists, so the module is loaded already

    options: dict[str, Any] = {}
    if url.scheme == "rediss":
        options["tls"] = True
    if url.hostname:
        options["host"] = url.hostname
    if url.port is not None:
        options["port"] = url.port
    if url.username:
        options["username"] = unquote(url.username)
    if url.password is not None:
        options["password"] = unquote(url.password)
    path = url.path.strip("/")
    if path:
        if not path.isdecimal():
            raise ValueError(
                f"the path {path!r} is not the number of a database: write redis://host:6379/0"
            )
        options["db"] = int(path)
    return options

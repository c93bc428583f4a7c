"""What a server says about itself, and whether goscope can rely on it."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from goscope.errors import BackendUnavailable, ConfigurationError

from ..options import Eviction

OLDEST: Final = (7, 0)
"""Scripts with flags, PEXPIRETIME and SET with PXAT."""

logger: Final = logging.getLogger("goscope_redis")


class Facts(NamedTuple):
    """The parts of INFO that matter."""

    version: str
    is_replica: bool
    is_cluster: bool
    max_memory: int
    eviction_policy: str

    @classmethod
    def parse(cls, info: bytes) -> Facts:
        lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
        found = {name: value for name, _, value in lines}
        return cls(
            version=found.get("redis_version", "0"),
            is_replica=found.get("role") == "slave",
            is_cluster=found.get("cluster_enabled") == "1",
            max_memory=int(found.get("maxmemory", 0)),
            eviction_policy=found.get("maxmemory_policy", "noeviction"),
        )

    @property
    def may_evict(self) -> bool:
        return self.max_memory > 0 and self.eviction_policy != "noeviction"


def check(facts: Facts, server: str, *, hash_tag: str, db: int, eviction: Eviction) -> None:
    """Raise `ConfigurationError` for a server that cannot keep what goscope promises.

    Raises `BackendUnavailable` for a replica.
    """
    if _version(facts.version) < OLDEST:
        raise ConfigurationError(
            f"{server} speaks the protocol of Redis {facts.version}, but goscope needs Redis 7.0 "
            f"or newer, or Valkey: upgrade the server"
        )
    if facts.is_replica:
        raise BackendUnavailable(f"{server} is a replica: connect to its primary")
    if facts.is_cluster and not hash_tag:
        raise ConfigurationError(
            f"{server} is a node of a cluster, where the keys of one script must lie in one hash "
            f"slot: choose a hash_tag, such as hash_tag='shop', for all programs of this store"
        )
    if facts.is_cluster and db:
        raise ConfigurationError(f"{server} is a node of a cluster, which has only db=0")
    if facts.may_evict:
        _report_eviction(facts, server, eviction)


def _report_eviction(facts: Facts, server: str, eviction: Eviction) -> None:
    problem = (
        f"{server} evicts keys when its memory is full (maxmemory-policy "
        f"{facts.eviction_policy}): locks and leases would end early"
    )
    if eviction == "refuse":
        raise ConfigurationError(
            f"{problem}. Set maxmemory-policy to noeviction, or accept the loss with "
            f"eviction='accept'"
        )
    logger.warning("%s, and their owners would not know. eviction='accept' permits it", problem)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())

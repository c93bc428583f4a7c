"""What every part of the provider contract is built on."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from ...backend import strict_milliseconds
from ...providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    PersistenceAdapter,
)

P = TypeVar("P")


# The loop scope is fixed, so that the host project's default for asyncio tests does not matter.
@pytest.mark.asyncio(loop_scope="function")
class Conformance:
    """The base of the contract's classes.

    A test class inherits the parts its backend claims, declares ``capabilities`` and overrides
    ``open_adapter``; a backend with a fake clock overrides ``advance`` too. A subclass that
    forgets one is refused when it is defined; ``abstract=True`` marks one that is only a base.
    """

    capabilities: ClassVar[frozenset[Capability]]

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_overridden_claims(cls)
        if abstract:
            return
        # A plain class, not an ABC: pytest silently skips abstract classes.
        if cls.open_adapter is Conformance.open_adapter:
            raise TypeError(
                f"{cls.__name__} does not override open_adapter: write it as an "
                f"@asynccontextmanager method that yields a connected adapter"
            )
        if not hasattr(cls, "capabilities"):
            raise TypeError(
                f"{cls.__name__} does not declare its capabilities: write "
                f"`capabilities = frozenset({{Capability.PERSISTENT}})`, or frozenset() for none"
            )

    def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AbstractAsyncContextManager[PersistenceAdapter]:
        """Open an adapter on the store that belongs to the folder, and close it at the end.

        Opened twice for one folder, in turn or at once, it is the same store; for another folder,
        another store. A store without files may use the folder's name.
        """
        raise NotImplementedError

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        """Let time pass for the adapter: in truth, unless a backend with a fake clock overrides."""
        await asyncio.sleep(strict_milliseconds(duration) / 1000)


def _refuse_overridden_claims(cls: type[Conformance]) -> None:
    """Raise `TypeError` if one class defines a test of a name that another one has."""
    seen: dict[str, str] = {}
    for base in cls.__mro__:
        for name in vars(base):
            if name.startswith("test_") and seen.setdefault(name, base.__name__) != base.__name__:
                raise TypeError(
                    f"{seen[name]}.{name} hides the claim of that name in {base.__name__}: "
                    f"the contract cannot be overridden, choose another name"
                )


def locks_of(adapter: PersistenceAdapter, role: str = "lease") -> LockProvider:
    return _provided(adapter.lock if role == "lock" else adapter.lease, role)


def cache_of(adapter: PersistenceAdapter) -> CacheProvider:
    return _provided(adapter.cache, "cache")


def circuits_of(adapter: PersistenceAdapter) -> CircuitBreakerStateProvider:
    return _provided(adapter.circuit_breaker, "circuit_breaker")


def checkpoints_of(adapter: PersistenceAdapter) -> CheckpointProvider:
    return _provided(adapter.checkpoint, "checkpoint")


def idempotency_of(adapter: PersistenceAdapter) -> IdempotencyProvider:
    return _provided(adapter.idempotency, "idempotency")


def _provided(provider: P | None, name: str) -> P:
    if provider is None:
        pytest.fail(
            f"adapter.{name} is None, but this class inherits its contract: provide it, "
            f"or inherit only the parts of the contract that the backend claims"
        )
    return provider

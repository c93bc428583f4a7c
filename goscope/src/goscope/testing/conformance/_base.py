"""What every part of the provider contract is built on."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import pytest

from ..._tools.duration import strict_milliseconds
from ...backend import Clock
from ...providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    PersistenceAdapter,
)
from .._clock import FakeClock

P = TypeVar("P")

CLAIM: Final = "goscope.claim"
"""The property of a test report that names test class, part of the contract and capabilities."""


# The loop scope is fixed, so that the host project's default for asyncio tests does not matter.
@pytest.mark.asyncio(loop_scope="function")
class Conformance:
    """The base of the contract's classes.

    A test class inherits the parts its backend claims, declares ``capabilities`` and overrides
    ``open_adapter``. A subclass that forgets one is refused when it is defined; ``abstract=True``
    marks one that is only a base. ``processes = True`` adds what only several processes can show;
    see `goscope.testing.processes`.
    """

    capabilities: ClassVar[frozenset[Capability]]
    processes: ClassVar[bool] = False
    histories: ClassVar[int] = 25
    """How many histories of calls each provider is compared with its model over."""

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

    @cached_property
    def clock(self) -> Clock:
        """A clock for ``open_adapter`` to pass on: the tests move it instead of waiting.

        In tests of several processes it is the machine's own.
        """
        return FakeClock()

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        """Let time pass for the adapter: in truth, unless it was given ``clock``."""
        if (clock := self._fake_clock()) is not None:
            await clock.advance(duration)
        else:
            await asyncio.sleep(strict_milliseconds(duration) / 1000)

    def time_is_free(self) -> bool:
        """Whether letting time pass takes none; known once an adapter was opened."""
        overridden = type(self).advance is not Conformance.advance
        return overridden or self._fake_clock() is not None

    def _fake_clock(self) -> FakeClock | None:
        used = vars(self).get("clock")  # there once ``open_adapter`` asked for it
        return used if isinstance(used, FakeClock) else None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize claims by what the class inherits; parts add to it."""

    @pytest.fixture(autouse=True)
    def _for_the_report(self, request: pytest.FixtureRequest) -> None:
        """Tell `report` which part of the contract a test is of, also across xdist workers."""
        part = request.node.originalname.split("_")[1]
        declared = ",".join(sorted(it.name for it in self.capabilities))
        request.node.user_properties.append((CLAIM, f"{type(self).__name__} {part} {declared}"))


def _refuse_overridden_claims(cls: type[Conformance]) -> None:
    """Raise `TypeError` if one class defines a test of a name that another one has."""
    seen: dict[str, tuple[str, object]] = {}
    for base in cls.__mro__:
        for name, claim in vars(base).items():
            if not name.startswith("test_") or claim is None:
                continue
            first, found = seen.setdefault(name, (base.__name__, claim))
            if found is not claim:
                raise TypeError(
                    f"{first}.{name} hides the claim of that name in {base.__name__}: "
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

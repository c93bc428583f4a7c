"""Base class of transaction providers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ..providers import Checkpoint, LockHandle, Milliseconds
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._context import Fence
from ._idempotency import BaseIdempotencyProvider, NewResult

Work: TypeAlias = Callable[[Any], Any]


class BaseTransactionProvider(ABC):
    """The user's statements beside a record of the other providers: fill in three primitives."""

    def __init__(
        self, checkpoints: BaseCheckpointProvider, results: BaseIdempotencyProvider
    ) -> None:
        self.context: Final = checkpoints.context
        self._checkpoints = checkpoints
        self._results = results

    async def run(self, work: Work, *, fence: LockHandle | None = None) -> Any:
        return await self._run(work, self.context.fence(fence))

    async def save(
        self, checkpoint: Checkpoint, work: Work, *, fence: LockHandle | None = None
    ) -> None:
        row = self._checkpoints.encode(checkpoint)
        await self._save(row, self.context.fence(fence), work)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None,
        work: Work,
        *,
        fingerprint: str | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        await self._set(*self._results.encode(key, value, ttl, fingerprint, fence), work)

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _run(self, work: Work, fence: Fence | None) -> Any:
        """Run the work in a transaction. See `goscope.TransactionProvider` for what it raises."""

    @abstractmethod
    async def _save(self, row: StoredCheckpoint, fence: Fence | None, work: Work) -> None:
        """As `BaseCheckpointProvider._save`, in the transaction of the work."""

    @abstractmethod
    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool, work: Work
    ) -> None:
        """As `BaseIdempotencyProvider._set`, in the transaction of the work."""

"""The contract of `goscope.LockProvider`, for ``adapter.lock`` and ``adapter.lease``."""

from __future__ import annotations

from pathlib import Path

from .lock_grants import LockGrantConformance
from .lock_leases import LockLeaseConformance


class LockConformance(LockGrantConformance, LockLeaseConformance, abstract=True):
    """Locks that end when they are released or expire, and are never granted twice."""

    async def test_lock_matches_its_model(self, tmp_path: Path, role: str) -> None:
        """The provider returns what the model returns, for any history of calls."""
        from .machines.lock import MACHINES  # importing hypothesis takes long

        await MACHINES[role].compare(self, tmp_path)

"""The contract of `goscope.CacheProvider`."""

from __future__ import annotations

from pathlib import Path

from .cache_collections import CacheCollectionConformance
from .cache_computations import CacheComputationConformance
from .cache_expiry import CacheExpiryConformance
from .cache_patterns import CachePatternConformance
from .cache_values import CacheValueConformance
from .cache_writes import CacheWriteConformance


class CacheConformance(
    CacheValueConformance,
    CacheExpiryConformance,
    CacheWriteConformance,
    CachePatternConformance,
    CacheComputationConformance,
    CacheCollectionConformance,
    abstract=True,
):
    """Entries with expiry, staleness and tags; every single operation is atomic."""

    async def test_cache_matches_its_model(self, tmp_path: Path) -> None:
        """The provider returns what the model returns, for any history of calls."""
        from .machines.cache import CacheMachine  # importing hypothesis takes long

        await CacheMachine.compare(self, tmp_path)

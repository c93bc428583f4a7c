"""What the page of the cache lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .... import Scope
from ...._tools.key import check_collection, check_pattern
from ....inspection import CollectionInfo, EntryInfo
from ..._exit import UsageError
from ..._find import first_records
from ..status import LISTED


class CacheListing(NamedTuple):
    """The first entries of a collection, or with None of the cache, and the first collections."""

    collection: str | None
    pattern: str | None
    entries: Sequence[EntryInfo]
    collections: Sequence[CollectionInfo]


async def read_cache(gs: Scope, collection: str | None, pattern: str | None) -> CacheListing:
    """Read them. Raises `UsageError` for a name or a pattern that cannot be one."""
    try:
        if collection is not None:
            check_collection(collection)
        if pattern is not None:
            check_pattern(pattern)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    entries = gs.inspect.entries(pattern, collection=collection)
    return CacheListing(
        collection,
        pattern,
        await first_records(entries, LISTED),
        await first_records(gs.inspect.collections(), LISTED),
    )

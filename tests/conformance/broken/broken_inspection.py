"""Backends with one bug each in their inspection provider.

The docstring of a test class names the bug.
"""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

from goscope.backend import EntryRow, LeaseRow, Page
from goscope.backend.records import RecordInspectionProvider

from .correct import Broken, broken


class OffsetPages(RecordInspectionProvider):
    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        rows = [*(await super()._leases(pattern, "", limit)).rows]
        begin = int(after or 0)
        end = begin + limit
        return Page(rows[begin:end], str(end) if end < len(rows) else None)


class TestOffsetPages(Broken):
    """A page begins so many rows after the first one, whatever was removed before."""

    provider = "inspection"
    adapter = broken("inspection", OffsetPages)


class LostPages(RecordInspectionProvider):
    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        rows = [*(await super()._entries(pattern, "", limit)).rows]
        return Page(rows[:limit], None)


class TestOnePage(Broken):
    """A listing ends after its first page."""

    provider = "inspection"
    adapter = broken("inspection", LostPages)


class UnderscoreIsWild(RecordInspectionProvider):
    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        page = await super()._entries("*", after, limit)
        wanted = pattern.replace("_", "*")
        matching = {row.key for row in (await super()._entries(wanted, after, limit)).rows}
        return Page([row for row in page.rows if row.key in matching], page.next)


class TestUnderscoreIsWild(Broken):
    """``_`` in a pattern stands for any characters, as in LIKE."""

    provider = "inspection"
    adapter = broken("inspection", UnderscoreIsWild)


class TtlForTimeLeft(RecordInspectionProvider):
    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        page = await super()._leases(pattern, after, limit)
        return Page((row._replace(expires_in_ms=3_600_000) for row in page.rows), page.next)


class TestTtlForTimeLeft(Broken):
    """The time left of a lease is that at its grant."""

    provider = "inspection"
    adapter = broken("inspection", TtlForTimeLeft)


class SizeInCharacters(RecordInspectionProvider):
    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        page = await super()._entries(pattern, after, limit)
        texts = await self._store.read_records(lambda records: dict(records.cache))
        sized = (row._replace(size_bytes=len(texts[row.key].text)) for row in page.rows)
        return Page(sized, page.next)


class TestSizeInCharacters(Broken):
    """The size of an entry counts characters."""

    provider = "inspection"
    adapter = broken("inspection", SizeInCharacters)


class NoCollections(RecordInspectionProvider):
    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        page = await super()._entries(pattern, after, limit)
        rows = [row for row in page.rows if row.key.startswith(f"{self.context.prefix}cache:")]
        return Page(rows, page.next)


class TestCollectionsNotListed(Broken):
    """Only the entries of the cache are listed, whatever the pattern says."""

    provider = "inspection"
    adapter = broken("inspection", NoCollections)

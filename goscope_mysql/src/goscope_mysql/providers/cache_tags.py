"""The index of cache entries by tag.

An entry has a random number, its tagging, which its rows in the index repeat. Whoever replaces the
entry without tags need not touch the index: rows of another tagging do not count, and the sweeper
removes them.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from .._engine.database import Database

PAGE_ROWS: Final = 200
"""How many rows one sweep looks at."""

Position: TypeAlias = tuple[bytes, bytes]
"""The last row of a page: its tag and its entry, as digests."""

START: Final[Position] = (b"", b"")

_PAGE: Final = """
    SELECT page.tag, page.entry, c.`key` IS NULL
    FROM (
        SELECT tag, entry, `key`, tagging FROM {cache_tags}
        WHERE tag > ? OR (tag = ? AND entry > ?) ORDER BY tag, entry LIMIT ?
    ) AS page
    LEFT JOIN {cache} AS c ON c.`key` = page.`key` AND c.tagging = page.tagging
"""
_REMOVE_ORPHAN: Final = """
    DELETE t FROM {cache_tags} AS t
    LEFT JOIN {cache} AS c ON c.`key` = t.`key` AND c.tagging = t.tagging
    WHERE t.tag = ? AND t.entry = ? AND c.`key` IS NULL
"""


async def remove_orphans(database: Database, after: Position) -> Position:
    """Remove the orphans of the next page. Return the position of the one after it."""
    tag, entry = after
    rows = sorted(await database.read(_PAGE, (tag, tag, entry, PAGE_ROWS)))
    orphans = [(tag, entry) for tag, entry, is_orphan in rows if is_orphan]
    if orphans:
        await database.write_all([(_REMOVE_ORPHAN, orphan) for orphan in orphans])
    return rows[-1][:2] if len(rows) == PAGE_ROWS else START

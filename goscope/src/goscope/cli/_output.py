"""Printing records: aligned columns for people and pipes, JSON lines for scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

R = TypeVar("R")

Columns: TypeAlias = Mapping[str, Callable[[R], object]]
"""The columns of a table: their heads, and the cell of each record."""


async def print_listing(records: AsyncIterator[R], columns: Columns[R], *, as_json: bool) -> None:
    """Print all records; as JSON each one as soon as it was read."""
    if as_json:
        async for record in records:
            print_json(record)
    else:
        for line in table([record async for record in records], columns):
            print(line)


def print_record(record: Any, fields: Mapping[str, object], *, as_json: bool) -> None:
    """Print one record as an object, or its fields one a line."""
    if as_json:
        print_json(record)
    else:
        for line in aligned([(name, cell(value)) for name, value in fields.items()]):
            print(line)


def print_json(record: Any) -> None:
    """Print one line of JSON."""
    print(msgspec.json.encode(record).decode())


def table(records: Sequence[R], columns: Columns[R]) -> Iterable[str]:
    """The lines of a table with a head; none without records."""
    if not records:
        return []
    rows = [tuple(cell(value(record)) for value in columns.values()) for record in records]
    return aligned([tuple(columns), *rows])


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """The rows with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def cell(value: object) -> str:
    """The text of a value, without what could control a terminal or break a line."""
    if value is None:
        return "-"
    text = str(value)
    return text if text.isprintable() else repr(text)

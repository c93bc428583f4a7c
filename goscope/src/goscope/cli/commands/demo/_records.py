"""The data set: the airports of the package airportsdata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import airportsdata

SHARDS: Final = 16


class Record(NamedTuple):
    """One airport. Its ICAO code identifies it."""

    icao: str
    name: str
    country: str
    subdivision: str

    @property
    def place(self) -> str:
        """What is to be known about its surroundings: some thousand places for all records."""
        return f"{self.country}/{self.subdivision}"


class Shard(NamedTuple):
    """A slice of the records that one worker imports at a time."""

    number: int
    records: Sequence[Record]

    @property
    def size(self) -> int:
        return len(self.records)


def count_all() -> int:
    """How many records the data set has."""
    return len(airportsdata.load())


def load(count: int) -> list[Record]:
    """Load that many records, taken evenly from all of them, in the order of their codes."""
    airports = sorted(airportsdata.load().values(), key=lambda airport: airport["icao"])
    count = min(count, len(airports))
    return [
        Record(airport["icao"], airport["name"], airport["country"], airport["subd"])
        for airport in (airports[number * len(airports) // count] for number in range(count))
    ]


def split(records: Sequence[Record]) -> list[Shard]:
    """Cut the records into shards of equal size, up to one record."""
    edges = [number * len(records) // SHARDS for number in range(SHARDS + 1)]
    return [Shard(number, records[edges[number] : edges[number + 1]]) for number in range(SHARDS)]

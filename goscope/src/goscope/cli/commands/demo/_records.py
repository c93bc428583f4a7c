"""The data set: the airports of the airportsdata package."""

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
        """Country and subdivision, which many airports share: the argument of a lookup."""
        return f"{self.country}/{self.subdivision}"


class Shard(NamedTuple):
    """A slice of the records. One worker imports it at a time."""

    number: int
    records: Sequence[Record]

    @property
    def size(self) -> int:
        return len(self.records)


def count_all() -> int:
    """The number of records in the data set."""
    return len(airportsdata.load())


def load(count: int) -> list[Record]:
    """Load ``count`` records, spread evenly over the data set and sorted by code."""
    airports = sorted(airportsdata.load().values(), key=lambda airport: airport["icao"])
    count = min(count, len(airports))
    return [
        Record(airport["icao"], airport["name"], airport["country"], airport["subd"])
        for airport in (airports[number * len(airports) // count] for number in range(count))
    ]


def split(records: Sequence[Record]) -> list[Shard]:
    """Split the records into shards whose sizes differ by at most one."""
    edges = [number * len(records) // SHARDS for number in range(SHARDS + 1)]
    return [Shard(number, records[edges[number] : edges[number + 1]]) for number in range(SHARDS)]

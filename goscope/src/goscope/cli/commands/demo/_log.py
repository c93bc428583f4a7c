"""The service's own log: what it was asked and what it answered, one JSON line a call."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec


class Enrichment(msgspec.Struct, frozen=True, tag="country"):
    """A question about a place, and whether it was answered or failed. ``by`` names the worker."""

    place: str
    by: str
    failed: bool


class Charge(msgspec.Struct, frozen=True, tag="charge"):
    """A charge for a record, or the repetition of one that was answered without charging again."""

    icao: str
    by: str
    repeated: bool


Call: TypeAlias = "Enrichment | Charge"

_LINE: Final = msgspec.json.Decoder(Enrichment | Charge)


def read(path: Path) -> list[Call]:
    """All calls so far, oldest first; none if there is no log yet."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [_LINE.decode(line) for line in lines]


class Writer:
    """Appends calls; one is in the file when `write` returns, whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def write(self, call: Call) -> None:
        """Append the call."""
        os.write(self._file, self._encoder.encode(call) + b"\n")

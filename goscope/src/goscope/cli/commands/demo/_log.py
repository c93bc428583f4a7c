"""The log of the service: one JSON line per call."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec


class Enrichment(msgspec.Struct, frozen=True, tag="country"):
    """A lookup of a place by the worker ``by``."""

    place: str
    by: str
    failed: bool


class Charge(msgspec.Struct, frozen=True, tag="charge"):
    """A charge for a record. A ``repeated`` one returned the first receipt and charged nothing."""

    icao: str
    by: str
    repeated: bool


Call: TypeAlias = "Enrichment | Charge"

_LINE: Final = msgspec.json.Decoder(Enrichment | Charge)


def read(path: Path) -> list[Call]:
    """All calls, oldest first; none if the log does not exist yet."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [_LINE.decode(line) for line in lines]


class Writer:
    """Appends calls. A call is in the file when `write` returns, even if the process is killed."""

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

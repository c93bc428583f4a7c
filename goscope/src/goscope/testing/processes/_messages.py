"""The messages between a test and the programs it starts: pickled records, one a line.

Pickle preserves the types of errors and records. Both ends run the same code as the same user.
"""

from __future__ import annotations

import base64
import pickle
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Grant(NamedTuple):
    """A lock handle that stays in its program; use it as a target or an argument there."""

    id: int
    fencing_token: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method of ``target``, ``times`` times concurrently.

    The target is the name of a provider of the adapter, a grant, or "program".
    """

    target: str | Grant
    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    times: int = 1


def to_line(record: object) -> bytes:
    return base64.b64encode(pickle.dumps(record)) + b"\n"


def from_line(line: bytes) -> Any:
    return pickle.loads(base64.b64decode(line))  # noqa: S301  # of a program the test started

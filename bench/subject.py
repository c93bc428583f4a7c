"""The interface of everything that a benchmark measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

Operation: TypeAlias = Callable[[int], Any]
"""One operation on the entry that the number selects; awaited if the subject `is_async`."""

BATCH_KEYS: Final = 100
"""Entries per call of get_many and set_many."""

PAGE_ROWS: Final = 1000
"""Rows per page when keys are listed."""

KEY_STRIDE: Final = 7919
"""A prime, so that consecutive numbers select scattered keys and still reach every key."""


class SubjectUnavailable(Exception):
    """A subject cannot be measured here; the report gives the reason."""


class Subject(ABC):
    """A store that keeps its files in its own subfolder of ``folder``, with ``keys`` entries.

    ``about`` is its configuration and ``packages`` are the distributions whose versions the report
    prints. ``is_async`` is False for subjects that need no event loop. ``persistent_verbs`` are the
    verbs whose effect outlives the process.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    is_async: ClassVar[bool] = True
    persistent_verbs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path, keys: int) -> None:
        self.folder: Final = folder / self.name.replace(" ", "-")
        self.keys: Final = keys
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        """The database file of subjects that have one."""
        return self.folder / "app.db"

    @abstractmethod
    async def open(self) -> None:
        """Open the store. Raises `SubjectUnavailable`."""

    async def close(self) -> None:  # noqa: B027  # most peers in memory have nothing to close
        """Close the store."""

    @abstractmethod
    def operations(self) -> Mapping[str, Operation]:
        """Return the operations of the open store by the verbs of the workloads."""

    def key(self, number: int) -> str:
        return f"user:{number * KEY_STRIDE % self.keys}"

    def lock_key(self, number: int) -> str:
        """Return a lock key that no concurrent call uses, however few entries the store has."""
        return f"stock:{number}"


def import_peer(module: str) -> Any:
    """Import a peer when it is opened, so that the other subjects run without it."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise SubjectUnavailable(f"not installed ({exc})") from exc

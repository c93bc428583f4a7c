"""What takes part in a benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

Operation: TypeAlias = Callable[[int], Any]
"""One operation on the entry that the number chooses: its result is awaited if `awaits`."""

MANY: Final = 100
"""How many entries the calls for many work on."""

PAGE: Final = 1000
"""How many keys a look at some keys reads."""

STRIDE: Final = 7919
"""A prime, so that counting goes through all keys in an order that no page cache likes."""


class NotAvailable(Exception):
    """A contender cannot take part; the report says why."""


class Contender(ABC):
    """A store, opened on files below a folder of its own.

    ``about`` is its configuration as the report prints it, and ``packages`` are the
    distributions whose versions it prints. ``awaits`` is False for what runs without a loop.
    ``keeps`` are the verbs whose work the next process finds done. ``keys`` is how many entries
    the store is to have.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    awaits: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path, keys: int) -> None:
        self.folder: Final = folder / self.name.replace(" ", "-")
        self.keys: Final = keys
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        """The database file, for those that have one."""
        return self.folder / "app.db"

    @abstractmethod
    async def open(self) -> None:
        """Open the store. Raises `NotAvailable`."""

    async def close(self) -> None:  # noqa: B027  # most peers in memory have nothing to close
        """Close the store."""

    @abstractmethod
    def operations(self) -> Mapping[str, Operation]:
        """What it can do, by the verbs of the workloads. Called on an open store."""

    def key(self, number: int) -> str:
        return f"user:{number * STRIDE % self.keys}"

    def lock_key(self, number: int) -> str:
        """A lock that no other call wants, however few entries the store has."""
        return f"stock:{number}"


def peer(module: str) -> Any:
    """Import a peer when it is opened: the others run without it."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise NotAvailable(f"not installed ({exc})") from exc

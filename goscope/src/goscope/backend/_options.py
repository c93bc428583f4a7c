"""Options that several backends share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._tools.choice import must_be
from ..errors import InvalidOption

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Locks: TypeAlias = Literal["memory", "shared"]
"""Where ``gs.lock`` keeps its locks: in this process, or in the store."""


def check_locks(locks: Locks | None, source: str) -> None:
    """Raise `InvalidOption` unless ``locks`` is one of its choices, or None for the default."""
    if locks is not None:
        check_choice("locks", locks, ("memory", "shared"), source)


def check_choice(option: str, value: str, choices: Sequence[str], source: str) -> None:
    """Raise `InvalidOption` unless the value is one of the choices."""
    if value not in choices:
        raise InvalidOption(option, source, must_be(value, choices))


def path_from_url(url: SplitResult) -> Mapping[str, Any]:
    """The ``path`` option of a file backend: three slashes relative, four absolute.

    ``sqlite:///app.db`` is ``app.db`` in the working directory, ``sqlite:////srv/app.db`` is
    ``/srv/app.db``, ``sqlite:///:memory:`` is ``:memory:``.
    """
    from urllib.parse import unquote  # a SplitResult exists, so the module is loaded already

    if url.netloc:
        raise ValueError(
            f"a file has no host, but the URL names {url.hostname!r}: "
            f"write three slashes for a relative path, four for an absolute one"
        )
    path = unquote(url.path[1:])
    if not path:
        raise ValueError("the URL names no file: write it as scheme:///app.db")
    return {"path": path}

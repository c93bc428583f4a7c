"""The record a plugin registers: how a backend is named, configured and opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..providers import PersistenceAdapter

if TYPE_CHECKING:
    from urllib.parse import SplitResult


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend of a plugin.

    ``options`` is a frozen ``msgspec.Struct`` or dataclass; goscope builds it from keywords, a
    URL, the environment or a file, and names the culprit when something does not fit. ``open``
    gets an instance and returns an adapter that is not connected yet. ``url_options`` turns a URL
    (its query aside, which goscope reads itself) into options.
    """

    name: str
    summary: str
    options: type[Any]
    open: Callable[[Any], PersistenceAdapter]
    schemes: tuple[str, ...] = ()
    url_options: Callable[[SplitResult], Mapping[str, Any]] | None = None


def path_from_url(url: SplitResult) -> Mapping[str, Any]:
    """The ``path`` option of a file backend: three slashes relative, four absolute.

    ``sqlite:///app.db`` is ``app.db`` in the working directory, ``sqlite:////srv/app.db`` is
    ``/srv/app.db``, ``sqlite:///:memory:`` is ``:memory:``.
    """
    from urllib.parse import unquote  # whoever has a SplitResult has paid for this import

    if url.netloc:
        raise ValueError(
            f"a file has no host, but the URL names {url.hostname!r}: "
            f"write three slashes for a relative path, four for an absolute one"
        )
    path = unquote(url.path[1:])
    if not path:
        raise ValueError("the URL names no file: write it as scheme:///app.db")
    return {"path": path}

"""The store that all processes use: a file in the folder, or the one that GOSCOPE_STRESS_URL names.

The store of a URL must be empty. On a server choose one with a hash tag, schema or database of its
own, and remove it afterwards.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from goscope import Scope

URL: Final = os.environ.get("GOSCOPE_STRESS_URL")


def open_scope(folder: Path, **settings: Any) -> Scope:
    """A closed scope on the store."""
    if URL is not None:
        return Scope(URL, **settings)
    path = str(folder / "app.db")
    return Scope(backend="sqlite", path=path, locks="shared", sweep_interval="500ms", **settings)


def integrity(folder: Path) -> str:
    """What SQLite finds in the file; "ok" for a server, which has no file of ours."""
    if URL is not None:
        return "ok"
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return found

"""What a connection is called in CLIENT LIST: which process has which store open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote

from goscope.backend import this_process
from goscope.inspection import ProcessInfo

ATTACHED: Final = "goscope-attached"
"""The name of a connection whose process is not listed."""


def client_name(hash_tag: str, opened_at: int) -> str:
    """The name of a connection of this process; the server allows no space in it."""
    me = this_process()
    return f"goscope/{hash_tag}/{quote(me.host, safe='')}/{me.pid}/{opened_at}"


def read_client_list(clients: bytes, hash_tag: str, db: int) -> list[ProcessInfo]:
    """The processes that have the store open, from the answer to CLIENT LIST.

    A connection tells little about whether its process still runs: the machine may be cut off.
    """
    me = this_process()
    found = {
        (unquote(host), int(pid), int(opened_at)): None
        for host, pid, opened_at in _names(clients, f"goscope/{hash_tag}/", f"db={db}")
    }
    return [
        ProcessInfo(
            host=host,
            pid=pid,
            opened_at=opened_at,
            is_alive=True if (host, pid) == (me.host, me.pid) else None,
        )
        for host, pid, opened_at in found
    ]


def _names(clients: bytes, start: str, database: str) -> Iterator[list[str]]:
    for line in clients.decode(errors="replace").splitlines():
        fields = line.split(" ")
        name = next((field[5:] for field in fields if field.startswith("name=")), "")
        parts = name.removeprefix(start).split("/")
        if database in fields and name.startswith(start) and len(parts) == 3:
            yield parts

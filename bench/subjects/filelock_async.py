"""filelock's AsyncFileLock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..subject import Operation, Subject, import_peer


class FilelockAsync(Subject):
    name = "filelock AsyncFileLock"
    about = "AsyncFileLock(path), default executor and poll interval; no lease, no fencing token"
    packages = ("filelock",)

    async def open(self) -> None:
        self._new_lock = import_peer("filelock").AsyncFileLock
        self._contended: Any = self._new_lock(str(self.folder / "contended.lock"))

    def operations(self) -> Mapping[str, Operation]:
        return {"shared_lock": self.shared_lock, "contend": self.contend}

    async def shared_lock(self, number: int) -> None:
        async with self._new_lock(str(self.folder / f"{self.key(number)}.lock")):
            pass

    async def contend(self, number: int) -> None:
        async with self._contended:
            pass

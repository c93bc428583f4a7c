"""filelock's asynchronous lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contender import Contender, Operation, peer


class FilelockAsync(Contender):
    name = "filelock AsyncFileLock"
    about = "AsyncFileLock(path), its default executor and poll interval; no lease, no token"
    packages = ("filelock",)

    async def open(self) -> None:
        self._new_lock = peer("filelock").AsyncFileLock
        self._contended: Any = self._new_lock(str(self.folder / "contended.lock"))

    def operations(self) -> Mapping[str, Operation]:
        return {"shared_lock": self.shared_lock, "contend": self.contend}

    async def shared_lock(self, number: int) -> None:
        async with self._new_lock(str(self.folder / f"{self.key(number)}.lock")):
            pass

    async def contend(self, number: int) -> None:
        async with self._contended:
            pass

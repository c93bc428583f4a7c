"""What one import is, and the folder that remembers it until it has succeeded."""

from __future__ import annotations

import os
import random
import secrets
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from .... import ConfigurationError
from . import _records

LARGEST_BATCH: Final = 64
"""Records imported at the same time by one worker: as many writes share a commit."""


class Plan(msgspec.Struct, frozen=True):
    """What is imported and how chance falls. ``id`` keeps it apart from others in the store."""

    id: str
    records: int
    seed: int

    @property
    def batch(self) -> int:
        """Records between two checkpoints: small enough for several in the smallest shard."""
        return max(1, min(LARGEST_BATCH, self.records // (_records.SHARDS * 8)))

    def chance(self, purpose: str) -> random.Random:
        """Random numbers that are the same whenever this import asks for this purpose."""
        return random.Random(f"{self.seed} {purpose}")


class Folder:
    """The files of one import."""

    def __init__(self, path: str | None) -> None:
        self.path: Final = _default() if path is None else Path(path).absolute()
        self.plan: Final = self.path / "plan.json"
        self.database: Final = self.path / "import.db"
        self.service_log: Final = self.path / "service.jsonl"
        self.errors: Final = self.path / "errors.txt"

    def settle(self, records: int | None, seed: int | None) -> Plan:
        """Go on with the import that was interrupted here, or plan a new one, not written yet.

        Raises `ConfigurationError` if the one that was interrupted was another one.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            plan = self._read()
        except OSError as exc:
            raise ConfigurationError(
                f"{self.path} cannot be used: {exc.strerror}. Choose a folder with --path"
            ) from exc
        if plan is None:
            return self._new(records, seed)
        for wanted, name in ((records, "records"), (seed, "seed")):
            if wanted not in (None, getattr(plan, name)):
                raise ConfigurationError(
                    f"an import with --records {plan.records} --seed {plan.seed} was interrupted "
                    f"in {self.path}. Run it again without --{name} to finish it, "
                    f"or delete that folder to start over"
                )
        return plan

    def _read(self) -> Plan | None:
        try:
            return msgspec.json.decode(self.plan.read_bytes(), type=Plan)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise ConfigurationError(f"{self.plan} is no plan of an import: delete it") from exc

    def _new(self, records: int | None, seed: int | None) -> Plan:
        if self.database.exists():
            raise ConfigurationError(
                f"{self.database} is there, and no import was interrupted in its folder. "
                f"Choose another folder with --path"
            )
        everything = _records.count_all()
        return Plan(
            id=secrets.token_hex(4),
            records=min(records or everything, everything),
            seed=secrets.randbelow(10_000) if seed is None else seed,
        )

    def write(self, plan: Plan) -> None:
        """Remember the plan until `remove`."""
        self.plan.write_bytes(msgspec.json.encode(plan))

    def file_size(self) -> int:
        """The bytes of the database, its log included; 0 where a store keeps none here."""
        return sum(file.stat().st_size for file in self.path.glob(f"{self.database.name}*"))

    def remove(self) -> None:
        """Remove these files, and the folder if nothing else is in it."""
        files = [*self.path.glob(f"{self.database.name}*"), self.service_log, self.errors]
        for file in (*files, self.plan):  # the plan last: while it is there, the rest belongs to it
            file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def _default() -> Path:
    """The same folder each time, so that running again finds what was interrupted."""
    path = Path(tempfile.gettempdir(), f"goscope-demo-{os.getuid()}")
    if path.exists() and path.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{path} belongs to somebody else. Choose a folder with --path")
    return path

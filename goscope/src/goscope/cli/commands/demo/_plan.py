"""The parameters of one import, and the folder that keeps them until the import succeeds."""

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

MAX_BATCH_RECORDS: Final = 64
"""Records that one worker imports concurrently, so that their writes share a commit."""


class Plan(msgspec.Struct, frozen=True):
    """What to import, and the seed of every random choice.

    ``id`` separates the import from other imports in the same store.
    """

    id: str
    records: int
    seed: int

    @property
    def batch(self) -> int:
        """Records between two checkpoints: few enough for several batches in every shard."""
        return max(1, min(MAX_BATCH_RECORDS, self.records // (_records.SHARDS * 8)))

    def rng(self, purpose: str) -> random.Random:
        """A random generator whose numbers depend only on the seed and the purpose."""
        return random.Random(f"{self.seed} {purpose}")


class Folder:
    """The files of one import."""

    def __init__(self, path: str | None) -> None:
        self.path: Final = _default() if path is None else Path(path).absolute()
        self.plan: Final = self.path / "plan.json"
        self.database: Final = self.path / "import.db"
        self.service_log: Final = self.path / "service.jsonl"
        self.errors: Final = self.path / "errors.txt"

    def load_or_create_plan(self, records: int | None, seed: int | None) -> Plan:
        """Return the plan of the interrupted import in this folder, or a new, unwritten plan.

        Raises `ConfigurationError` if the interrupted import had other parameters.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            plan = self._read()
        except OSError as exc:
            raise ConfigurationError(
                f"cannot use {self.path}: {exc.strerror}. Choose another folder with --path"
            ) from exc
        if plan is None:
            return self._new(records, seed)
        for wanted, name in ((records, "records"), (seed, "seed")):
            if wanted not in (None, getattr(plan, name)):
                raise ConfigurationError(
                    f"an import with --records {plan.records} --seed {plan.seed} was interrupted "
                    f"in {self.path}. Run again without --{name} to finish it, "
                    f"or delete the folder to start over"
                )
        return plan

    def _read(self) -> Plan | None:
        try:
            return msgspec.json.decode(self.plan.read_bytes(), type=Plan)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise ConfigurationError(
                f"{self.plan} is not a valid plan of an import. Delete it to start over"
            ) from exc

    def _new(self, records: int | None, seed: int | None) -> Plan:
        if self.database.exists():
            raise ConfigurationError(
                f"{self.database} exists, but its folder has no interrupted import. "
                f"Choose another folder with --path"
            )
        available = _records.count_all()
        return Plan(
            id=secrets.token_hex(4),
            records=min(records or available, available),
            seed=secrets.randbelow(10_000) if seed is None else seed,
        )

    def write(self, plan: Plan) -> None:
        """Keep the plan until `remove`."""
        self.plan.write_bytes(msgspec.json.encode(plan))

    def file_size(self) -> int:
        """The size of the database in bytes, WAL included; 0 if the store has no file here."""
        return sum(file.stat().st_size for file in self.path.glob(f"{self.database.name}*"))

    def remove(self) -> None:
        """Remove these files, and the folder if it is then empty."""
        files = [*self.path.glob(f"{self.database.name}*"), self.service_log, self.errors]
        for file in (*files, self.plan):  # the plan last: it marks the other files as the demo's
            file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def _default() -> Path:
    """The same folder on every run, so that the next run finds an interrupted import."""
    path = Path(tempfile.gettempdir(), f"goscope-demo-{os.getuid()}")
    if path.exists() and path.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{path} belongs to another user. Choose a folder with --path")
    return path

"""The demonstration, begun on a file and continued on a PostgreSQL store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.demo_runs import COMMAND, Run, finished

from .stores import Store


@pytest.mark.long
def test_a_demo_that_moved_to_postgresql_ends_with_a_correct_ledger(
    store: Store, tmp_path: Path
) -> None:
    """It is stopped after a worker was killed: on a server its leases would have to run out."""
    folder, url = tmp_path / "demo", f"{store.dsn}?schema={store.name}"
    with Run("--path", folder, "--records", "300", "--seed", "5", "--workers", "2") as run:
        run.read_until(r" [4-9]\d%")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.finish() == 130, run.output + run.errors
    prefix = f"key_prefix=demo-{json.loads((folder / 'plan.json').read_text())['id']}:"
    moving = [f"sqlite:///{folder}/import.db?{prefix}", f"{url}&{prefix}"]
    moved = subprocess.run(
        [*COMMAND, "migrate", *moving], capture_output=True, text=True, timeout=100, check=False
    )
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert "Verified: both stores hold the same" in moved.stdout
    for file in folder.glob("import.db*"):
        file.unlink()
    code, continued = finished("--path", folder, "--url", url, "--workers", "2")
    assert code == 0, continued.output + continued.errors
    assert continued.output.startswith("Resuming the import of 300 airports")
    assert "All checks passed" in continued.output
    assert continued.ledger["records imported"].value == "300 of 300"
    assert continued.ledger["duplicate charges"].value == "0"
    assert "shard of the killed worker" in continued.ledger
    for printed in (moved.stdout, moved.stderr, continued.output, continued.errors):
        assert store.dsn not in printed

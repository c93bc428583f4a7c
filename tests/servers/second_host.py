"""A second host on this machine: a network namespace, and a cable to it that a test may unplug."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from tests.missing import missing

PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class SecondHost:
    """A network namespace. Programs in it reach this machine at ``address``, and nothing else."""

    def __init__(self, program: str) -> None:
        self._ip = program
        pid = os.getpid()
        self._name: Final = f"goscope-{pid}"
        self._cable: Final = f"goscope{pid}"[:15]
        # Of the network that RFC 2544 reserves for tests of networks; four addresses a process.
        network, number = divmod(pid % 2**14 * 4, 256)
        self.address: Final = f"198.18.{network}.{number + 1}"
        self._far_address: Final = f"198.18.{network}.{number + 2}"

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a program there."""
        return [self._ip, "netns", "exec", self._name, *arguments]

    def unplug(self) -> None:
        """Cut the network. Neither end is told: packets are lost."""
        self._run("link", "set", self._cable, "down")

    def plug_in(self) -> None:
        self._run("link", "set", self._cable, "up")

    def create(self) -> None:
        """Skips the test where no namespace may be created."""
        try:
            self._run("netns", "add", self._name)
        except subprocess.CalledProcessError as exc:
            missing(f"no network namespace can be created, which root may do: {exc.stderr}")
        end = ("peer", "name", "cable", "netns", self._name)
        self._run("link", "add", self._cable, "type", "veth", *end)
        self._run("address", "add", f"{self.address}/30", "dev", self._cable)
        self._run("-n", self._name, "address", "add", f"{self._far_address}/30", "dev", "cable")
        self._run("-n", self._name, "link", "set", "cable", "up")
        self.plug_in()

    def remove(self) -> None:
        """Remove what there is of it. The namespace alone would take the cable with it later."""
        for what in (("link", "delete", self._cable), ("netns", "delete", self._name)):
            subprocess.run([self._ip, *what], capture_output=True, check=False)

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], capture_output=True, text=True, check=True)


@contextmanager
def second_host() -> Generator[SecondHost]:
    """A second host, which is removed at the end; skips the test where there cannot be one."""
    program = shutil.which("ip", path=PATH)
    if program is None:
        missing("the program ip is not installed: run `make servers`")
    host = SecondHost(program)
    try:
        host.create()
        yield host
    finally:
        host.remove()

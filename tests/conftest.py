"""Settings of all tests."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from tests.missing import missing

# Deadlines would depend on the speed of the machine; no examples are kept between runs.
settings.register_profile("goscope", deadline=None, database=None)
settings.load_profile("goscope")


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore what the developer's shell configures."""
    for variable in ("GOSCOPE_PLUGINS", "GOSCOPE_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _writes_of_sqlite() -> None:
    """Let GOSCOPE_TEST_WRITES name where the writes of ``sqlite`` run: auto, loop or thread."""
    if place := os.environ.get("GOSCOPE_TEST_WRITES"):
        from goscope_sqlite import SQLiteAdapter  # most tests do without

        defaults = SQLiteAdapter.__init__.__kwdefaults__
        assert defaults is not None
        defaults["writes"] = place


def eager_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose tasks begin to run at once, from Python 3.12."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop."""
    return importlib.import_module("uvloop").new_event_loop()  # type: ignore[no-any-return]


LOOPS: Final = {"eager": eager_loop, "uvloop": uvloop_loop}
LOOP: Final = os.environ.get("GOSCOPE_TEST_LOOP", "")

if LOOP:

    def pytest_asyncio_loop_factories(
        config: pytest.Config, item: pytest.Item
    ) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Run asynchronous tests in the event loops that GOSCOPE_TEST_LOOP names."""
        return {LOOP: LOOPS[LOOP]}


@pytest.fixture(scope="session")
def unshare() -> list[str]:
    """The beginning of a command line that runs in a new pid namespace; options may follow."""
    return _namespace("--pid", ["--mount-proc", "true"], "--fork", "--kill-child")


@pytest.fixture(scope="session")
def mount_namespace() -> list[str]:
    """The beginning of a command line that runs in a new mount namespace, as root there."""
    return _namespace("--mount", ["sh", "-c", "mount -t proc proc /proc"])


@pytest.fixture(scope="session")
def time_namespace() -> list[str]:
    """The beginning of a command line that runs in a new time namespace, booted a day earlier."""
    return _namespace("--time", ["true"], "--boottime", "86400", "--fork")


def _namespace(kind: str, trial: list[str], *options: str) -> list[str]:
    """A command line of unshare with which the trial succeeds; skip the test if there is none."""
    program = shutil.which("unshare")
    if program is None:
        missing("unshare, which creates namespaces, is not installed: it is in util-linux")
    for privilege in ([], ["--user", "--map-root-user"]):
        command = [program, *privilege, kind, *options]
        if subprocess.run([*command, *trial], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip(f"this machine does not allow a new namespace (unshare {kind})")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The URL of a PostgreSQL server, which GOSCOPE_TEST_POSTGRES_URL names."""
    return _server("GOSCOPE_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")


@pytest.fixture(scope="session")
def mysql_url() -> str:
    """The URL of a MySQL or MariaDB server, which GOSCOPE_TEST_MYSQL_URL names."""
    return _server("GOSCOPE_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The URL of a Redis or Valkey server, which GOSCOPE_TEST_REDIS_URL names."""
    return _server("GOSCOPE_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


def _server(variable: str, default: str) -> str:
    """The URL in the variable, or the default one, of a server that accepts connections."""
    url = os.environ.get(variable, default)
    host, port = urlsplit(url).hostname, urlsplit(url).port or urlsplit(default).port
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as exc:
        missing(f"no server at {host}:{port} ({exc}): set {variable}")
    return url

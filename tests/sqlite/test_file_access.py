"""The file on its file system: symlinks, permissions, a full disk, and opens that fail."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import InvalidOption
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import file
from goscope_sqlite._engine.connection import WAL_LIMIT_BYTES
from goscope_sqlite._engine.wal import MAX_SIZE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs symlinks and permissions")


@pytest.fixture(params=[SQLiteAdapter, BunSQLiteAdapter])
def adapter_type(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- symlinks ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_wal_of_a_symlink_stays_within_its_limit(path: Path, adapter_type: Any) -> None:
    """It is beside the real file, and its size was read beside the symlink."""
    folder = path.with_name("real")
    folder.mkdir()
    os.symlink(folder / "real.db", path)
    largest = 0
    async with adapter_type(path, sweep_interval="1h") as adapter:
        for number in range(80):
            await adapter.cache.set("key", f"{number:02}" * (WAL_LIMIT_BYTES // 8))
            largest = max(largest, (folder / "real.db-wal").stat().st_size)
    assert largest < (MAX_SIZE + 1) * WAL_LIMIT_BYTES  # the writes wait before
    assert sorted(entry.name for entry in folder.iterdir()) == ["real.db"]


@pytest.mark.asyncio
@pytest.mark.parametrize("linked", ["file", "folder"])
async def test_a_symlink_to_a_network_file_system_is_refused(
    path: Path, adapter_type: Any, linked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = path.with_name("mountinfo")
    mountinfo.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/vda rw\n23 22 0:40 / {path.parent}/net rw - nfs4 server rw\n"
    )
    monkeypatch.setattr(file, "MOUNTINFO", mountinfo)
    network = path.with_name("net")
    network.mkdir()
    if linked == "file":
        os.symlink(network / "a.db", path)
    else:
        os.symlink(network, path.with_name("folder"))
        path = path.with_name("folder") / "a.db"
    with pytest.raises(InvalidOption, match="network file system"):
        await adapter_type(path).connect()
    assert list(network.iterdir()) == []


@pytest.mark.asyncio
async def test_a_file_that_is_mounted_from_a_network_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container does with `--volume file:file`."""
    mountinfo = path.with_name("mountinfo")
    mountinfo.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/vda rw\n23 22 0:40 / {path} rw - nfs4 server rw\n"
    )
    monkeypatch.setattr(file, "MOUNTINFO", mountinfo)
    with pytest.raises(InvalidOption, match="network file system"):
        await SQLiteAdapter(path).connect()


# --- permissions ---------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_a_new_file_is_for_its_user_alone(path: Path, adapter_type: Any, umask: int) -> None:
    before = os.umask(umask)
    try:
        async with adapter_type(path) as adapter:
            await adapter.cache.set("key", "secret")
            modes = {it.name: stat.S_IMODE(it.stat().st_mode) for it in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {path.name: 0o600, f"{path.name}-wal": 0o600, f"{path.name}-shm": 0o600}


@pytest.mark.asyncio
async def test_an_existing_file_keeps_its_permissions(path: Path, adapter_type: Any) -> None:
    os.mknod(path)
    os.chmod(path, 0o660)
    async with adapter_type(path) as adapter:
        await adapter.cache.set("key", "shared with the group")
        assert {stat.S_IMODE(it.stat().st_mode) for it in path.parent.iterdir()} == {0o660}


# --- a full disk ---------------------------------------------------------------------------------

FILL_AND_OPEN = """
import asyncio, os, sys
from pathlib import Path
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter
from goscope.errors import BackendFull

async def main(folder):
    for kind in (SQLiteAdapter, BunSQLiteAdapter):
        for exists in (False, True):
            path = folder / f"{kind.__name__}{exists}.db"
            if exists:
                async with kind(path) as adapter:
                    await adapter.cache.set("key", "kept")
            descriptor = os.open(folder / "rest", os.O_CREAT | os.O_WRONLY)
            try:
                while os.write(descriptor, bytes(4096)):
                    pass
            except OSError:
                os.close(descriptor)
            try:
                async with kind(path) as adapter:
                    await adapter.cache.set("big", "x" * 100_000)
            except BackendFull as exc:
                assert "Free some space" in str(exc)
            else:
                raise AssertionError("it was not full")
            os.remove(folder / "rest")
            async with kind(path) as adapter:
                assert await adapter.cache.get("key") == ("kept" if exists else None)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_is_reported_as_such_at_open_too(
    tmp_path: Path, mount_namespace: list[str]
) -> None:
    mount = 'mount -t tmpfs -o size=600k tmpfs "$0" && exec "$@"'
    program = [sys.executable, "-c", FILL_AND_OPEN, str(tmp_path)]
    command = [*mount_namespace, "sh", "-c", mount, str(tmp_path), *program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


# --- opens that fail -----------------------------------------------------------------------------

FAIL = """
import asyncio, sys
from goscope.errors import BackendUnavailable
from {module} import {name} as Adapter

for _ in range(20):
    try:
        asyncio.run(Adapter(sys.argv[1]).connect())
    except BackendUnavailable:
        print("refused")
"""


def test_a_failed_open_leaves_no_thread_that_fails(path: Path, adapter_type: Any) -> None:
    """The thread answered to the closed event loop, and printed a traceback."""
    path.symlink_to(path)  # SQLite cannot open it
    source = FAIL.format(module=adapter_type.__module__, name=adapter_type.__name__)
    command = [sys.executable, "-c", source, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.stdout, done.stderr) == ("refused\n" * 20, "")


@pytest.mark.asyncio
async def test_a_relative_path_in_a_deleted_directory_is_refused(
    tmp_path: Path, adapter_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidOption, match="pass an absolute path"):
        await adapter_type("app.db").connect()

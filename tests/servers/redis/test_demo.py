"""``goscope demo`` on a server: one worker is killed, and the ledger is right."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from .servers import RedisServer

pytestmark = pytest.mark.asyncio


@pytest.mark.long
async def test_the_demo_passes_its_checks(server: RedisServer, tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{server.port}"
    arguments = ["demo", "--path", str(tmp_path / "demo"), "--url", url, "--records", "400"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "goscope", *arguments, "--workers", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"All checks passed" in output

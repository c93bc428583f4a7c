"""SIGTERM in a program that handles it as web servers do: the last update of a task is saved."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

SERVER = """
import asyncio, signal, sys
import goscope

gs = goscope.Scope(backend="sqlite", path=sys.argv[1])

async def count(task):
    for number in range(10**9):
        task.checkpoint.update(number)
        print(number, flush=True)
        await asyncio.sleep(0.001)

async def serve():
    # As uvicorn's Server.serve: the handler only asks the loop to end, and the signal is raised
    # again, with the default handler, once the lifespan is over.
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop = lambda *_: loop.call_soon_threadsafe(stopping.set)
    before = signal.signal(signal.SIGTERM, stop)
    async with gs:
        job = asyncio.create_task(gs.tasks.run("job", count, save_interval="1h"))
        await stopping.wait()
        {shutdown}
    signal.signal(signal.SIGTERM, before)
    signal.raise_signal(signal.SIGTERM)

asyncio.run(serve())
"""

SHUTDOWNS = {
    "the job is left running": "pass",
    "the job is cancelled": "job.cancel(); await asyncio.wait([job])",
    "the job is cancelled and not awaited": "job.cancel()",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
@pytest.mark.parametrize("shutdown", SHUTDOWNS.values(), ids=SHUTDOWNS)
def test_sigterm_saves_the_last_update(tmp_path: Path, shutdown: str) -> None:
    path = tmp_path / "app.db"
    program = textwrap.dedent(SERVER).format(shutdown=shutdown)
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # of a job that is left running, asyncio reports the error
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 20:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().split()
        assert process.wait(60) == -signal.SIGTERM
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT data FROM go_goscope_checkpoints").fetchall()
    assert rows, "no checkpoint was saved"
    assert int(rows[-1][0]) >= int((rest or ["20"])[-1])

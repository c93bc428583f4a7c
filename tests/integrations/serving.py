"""Applications over HTTP: in the loop of a test, or in worker processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

CLIENT: dict[str, Any] = {"timeout": 30, "trust_env": False, "verify": False}
"""Settings of a client that needs no certificates, whose loading takes a while."""

LIMIT_S = 60
"""How long a server may take to start or to end."""

EXAMPLES = Path(__file__).parents[2] / "examples"


def listen() -> socket.socket:
    """A socket on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.set_inheritable(True)
    return listening


@asynccontextmanager
async def served(app: Any, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve an ASGI application in this event loop, and yield a client of it."""
    config = uvicorn.Config(app, log_level="error", ws="none", **settings)
    config.load()
    server = uvicorn.Server(config)
    # Its steps, and not `serve`, whose loop looks ten times a second whether it is to end.
    server.lifespan = config.lifespan_class(config)
    with listen() as listening:
        await server.startup(sockets=[listening])
        try:
            base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with httpx.AsyncClient(
                base_url=base_url, timeout=30, trust_env=False, verify=False
            ) as client:
                yield client
        finally:
            await server.shutdown(sockets=[listening])


@contextmanager
def workers(
    module: str, folder: Path, *, folder_of_module: Path = EXAMPLES, **environment: str
) -> Generator[httpx.Client]:
    """Serve an application by two worker processes, and yield a client of them."""
    with listen() as listening, (folder / "server.log").open("w+") as log:
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "uvicorn",
                    f"{module}:app",
                    "--app-dir",
                    str(folder_of_module),
                ),
                *("--fd", str(listening.fileno()), "--workers", "2"),
                *("--log-level", "warning", "--ws", "none"),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=log,
            stderr=log,
            pass_fds=[listening.fileno()],
        )
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(
                base_url=base_url, timeout=30, trust_env=False, verify=False
            ) as client:
                yield client
        except BaseException as exc:
            exc.add_note((folder / "server.log").read_text())
            raise
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_S)


def wait_for(client: httpx.Client, path: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            client.get(path)
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

"""Encrypted connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import goscope
from goscope.errors import BackendUnavailable
from goscope_redis import RedisAdapter

from .servers import RedisServer, free_port, program, running_server

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server that has a certificate for 127.0.0.1 and demands one of its clients."""
    await create_certificate(tmp_path)
    options = [
        *("--tls-port", str(free_port())),
        *("--tls-cert-file", str(tmp_path / "cert.pem")),
        *("--tls-key-file", str(tmp_path / "key.pem")),
        *("--tls-ca-cert-file", str(tmp_path / "cert.pem")),
    ]
    async with running_server(tmp_path / "server", *options) as server:
        yield server


async def create_certificate(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


def tls_port(server: RedisServer) -> int:
    return int(server.options[server.options.index("--tls-port") + 1])


async def test_every_ability_works_encrypted(encrypted: RedisServer, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    url = f"rediss://127.0.0.1:{tls_port(encrypted)}/0?tls_ca={cert}&tls_cert={cert}&tls_key={key}"
    async with goscope.Scope(url) as gs, goscope.Scope(url) as other:
        async with gs.lock("door") as handle:
            waiting = asyncio.create_task(enter(other))
            await gs.cache.set("key", "x" * 100_000, ttl="1h", fence=handle)
        await waiting
        assert await other.cache.get("key") == "x" * 100_000


async def enter(gs: goscope.Scope) -> None:
    async with gs.lock("door", wait="30s"):
        pass


async def test_an_unknown_certificate_is_refused(encrypted: RedisServer) -> None:
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        await RedisAdapter(port=tls_port(encrypted), tls=True).connect()


async def test_an_unencrypted_server_is_reported(server: RedisServer) -> None:
    with pytest.raises(BackendUnavailable, match="TLS"):
        await RedisAdapter(port=server.port, tls=True, connect_timeout="300ms").connect()

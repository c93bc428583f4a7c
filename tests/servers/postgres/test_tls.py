"""The adapter over TLS, with a certificate that it verifies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

import goscope
from goscope.errors import ConfigurationError
from tests.missing import missing

from .server import running_server

pytestmark = pytest.mark.asyncio


def create_certificate(folder: Path) -> tuple[str, str]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        missing("openssl is not installed: it is in a package of that name")
    key, certificate = folder / "server.key", folder / "server.crt"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate.read_text(), key.read_text()


async def test_every_verified_call_is_encrypted(tmp_path: Path) -> None:
    certificate, key = create_certificate(tmp_path)
    with running_server() as server:
        server.install("server.crt", certificate)
        server.install("server.key", key)
        server.stop()
        server.configure("ssl = on")
        server.start()
        options = urlencode({"sslmode": "verify-full", "sslrootcert": str(tmp_path / "server.crt")})
        async with goscope.Scope(f"{server.dsn}?{options}&key_prefix=shop:") as gs:
            async with gs.lock("stock"):
                await gs.cache.set("key", 1)
            adapter = gs.persistence
            assert adapter.capabilities >= {goscope.Capability.NOTIFICATIONS}
            encrypted = await adapter._database.read(  # type: ignore[attr-defined]
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                "WHERE application_name = 'goscope'"
            )
            assert encrypted[0][0] is True
        strict = urlencode({"sslmode": "verify-full"})  # without the root certificate
        with pytest.raises(ConfigurationError, match="certificate"):
            await goscope.Scope(f"{server.dsn}?{strict}").open()

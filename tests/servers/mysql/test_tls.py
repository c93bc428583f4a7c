"""Encrypted connections, with and without a check of the server's certificate."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from goscope.errors import BackendUnavailable
from goscope_mysql._engine.connection import Connection

from . import databases
from .server import Server, running_server

pytestmark = pytest.mark.asyncio


def certify(folder: Path) -> None:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "goscope test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certify(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running_server(
        f"--ssl-cert={folder}/cert.pem",
        f"--ssl-key={folder}/key.pem",
        f"--ssl-ca={folder}/cert.pem",
    ) as server:
        yield server


async def cipher(connection: Connection) -> str:
    [[(_, name)]] = [
        result.rows for result in await connection.script([("SHOW STATUS LIKE 'Ssl_cipher'", ())])
    ]
    return str(name)


async def test_an_encrypted_connection(server: Server, folder: Path) -> None:
    options = {"host": "127.0.0.1", "port": server.port, "user": "root", "password": ""}
    async with databases.session(**options) as other:
        await other.query("CREATE DATABASE IF NOT EXISTS test")
    async with server.adapter() as adapter:
        assert await adapter._database.submit(cipher) == ""
    async with server.adapter(tls="required") as adapter:
        assert await adapter._database.submit(cipher)
        await adapter.cache.set("key", 1)
        handle = await adapter.lock.acquire("key")
        assert handle is not None
        await adapter.cache.set("key", 2, fence=handle)
    async with server.adapter(tls="verify", tls_ca=f"{folder}/cert.pem") as adapter:
        assert await adapter._database.submit(cipher)
        assert await adapter.cache.get("key") == 2
    with pytest.raises(BackendUnavailable, match=r"(?i)certificate"):
        await server.adapter(tls="verify").connect()

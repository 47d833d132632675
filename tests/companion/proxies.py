"""How do tests get certificates of clients, and a companion that listens?"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autoscaler.companion.certificates import Issued, issue, new_keys
from autoscaler.companion.serving import Server, server

NAME = "pd-autoscaler-companion.pd-system.svc"
DAY_S = 86_400.0
EC = ec.SECP256R1()


def made(lifetime_s: float = DAY_S, now: float | None = None, *names: str) -> Issued:
    """A serving certificate and its authority."""
    return issue(time.time() if now is None else now, names or (NAME, "127.0.0.1"), lifetime_s, new_keys())


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority of client certificates, as an API server has one."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    pem: str

    @classmethod
    def of(cls, name: str) -> Signer:
        key, whole = ec.generate_private_key(EC), _named(name)
        ca = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _blank(whole, whole, key).add_extension(ca, critical=True).sign(key, hashes.SHA256())
        return cls(whole, key, certificate.public_bytes(Encoding.PEM).decode())

    def signs(self, folder: Path, common_name: str) -> Path:
        """A client's certificate and key in one file."""
        key = ec.generate_private_key(EC)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = _blank(_named(common_name), self.name, key).add_extension(usage, critical=False)
        text = certificate.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        file = folder / f"{common_name}-{abs(hash(self.pem))}.pem"
        file.write_bytes(text + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return file


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _blank(holder: x509.Name, signer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(signer, holder, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


@contextmanager
def listening(app: Any, context: ssl.SSLContext | None) -> Iterator[tuple[int, Server]]:
    """The port of an application behind the companion's server."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = server(app, context)
    thread = Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], running
    finally:
        running.should_exit = True
        thread.join(10)
        listener.close()


class Client:
    """Somebody who trusts these authorities and shows this certificate, over one connection at a time."""

    def __init__(self, port: int, trusts: bytes, shows: Path | None = None) -> None:
        self.context = ssl.create_default_context(cadata=trusts.decode())
        if shows is not None:
            self.context.load_cert_chain(shows)
        self._connection = HTTPSConnection("127.0.0.1", port, context=self.context, timeout=5)

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and body; JSON is read."""
        self._connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = self._connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw.startswith(b"{") else raw.decode()

    def serial(self) -> int:
        """Of the certificate that this connection was served."""
        assert isinstance(self._connection.sock, ssl.SSLSocket)
        return x509.load_der_x509_certificate(self._connection.sock.getpeercert(binary_form=True) or b"").serial_number

    def close(self) -> None:
        self._connection.close()

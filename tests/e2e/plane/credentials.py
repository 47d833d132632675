"""Who may speak to the plane, and how does each prove it?

One self-signed certificate, made by one openssl call, serves the API server and the webhooks and is what every
kubeconfig trusts; its key also signs the tokens of service accounts. Production keeps these four apart; here all of them
live and end with one temporary folder. The administrator and each program have a random token and full rights. Whoever
should have fewer is a service account, and then authorization (RBAC) is the real one.

A second one, its own authority too, is what the API server shows to those that it passes requests on to.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FRONT_PROXY = "front-proxy-client"
SERVER = ("subjectAltName=IP:127.0.0.1,DNS:localhost",)
CLIENT = ("extendedKeyUsage=clientAuth",)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files that prove who is who, all in one folder."""

    folder: Path
    server: str  # https://127.0.0.1:PORT

    @property
    def certificate(self) -> Path:
        """PEM; the name is the one that the webhook server of the manager looks for."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """PEM, the certificate's private key."""
        return self.folder / "tls.key"

    @property
    def front_proxy(self) -> Path:
        """PEM; the API server's own, as a client of aggregated ones. Its key is `front_proxy_key`."""
        return self.folder / f"{FRONT_PROXY}.crt"

    @property
    def front_proxy_key(self) -> Path:
        """PEM."""
        return self.folder / f"{FRONT_PROXY}.key"

    @property
    def tokens(self) -> Path:
        """The API server's static token file: token, user, user id, groups."""
        return self.folder / "tokens.csv"

    def kubeconfig(self, user: str) -> Path:
        """How this user reaches the API server."""
        return self.folder / f"{user}.kubeconfig"

    def add_kubeconfig(self, user: str, token: str) -> Path:
        """Write how somebody with this token reaches the API server. JSON is YAML."""
        cluster = {"server": self.server, "certificate-authority": str(self.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "plane",
            "clusters": [{"name": "plane", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": user}}],
        }
        self.kubeconfig(user).write_text(json.dumps(content))
        return self.kubeconfig(user)


def make_credentials(openssl: Path, folder: Path, server: str, users: Iterable[str]) -> Credentials:
    """The certificate, and for each user a token with full rights and a kubeconfig."""
    made = Credentials(folder, server)
    tokens = {user: secrets.token_urlsafe(24) for user in users}
    named = {user: f"system:{user}" if user.startswith("kube-") else user for user in tokens}  # as those of Kubernetes are
    made.tokens.write_text("".join(f'{token},{named[user]},{user},"system:masters"\n' for user, token in tokens.items()))
    for user, token in tokens.items():
        made.add_kubeconfig(user, token)
    _make_certificate(openssl, made.certificate, made.key, "127.0.0.1", SERVER)
    _make_certificate(openssl, made.front_proxy, made.front_proxy_key, FRONT_PROXY, CLIENT)
    return made


def _make_certificate(openssl: Path, certificate: Path, key: Path, name: str, extensions: Iterable[str]) -> None:
    """P-256, because RSA keys take up to a second to find; both key usages, because it is its own authority."""
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    usage = "keyUsage=critical,digitalSignature,keyCertSign"
    added = [word for extension in (*extensions, usage) for word in ("-addext", extension)]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([str(openssl), "req", *options.split(), *added, *files], check=True, capture_output=True)

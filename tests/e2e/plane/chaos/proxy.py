"""What if the API server is slow, refuses, hangs, forgets, or a controller dies in the middle of a request to it?

`Proxy` stands between one controller and the real API server, with the plane's own certificate on loopback, so that one
controller's trouble is nobody else's. Watches stream through it. `trouble` decides for each request what goes wrong with it:

    proxy.trouble = lambda asked: Trouble(status=429) if asked.writes else None

Writes pass the gate (gate.py), renewals of Leases do not. `records` are those of all transactions as they were stored last. `cut`
ends every open connection, watches included.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.plane.chaos.gate import Gate
from tests.e2e.plane.credentials import Credentials

HANG_S = 3600.0
PIECE = 65536
PASSED_ON = ("Authorization", "Content-Type", "Accept")
NO_WORDS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "so says a fault of the test"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the controller. `what` is its path without the API group, `watch` whether its answer never ends."""

    method: str
    path: str
    watch: bool

    @property
    def writes(self) -> bool:
        """Whether it changes anything but a Lease."""
        return self.method != "GET" and not self.leases

    @property
    def leases(self) -> bool:
        """Whether it is about who leads."""
        return "/leases" in self.path

    @property
    def what(self) -> str:
        """For people."""
        return f"{self.method} {'/'.join(self.path.split('/')[-3:])}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with a request: late by `wait_s`; answered with `status` in its place, in a watch as its only event;
    done and then not told (`loses_answer`); the connection cut before anything (`drops`).
    """

    wait_s: float = 0.0
    status: int = 0
    loses_answer: bool = False
    drops: bool = False


HANGS = Trouble(wait_s=HANG_S)
NONE = Trouble()


class Proxy:
    """One controller's way to the API server at `server`. `kubeconfig` is what it is given."""

    def __init__(self, server: str, folder: Path, gate: Gate, kubeconfig: Path) -> None:
        self.trouble: Callable[[Asked], Trouble | None] = lambda _: None
        self.troubled: Counter[str] = Counter()
        self.records: dict[str, Mapping[str, Any]] = {}
        self.gate = gate
        self.server, self.closed = urlsplit(server), threading.Event()
        own = Credentials(folder, server)
        self.context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        page = type("Page", (_Page,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), page)
        self._serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certify(own.certificate, own.key)
        # Hands are shaken by the thread of the connection: a process that dies meanwhile holds up nobody.
        self._server.socket = self._serving.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self.kubeconfig = kubeconfig
        self._write_kubeconfig(folder)
        threading.Thread(target=self._server.serve_forever, name=f"proxy {self.url}", daemon=True).start()

    def certify(self, certificate: Path, key: Path) -> None:
        """From now on it proves itself by this; nobody goes on with what was proven before."""
        self._serving.load_cert_chain(certificate, key)
        self.cut()

    def cut(self) -> None:
        """Every connection breaks; new ones are served."""
        for one in self._server.open.copy():
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, whatever hangs in it."""
        self.closed.set()
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def _write_kubeconfig(self, folder: Path) -> None:
        admin = json.loads((folder / "admin.kubeconfig").read_text())
        admin["clusters"][0]["cluster"]["server"] = self.url
        self.kubeconfig.write_text(json.dumps(admin))


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def __init__(self, address: tuple[str, int], page: type[BaseHTTPRequestHandler]) -> None:
        self.open: set[Any] = set()
        super().__init__(address, page)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody died in the middle of something; that is what this is for."""


class _Page(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        proxy = self.proxy
        self.upstream = HTTPSConnection(proxy.server.hostname or "", proxy.server.port, timeout=60, context=proxy.context)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        path, _, query = self.path.partition("?")
        asked = Asked(self.command, path, "watch=true" in query)
        trouble = self.proxy.trouble(asked) or NONE
        if trouble is not NONE:
            self.proxy.troubled[asked.what.split("/")[0]] += 1
        if self.proxy.closed.wait(trouble.wait_s) or trouble.drops:
            self._hang_up()
        elif trouble.status:
            self._refuse(trouble.status, asked)
        elif asked.writes:
            answer = self.proxy.gate.passing(asked.what, lambda: self._kept(asked, body))
            self._pass_on(None if trouble.loses_answer else answer)
        else:
            self._pass_on(self._ask(body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def _kept(self, asked: Asked, body: bytes | None) -> HTTPResponse | None:
        """Ask, and note which records of transactions are stored by it."""
        answer = self._ask(body)
        if answer is not None and answer.status == HTTPStatus.OK and asked.path.endswith("/status"):
            states = (one["value"] for one in json.loads(body or b"[]") if one["path"] == "/status/state")
            self.proxy.records |= {one["key"]: one for state in states for one in state.get("transactions") or ()}
        return answer

    def _ask(self, body: bytes | None) -> HTTPResponse | None:
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        try:
            self.upstream.request(self.command, self.path, body, headers)
            return self.upstream.getresponse()
        except (OSError, HTTPException):
            self.upstream.close()  # the next request opens it again
            return None

    def _pass_on(self, answer: HTTPResponse | None) -> None:
        if answer is None:
            self._hang_up()
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError, HTTPException):
                while piece := answer.read1(PIECE):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
                return
            self._hang_up()
            return
        body = answer.read()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, asked: Asked) -> None:
        said = {**NO_WORDS, "code": status, "reason": "TestFault"}
        code, body = (200, {"type": "ERROR", "object": said}) if asked.watch and status == 410 else (status, said)
        raw = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        pass

"""How does a test make a Prometheus say exactly these bytes?

A small server on loopback reads whole requests and lets a script answer them; `http` and `vector` build the bytes of
answers that a script may send, whole or spoilt.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from typing import Any

Script = Callable[[str, Callable[[bytes], Any]], None]


class Answering(socketserver.ThreadingTCPServer):
    """Reads whole requests and lets `script(request, send)` answer; a script that returns leaves the connection open."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, script: Script) -> None:
        self.script, self.requests, self.connections = script, list[str](), 0
        super().__init__(("127.0.0.1", 0), _Connection)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that gave up is what half of these tests are about."""


class _Connection(socketserver.StreamRequestHandler):
    server: Answering
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server.connections += 1
        while head := self._head():
            length = next(
                (int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0
            )
            self.server.requests.append(head + self.rfile.read(length).decode())
            self.server.script(self.server.requests[-1], self.wfile.write)

    def _head(self) -> str:
        lines = b""
        while (line := self.rfile.readline(1000)).strip():
            if line.startswith(b"\x16\x03"):  # a TLS greeting, which no HTTP server understands
                return ""
            lines += line
        return (lines + line).decode()


def http(body: bytes | str, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def vector(*rows: dict[str, Any], **envelope: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}, **envelope})


def row(signal: str, value: Any = "1", **labels: str) -> dict[str, Any]:
    return {"metric": {"signal": signal, "namespace": "prod", **labels}, "value": [1.0, value]}


def gauges_of(pod: str) -> list[dict[str, Any]]:
    return [row(f"pods.{name}", "1", pod=pod) for name in ("waiting", "running", "kv_usage", "age_s")]

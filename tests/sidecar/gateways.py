"""What do tests of real gateways share? A bare engine behind one, a client in front, and a wait until it listens."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from manifests import build

GATEWAYS = Path(build.__file__).parent / "examples" / "gateways"
CHAT = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hello " * 700}], "max_tokens": 50}).encode()
FAIL = b"fail"
NOBODY = 9  # a port that nobody listens on


class Engine(BaseHTTPRequestHandler):
    """A bare engine: answers what it was sent, headers and body; with an error of its own to FAIL."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if body == FAIL else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-seen", json.dumps({name.lower(): value for name, value in self.headers.items()}))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def engine() -> Iterator[int]:
    """Its port."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()


def ask(port: int, body: bytes = CHAT, headers: Mapping[str, str] | None = None) -> tuple[int, Message[str, str], bytes]:
    """What a client is told that posts a chat to this port."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def free_port() -> int:
    """One that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there, or 10 s."""
    for _ in range(200):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the gateway does not listen")

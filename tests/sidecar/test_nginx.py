"""Does nginx with the documented configuration turn away, let in, and stay open without us?"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
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

from autoscaler.sidecar.ledger import Ledger
from tests.sidecar.running import running

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
WRAPPED = """
{user} daemon off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  include {folder}/site.conf;
}}
"""
CHAT = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hello " * 700}], "max_tokens": 50}).encode()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="no nginx: apt-get install nginx-light")]


class Engine(BaseHTTPRequestHandler):
    """A bare engine: answers what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def engine() -> Iterator[int]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()


@contextmanager
def nginx(folder: Path, sidecar: int) -> Iterator[int]:
    """The documented configuration between a client and an engine; its port."""
    assert NGINX is not None
    with engine() as engine_port, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        site = Path(__file__).with_name("nginx.conf").read_text()
        for word, place in (("ENGINE", engine_port), ("SIDECAR", sidecar), ("LISTEN", port)):
            site = site.replace(word, f"127.0.0.1:{place}")
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(WRAPPED.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
        command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with subprocess.Popen(command) as process:
            try:
                _wait_for(port)
                yield port
            finally:
                process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("nginx does not listen")


def ask(port: int, body: bytes = CHAT, headers: Mapping[str, str] | None = None) -> tuple[int, Message[str, str], bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def _verdicts(ledger: Ledger) -> int:
    return sum(ledger.verdicts.values())


def test_a_full_fleet_is_429_with_everything_a_client_needs(tmp_path: Path) -> None:
    with running(full=True) as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        status, headers, body = ask(port)
        asked = _verdicts(ledger)
        _, batch, _ = ask(port, headers={"x-tier": "batch"})
    assert (status, asked) == (429, 1)
    assert headers["content-type"] == "application/json"
    assert 1 <= int(headers["retry-after"]) <= 30
    assert int(headers["retry-after-ms"]) <= 30_000
    assert headers["x-pda-reject-reason"] == "ttft"
    assert json.loads(body)["error"]["code"] == "ttft"
    assert headers.get("x-should-retry") is None
    assert batch["x-should-retry"] == "false"


def test_a_fleet_with_room_gets_the_request_whole(tmp_path: Path) -> None:
    with running() as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        status, _, body = ask(port)
        assert (status, body, _verdicts(ledger)) == (200, CHAT, 1)
        assert ask(port, b"x" * 3_000_000)[0] == 200


def test_without_a_sidecar_everybody_is_let_in(tmp_path: Path) -> None:
    with nginx(tmp_path, 9) as port:
        status, _, body = ask(port)
    assert (status, body) == (200, CHAT)

"""How do tests get a real Prometheus, and pods for it to scrape?

`RealPrometheus` runs the server found on PATH: loopback, a folder of its own, one scrape a second, targets from every
file there that is called targets*.json.
`Exporters` serves the metrics of many pods from one port, one path each. A pod moves on by one step whenever it is
scraped, so what its counters show depends on the number of scrapes and not on how fast the machine is. What a pod shows is
a registry of prometheus_client or a recorded page (fake_pages.py).
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

PATIENCE_S = 30.0
PLAIN = "text/plain; version=0.0.4"
Show = Callable[[str], tuple[str, bytes]]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail with `what` after a time that no healthy machine needs."""
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, f"waited {PATIENCE_S:g} s in vain: {what}"
        time.sleep(0.05)


class Exporters:
    """The metric pages of many pods on one loopback port."""

    def __init__(self) -> None:
        self.scrapes: dict[str, int] = {}
        self._pages: dict[str, Show] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        exporters = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, page = exporters._scrape(self.path.removeprefix("/metrics/"), self.headers.get("Accept", ""))
                status = HTTPStatus.OK if page else HTTPStatus.NOT_FOUND
                head = f"HTTP/1.0 {status} {status.phrase}\r\nContent-Type: {kind}\r\n\r\n"
                self.wfile.write(head.encode() + page)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def add(self, path: str, registry: Collector, step: Callable[[], None], **labels: str) -> None:
        """A pod: its metrics, what happens to it between two scrapes, and the labels that discovery gives it."""

        def show(accept: str) -> tuple[str, bytes]:
            step()
            return PLAIN, generate_latest(registry)

        self.add_page(path, show, **labels)

    def add_page(self, path: str, show: Show, **labels: str) -> None:
        """A pod that shows at every scrape what `show` makes of the Accept header: the kind of page, and the page."""
        self._pages[path], self._labels[path] = show, labels

    def remove(self, path: str) -> None:
        """The pod is gone, and its page with it."""
        self._pages.pop(path, None)
        self._labels.pop(path, None)

    @property
    def targets(self) -> list[dict[str, object]]:
        """All pods in the form of Prometheus' file discovery."""
        address = f"127.0.0.1:{self._server.server_port}"
        return [
            {"targets": [address], "labels": {"__metrics_path__": f"/metrics/{path}", **labels}}
            for path, labels in self._labels.items()
        ]

    def wait_for_scrapes(self, count: int) -> None:
        """Until every pod was scraped `count` times."""
        wait_until(lambda: all(self.scrapes.get(path, 0) >= count for path in self._pages), f"{count} scrapes of all pods")

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _scrape(self, path: str, accept: str) -> tuple[str, bytes]:
        show = self._pages.get(path)
        if show is None:
            return PLAIN, b""
        shown = show(accept)
        self.scrapes[path] = self.scrapes.get(path, 0) + 1
        return shown


class RealPrometheus:
    """A Prometheus server of the test's own."""

    def __init__(self, binary: str, folder: Path, targets: Iterable[Mapping[str, object]]) -> None:
        self._binary, self._folder = binary, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "targets.json").write_text(json.dumps(list(targets)))
        discovery = {"files": [str(folder / "targets*.json")], "refresh_interval": "1s"}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "pods", "file_sd_configs": [discovery]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def start(self) -> None:
        """Start, with the data of an earlier run where there is one, and wait until it answers."""
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, f"prometheus ready on {self.address}, see {self._folder / 'prometheus.log'}")

    def freeze(self) -> None:
        """Let it hold its sockets and do nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; the data stay."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"prometheus ended: {(self._folder / 'prometheus.log').read_text()[-500:]}"
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/-/ready", timeout=1).ok
            except requests.ConnectionError:
                return False


def find_prometheus() -> str | None:
    """The server on PATH, if there is one."""
    return shutil.which("prometheus")

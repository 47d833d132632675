"""What do clusters hang on, and how does a test make one hang?

`Webhook` is an admission or conversion webhook that answers late, or never; `Extension` an aggregated API that tells which
kinds it has and then never answers. Both speak TLS on loopback with the plane's own certificate.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.e2e.plane.plane import Plane

NEVER_S = 3600.0


class Webhook:
    """Allows every request `delay_s` seconds after it came."""

    def __init__(self, plane: Plane) -> None:
        self.delay_s, self.asked = 0.0, 0
        self._stopped = threading.Event()
        outer = self

        class Page(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked += 1
                if not outer._stopped.wait(outer.delay_s):
                    answer = {"uid": review["request"]["uid"], "allowed": True}
                    send(self, {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer})

            def log_message(self, *args: object) -> None:
                pass

        self._server = serve_tls(plane, Page)
        trusted = base64.b64encode((plane.folder / "tls.crt").read_bytes()).decode()
        self.client = {"url": f"https://127.0.0.1:{self._server.server_port}/", "caBundle": trusted}

    def stop(self) -> None:
        """Answer nobody any more."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def guarding(self, plane: Plane, namespace: str, group: str, resource: str) -> Iterator[None]:
        """Be asked about every write to a resource in this namespace."""
        rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [resource]}
        webhook = {
            "name": "slow.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "failurePolicy": "Fail",
            "clientConfig": self.client,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [rule],
        }
        document: dict[str, Any] = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        document |= {"metadata": {"name": f"slow-{namespace}"}, "webhooks": [webhook]}
        plane.kubectl("create", "-f", "-", input=json.dumps(document))
        try:
            yield
        finally:
            plane.kubectl("delete", "validatingwebhookconfiguration", f"slow-{namespace}")


class Extension:
    """An API server of its own behind the real one (an APIService). It tells which kinds it has, and nothing else ever."""

    def __init__(self, plane: Plane, group: str, kinds: Sequence[Mapping[str, Any]]) -> None:
        self._plane, self._group = plane, group
        self.asked: list[str] = []
        self._stopped = threading.Event()
        outer = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == f"/apis/{group}/v1":
                    send(self, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/v1", "resources": kinds})
                    return
                if f"/apis/{group}/v1/" not in path:
                    self.send_error(404)
                    return
                outer.asked.append(path)
                outer._stopped.wait()

            def log_message(self, *args: object) -> None:
                pass

        self._server = serve_tls(plane, Page)
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extension", "namespace": "default"}}
        port = self._server.server_port
        service["spec"] = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        spec = {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
        }
        spec["service"] = {"name": "extension", "namespace": "default", "port": port}
        api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{group}"}, "spec": spec}
        plane.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, api]}))
        plane.kubectl("wait", "--for=condition=Available", f"apiservice/v1.{group}", "--timeout=30s")

    def stop(self) -> None:
        """Be gone from the real one."""
        self._plane.kubectl("delete", f"apiservice/v1.{self._group}", "service/extension")
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


def serve_tls(plane: Plane, page: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Serve a page with the plane's own certificate, in daemon threads."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked has given up."""

    server = Quiet(("127.0.0.1", 0), page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.folder / "tls.crt", plane.folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def send(page: BaseHTTPRequestHandler, body: Any) -> None:
    """Answer with JSON."""
    page.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(body).encode())

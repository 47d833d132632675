"""How does a test play the API server that a companion reads from? In the clear, on loopback, a few objects by path."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Body = dict[str, Any]
POLICIES = "/apis/pdautoscaler.io/v1alpha1/namespaces/default/pdautoscalers"
MAPS = "/api/v1/namespaces/kube-system/configmaps"
SECRET = "/api/v1/namespaces/default/secrets/pd-autoscaler-companion"
API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
SLOW_S = 4.0
SUBJECTS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class ApiServer:
    """`lists` by path, `objects` by path. A watch tells what `watched` gives of its path, when it gives it, then nothing until
    it ends; `ending` ends it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.lists: dict[str, list[Body]] = {POLICIES: [], MAPS: []}
        self.objects: dict[str, Body] = {}
        self.version = 1
        self.asked: list[tuple[str, str]] = []
        self.ending = threading.Event()
        self.watched: Callable[[str], Iterable[Body]] = lambda _: ()

    def stores(self, path: str, **body: Any) -> None:
        """An object of this path."""
        self.version += 1
        name = path.rpartition("/")[2]
        self.objects[path] = {"metadata": {"name": name, "resourceVersion": str(self.version)}} | body

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here."""
        file = folder / "kubeconfig"
        here = {"clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}]}
        context = {"contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "current-context": "a"}
        file.write_text(json.dumps(here | context | {"users": [{"name": "a", "user": {}}]}))
        return file

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Body]:
        """What is answered, and what it changes."""
        if path in self.lists:
            return 200, {"metadata": {"resourceVersion": "1"}, "items": self.lists[path]}
        if method == "POST":
            return 201, self.reviewed(path, body["spec"])
        stored = self.objects.get(path)
        if stored is None:
            return 404, {"kind": "Status", "reason": "NotFound", "message": f"{path} not found"}
        if method == "GET":
            return 200, stored
        given = body["metadata"]["resourceVersion"] if method == "PUT" else body[0]["value"]
        if given != stored["metadata"]["resourceVersion"]:
            return 409, {"kind": "Status", "reason": "Conflict", "message": "the object has been modified"}
        changed = body if method == "PUT" else {**stored, "spec": {**stored["spec"], "caBundle": body[1]["value"]}}
        self.stores(path, **{name: part for name, part in changed.items() if name != "metadata"})
        self.objects[path]["metadata"] |= {"labels": stored["metadata"].get("labels", {})}
        return 200, self.objects[path]

    def reviewed(self, path: str, spec: Body) -> Body:
        """alice has the token `open-sesame`, and may read metrics in namespace default. Of `slow` it takes SLOW_S to say no."""
        if path == TOKENS:
            time.sleep(SLOW_S if spec["token"] == "slow" else 0.0)
            known = spec["token"] == "open-sesame"
            return {"status": {"authenticated": known, "user": {"username": "alice", "groups": ["people"]} if known else {}}}
        wanted = spec["resourceAttributes"]
        return {"status": {"allowed": (spec["user"], wanted["verb"], wanted["namespace"]) == ("alice", "list", "default")}}


@contextmanager
def running() -> Iterator[ApiServer]:
    """An API server that listens."""

    class Page(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            api.asked.append((self.command, url.path))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if parse_qs(url.query).get("watch"):
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                for event in api.watched(url.path):
                    self.wfile.write(json.dumps(event).encode() + b"\n")
                api.ending.wait(30)
                self.close_connection = True
                return
            status, answer = api.answer(self.command, url.path, body)
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_PATCH = do_POST = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as listener:
        api = ApiServer(listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.ending.set()
            listener.shutdown()
            thread.join()

"""Is every way in which an API server can fail a value, within the time-out, over a real connection?"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.adapters.kubernetes import api as module
from autoscaler.adapters.kubernetes import connect
from autoscaler.adapters.kubernetes.api import ApiFault, Body, KubeApi, KubeStream
from autoscaler.refusal import Refusal

Answer = Callable[[BaseHTTPRequestHandler], object]


def answer(status: int, body: str | bytes = b"") -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode()
    return lambda handler: handler.wfile.write(head + raw)


class Server:
    """Answers every request alike, and keeps what was asked."""

    def __init__(self) -> None:
        self.answer: Answer = answer(200, "{}")
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                outer.answer(self)
                self.close_connection = True

            do_PATCH = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def kubeconfig(url: str, **changes: Any) -> dict[str, Any]:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "s3cret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    return document | changes


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Write a kubeconfig, and let KUBECONFIG name it."""

    def write(content: Any) -> Path:
        file = tmp_path / "kubeconfig"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(file))
        return file

    return write


@pytest.fixture
def api(server: Server, written: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    monkeypatch.setattr(module, "READ_S", 0.3)
    written(kubeconfig(server.url))
    return connect()


def test_a_request_bears_the_token_our_name_and_its_query(server: Server, api: KubeApi) -> None:
    server.answer = answer(200, '{"items": []}')
    assert api.get("/api/v1/pods", labelSelector="a=b,c", limit="5") == {"items": []}
    ((method, path, headers, _),) = server.asked
    assert (method, path) == ("GET", "/api/v1/pods?labelSelector=a%3Db%2Cc&limit=5")
    assert (headers["authorization"], headers["User-Agent"]) == ("Bearer s3cret", "pd-autoscaler")


def test_a_patch_is_sent_as_a_json_patch_in_our_name(server: Server, api: KubeApi) -> None:
    operations = [{"op": "test", "path": "/a", "value": 1}]
    assert api.patch("/x", operations) == {}
    ((method, path, headers, body),) = server.asked
    assert (method, path) == ("PATCH", "/x?fieldManager=pd-autoscaler")
    assert headers["Content-Type"] == "application/json-patch+json"
    assert json.loads(body) == operations


STATUS = {"reason": "Invalid", "message": "spec.replicas: too many", "details": {"causes": [{"field": "spec.replicas"}]}}


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (422, json.dumps(STATUS), ApiFault(422, "Invalid", "spec.replicas: too many", 1)),
        (422, '{"reason": "Invalid", "message": "no", "details": {}}', ApiFault(422, "Invalid", "no")),
        (404, "404 page not found\n", ApiFault(404, "HTTP 404", "404 page not found")),
        (502, "<html>\n<h1>Bad Gateway</h1></html>", ApiFault(502, "HTTP 502", "<html> <h1>Bad Gateway</h1></html>")),
        (403, "", ApiFault(403, "HTTP 403", "")),
        (500, "[]", ApiFault(500, "HTTP 500", "[]")),
        (500, b"\xff\xfe", ApiFault(500, "HTTP 500", "\ufffd\ufffd")),
        (200, "[]", ApiFault(0, "Malformed", "/x answered no object")),
    ],
)
def test_an_error_answer_is_a_fault_whatever_its_body(
    server: Server, api: KubeApi, status: int, body: str | bytes, fault: ApiFault
) -> None:
    server.answer = answer(status, body)
    assert api.get("/x") == fault


def test_an_answer_that_is_no_json_is_a_fault(server: Server, api: KubeApi) -> None:
    server.answer = answer(200, "<html>welcome</html>")
    fault = api.get("/x")
    assert isinstance(fault, ApiFault)
    assert (fault.unanswered, fault.reason) == (True, "JSONDecodeError")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["get", "patch"])
def test_a_silent_server_is_a_fault_after_one_time_out(server: Server, api: KubeApi, method: str) -> None:
    server.answer = lambda _: time.sleep(2)
    begun = time.monotonic()
    fault = api.get("/x") if method == "get" else api.patch("/x", [])
    assert isinstance(fault, ApiFault)
    assert (fault.unanswered, fault.reason) == (True, "ReadTimeoutError")
    assert time.monotonic() - begun < 1.5  # 0.3 s, once; the client's own retries would make it four times and more
    assert len(server.asked) == 1


def test_a_refused_connection_is_a_fault(written: Callable[[Any], Path]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        written(kubeconfig(f"http://127.0.0.1:{free.getsockname()[1]}"))
        fault = connect().get("/x")
    assert isinstance(fault, ApiFault)
    assert (fault.unanswered, fault.reason) == (True, "NewConnectionError")


def chunks(*parts: bytes, end: bool = True) -> Answer:
    """A chunked answer in these pieces; without an end the connection breaks off."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return lambda handler: handler.wfile.write(head + body + (b"0\r\n\r\n" if end else b""))


def watched(api: KubeApi, timeout_s: int = 30) -> list[Body | ApiFault]:
    stream = api.watch("/x", timeout_s, resourceVersion="7")
    assert isinstance(stream, KubeStream)
    return list(stream)


def test_a_watch_gives_whole_events_however_they_are_cut(server: Server, api: KubeApi) -> None:
    server.answer = chunks(b'{"type": "ADD', b'ED"}\n{"type": "DELETED"}\n\n{"type"', b': "BOOKMARK"}\n')
    assert watched(api) == [{"type": "ADDED"}, {"type": "DELETED"}, {"type": "BOOKMARK"}]
    assert server.asked[0][1] == "/x?resourceVersion=7&watch=true&allowWatchBookmarks=true&timeoutSeconds=30"


BROKEN = {"cut off": chunks(b'{"type": "ADDED"}\n', end=False), "no json": chunks(b'{"type": "ADDED"}\nno json\n')}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_watch_that_breaks_ends_with_a_fault(server: Server, api: KubeApi, broken: Answer) -> None:
    server.answer = broken
    event, fault = watched(api)
    assert event == {"type": "ADDED"}
    assert isinstance(fault, ApiFault)
    assert fault.unanswered


@pytest.mark.slow
def test_a_watch_that_falls_silent_ends_with_a_fault(server: Server, api: KubeApi) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        chunks(end=False)(handler)
        time.sleep(2)

    server.answer = silent
    (fault,) = watched(api, timeout_s=0)
    assert isinstance(fault, ApiFault)
    assert fault.reason == "ReadTimeoutError"


def test_a_watch_that_is_refused_is_a_fault(server: Server, api: KubeApi) -> None:
    server.answer = answer(410, '{"reason": "Expired", "message": "too old"}')
    assert api.watch("/x", 30) == ApiFault(410, "Expired", "too old")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "file is empty"),
        ("a: [", "while parsing a flow node"),
        ("hello", "is not a kubeconfig"),
        (kubeconfig("http://127.0.0.1:1", clusters=5), "is not a kubeconfig"),
        (kubeconfig("http://127.0.0.1:1", **{"current-context": "gone"}), "Expected object with name gone"),
        (kubeconfig("ftp://127.0.0.1"), "server 'ftp://127.0.0.1' must be http(s)://HOST[:PORT]"),
        (
            kubeconfig("", clusters=[{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "/no/such"}}]),
            "File does not exist: /no/such",
        ),
    ],
)
def test_an_unusable_kubeconfig_is_refused_in_one_line_that_names_it(
    written: Callable[[Any], Path], content: Any, told: str
) -> None:
    file = written(content)
    with pytest.raises(Refusal) as refusal:
        connect()
    assert str(refusal.value).startswith(f"--cluster kubernetes: KUBECONFIG {file}: ")
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_context_can_be_named_and_an_unknown_one_is_refused(server: Server, written: Callable[[Any], Path]) -> None:
    contexts = [{"name": "there", "context": {"cluster": "c", "user": "u"}}]
    written(kubeconfig(server.url, contexts=contexts, **{"current-context": "gone"}))
    assert connect("there").get("/x") == {}
    with pytest.raises(Refusal, match="Expected object with name moon"):
        connect("moon")


def test_without_any_kubeconfig_outside_a_cluster_it_is_told_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Refusal, match=r"no KUBECONFIG is set, there is no ~/\.kube/config, and this is not inside a cluster"):
        connect()

"""The live page over a real server on loopback: what it serves, whom it refuses, how its streams resume and end."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from autoscaler.apps.feed import Feed
from autoscaler.apps.live import create_app
from autoscaler.apps.loopback import LoopbackServer, serve
from autoscaler.apps.server import PortInUse
from autoscaler.refusal import Refusal
from tests.apps.ticks import FLEET, report, status

pytestmark = pytest.mark.slow  # a server each

PATIENCE_S = 10.0


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture(scope="module")
def bare() -> Iterator[LoopbackServer]:
    """One server for every test that needs no tick: each start and stop costs 0.2 s of waiting."""
    server = serve(create_app(Feed(), "test <page>"))
    yield server
    server.stop()


@pytest.fixture
def server(feed: Feed) -> Iterator[LoopbackServer]:
    server = serve(create_app(feed, "test"), closing=feed.let_go)
    yield server
    server.stop()


def get(server: LoopbackServer, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


class Stream:
    """A browser's EventSource, as far as a test needs one."""

    def __init__(self, server: LoopbackServer, path: str = "/events", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["content-type"].startswith("text/event-stream")
        self.hello = self.event()

    def event(self) -> dict[str, str]:
        """The next event's fields by name; a comment's name is empty. No field at all: the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ") if not line.startswith(":") else ("", "", line)
            fields[name] = value
        return fields

    def frame(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.event()["data"])
        return content


@contextmanager
def streaming(server: LoopbackServer, path: str = "/events", **headers: str) -> Iterator[Stream]:
    stream = Stream(server, path, **headers)
    try:
        yield stream
    finally:
        stream.answer.close()
        stream.connection.close()


def test_the_page_is_served_with_its_title_as_text(bare: LoopbackServer) -> None:
    code, headers, body = get(bare, "/")
    assert code == 200
    assert "<title>test &lt;page&gt;</title>" in body
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert get(bare, "/healthz")[2] == "ok\n"


@pytest.mark.parametrize("path", ["/", "/static/live.js", "/api/state", "/healthz", "/nothing"])
def test_every_answer_carries_the_security_headers_and_lets_no_other_origin_read(bare: LoopbackServer, path: str) -> None:
    headers = get(bare, path, Origin="http://evil.example")[1]
    assert "'unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["access-control-allow-origin"] is None


def test_metrics_are_served_as_they_are_given_with_the_headers_of_every_answer() -> None:
    server = serve(create_app(Feed(), "test", metrics=lambda: (b"up 1\n", "text/plain; version=0.0.4; charset=utf-8")))
    try:
        code, headers, body = get(server, "/metrics")
    finally:
        server.stop()
    assert (code, body) == (200, "up 1\n")
    assert headers.get_all("content-type") == ["text/plain; version=0.0.4; charset=utf-8"]
    assert headers["x-content-type-options"] == "nosniff"


def test_without_metrics_there_is_no_such_page(bare: LoopbackServer) -> None:
    assert get(bare, "/metrics")[0] == 404


def test_state_history_and_explain_tell_the_same_tick(feed: Feed, server: LoopbackServer) -> None:
    report(feed, 3)
    newest = json.loads(get(server, "/api/state")[2])[FLEET]
    history = json.loads(get(server, f"/api/history?fleet={FLEET}")[2])
    assert [frame["status"]["now"] for frame in history] == [0.0, 15.0, 30.0]
    assert history[-1] == newest
    assert json.loads(get(server, f"/api/explain?fleet={FLEET}")[2]) == newest["status"]


def test_the_fleet_may_be_left_out_while_there_is_only_one(feed: Feed, server: LoopbackServer) -> None:
    feed.report(status(key="a/1"))
    assert json.loads(get(server, "/api/explain")[2])["fleet"] == "a/1"
    feed.report(status(key="a/2"))
    code, _, body = get(server, "/api/explain")
    assert (code, json.loads(body)["detail"]) == (404, "no fleet named; known: a/1, a/2")


@pytest.mark.parametrize("path", ["/api/explain", "/api/history"])
def test_an_unknown_fleet_is_answered_by_one_line_that_names_the_known_ones(
    feed: Feed, server: LoopbackServer, path: str
) -> None:
    assert json.loads(get(server, f"{path}?fleet=x/y")[2])["detail"] == "no fleet 'x/y' here; known: none yet, no tick is over"
    feed.report(status(key="b/2"))
    feed.report(status(key="a/1"))
    code, _, body = get(server, f"{path}?fleet=x/y")
    assert (code, json.loads(body)["detail"]) == (404, "no fleet 'x/y' here; known: a/1, b/2")


def test_a_frame_arrives_as_soon_as_it_is_reported(feed: Feed, server: LoopbackServer) -> None:
    with streaming(server) as stream:
        assert stream.hello == {"retry": "1000"}
        for now in (0.0, 15.0):
            feed.report(status(now))
            assert stream.frame()["status"]["now"] == now


def test_a_stream_of_one_fleet_carries_no_other(feed: Feed, server: LoopbackServer) -> None:
    with streaming(server, "/events?fleet=a/2") as stream:
        feed.report(status(1.0, key="a/1"))
        feed.report(status(2.0, key="a/2"))
        assert stream.frame()["status"]["now"] == 2.0


def test_a_stream_resumes_after_the_last_event_seen(feed: Feed, server: LoopbackServer) -> None:
    with streaming(server) as stream:
        feed.report(status(0.0))
        seen = stream.event()["id"]
    for now in (15.0, 30.0):
        feed.report(status(now))
    with streaming(server, **{"Last-Event-ID": seen}) as stream:
        assert [stream.frame()["status"]["now"] for _ in range(2)] == [15.0, 30.0]
        feed.report(status(45.0))
        assert stream.frame()["status"]["now"] == 45.0


def test_a_first_stream_continues_where_the_fetched_history_ends(feed: Feed, server: LoopbackServer) -> None:
    feed.report(status(0.0))
    after = json.loads(get(server, "/api/history")[2])[-1]["id"]
    feed.report(status(15.0))
    with streaming(server, f"/events?fleet={FLEET}&after={after}") as stream:
        assert stream.frame()["status"]["now"] == 15.0


def test_the_browsers_own_place_is_newer_than_the_one_in_the_address(feed: Feed, server: LoopbackServer) -> None:
    report(feed, 3)
    first, second, _ = (frame.id for frame in feed.history(FLEET))
    with streaming(server, f"/events?after={first}", **{"Last-Event-ID": second}) as stream:
        assert stream.frame()["status"]["now"] == 30.0


def test_a_place_in_another_run_is_answered_by_a_reset(feed: Feed, server: LoopbackServer) -> None:
    feed.report(status(0.0))
    with streaming(server, **{"Last-Event-ID": "0badcafe-7"}) as stream:
        assert stream.event()["event"] == "reset"
        feed.report(status(15.0))
        assert stream.frame()["status"]["now"] == 15.0


def test_a_silent_stream_beats_its_heart(feed: Feed) -> None:
    server = serve(create_app(feed, "test", heartbeat_s=0.02))
    with streaming(server) as stream:
        assert [stream.event(), stream.event()] == [{"": ": still here"}] * 2
        feed.report(status(5.0))
        event: dict[str, str] = {}
        while "data" not in event:  # a heartbeat or two may still be under way
            event = stream.event()
        assert json.loads(event["data"])["status"]["now"] == 5.0
    server.stop()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", ""])
def test_a_host_that_is_not_this_machine_is_refused(bare: LoopbackServer, host: str) -> None:
    """DNS rebinding: a page of another site resolves its own name to 127.0.0.1, but cannot change the Host header."""
    for path in ("/", "/api/state", "/events", "/static/live.js"):
        assert get(bare, path, Host=host)[0] == 400


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:8080"])
def test_every_name_of_this_machine_is_let_in(bare: LoopbackServer, host: str) -> None:
    assert get(bare, "/healthz", Host=host)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.2"])
def test_only_loopback_is_served(feed: Feed, host: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of localhost, 127\.0\.0\.1, ::1$"):
        serve(create_app(feed, "test"), host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_named_with_its_range(feed: Feed, port: int) -> None:
    with pytest.raises(ValueError, match=f"^port {port}: must be 0 .* to 65535$"):
        serve(create_app(feed, "test"), port=port)


def test_a_port_in_use_is_said_before_anything_runs(feed: Feed, bare: LoopbackServer) -> None:
    with pytest.raises(PortInUse) as refused:
        serve(create_app(feed, "test"), port=bare.port)
    assert refused.value.port == bare.port
    assert isinstance(refused.value, Refusal)
    assert str(refused.value) == f"port {bare.port} on 127.0.0.1 is in use; choose another one, or 0 for any that is free"


def test_port_0_takes_a_free_one_and_the_url_tells_which(feed: Feed, bare: LoopbackServer) -> None:
    other = serve(create_app(feed, "test"), "localhost", 0)
    assert other.port not in (0, bare.port)
    assert other.url == f"http://127.0.0.1:{other.port}/"
    assert get(other, "/healthz")[0] == 200
    other.stop()


def stops_within(server: LoopbackServer, limit_s: float) -> bool:
    stopping = Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(limit_s)
    return not stopping.is_alive()


def test_stop_ends_open_streams_and_frees_the_port(feed: Feed) -> None:
    server = serve(create_app(feed, "test"), closing=feed.let_go)
    with streaming(server) as first, streaming(server) as second:
        assert stops_within(server, 2)
        assert (first.event(), second.event()) == ({}, {})
    again = serve(create_app(feed, "test"), port=server.port)
    assert get(again, "/healthz")[0] == 200
    again.stop()
    again.stop()


def test_a_client_that_never_reads_delays_neither_others_nor_the_stop(feed: Feed) -> None:
    """Its buffers are full: the kernel keeps at most 4 MB to send and, told so, next to nothing received."""
    server = serve(create_app(feed, "test"), closing=feed.let_go)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(16).startswith(b"HTTP/1.1 200")
        feed.annotate(score={f"figure {i}": float(i) for i in range(8_000)})
        report(feed, 50)
        assert get(server, "/healthz")[0] == 200
        assert stops_within(server, 2)

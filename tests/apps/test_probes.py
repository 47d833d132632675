"""Does the kubelet learn that the loop hangs, and does this door show nothing but three pages?"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from autoscaler.adapters.own_metrics import OwnMetrics
from autoscaler.apps.probes import Pulse, create_app, serve_probes
from autoscaler.apps.server import PortInUse, Server, listen
from autoscaler.apps.states import States
from autoscaler.refusal import Refusal
from tests.apps.test_states import CONTENT
from tests.sidecar.states import STATE_PATH

METRICS = b"pd_autoscaler_fleets 0.0\n", "text/plain; version=0.0.4; charset=utf-8"


class Hands:
    """A monotonic clock that is set by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Hands:
    return Hands()


def ask(pulse: Pulse, path: str) -> tuple[int, str]:
    answer = TestClient(create_app(pulse, lambda: METRICS)).get(path)
    return answer.status_code, answer.text


def nothing() -> None:
    """A tick over no fleet."""


@pytest.mark.parametrize(("interval_s", "patience_s"), [(1.0, 30.0), (10.0, 30.0), (15.0, 45.0), (60.0, 180.0)])
def test_a_loop_that_stops_ticking_is_dead_after_three_intervals_but_never_before_30_s(
    clock: Hands, interval_s: float, patience_s: float
) -> None:
    pulse = Pulse(interval_s, clock)
    tick = pulse.felt(nothing)
    clock.now_s += 20.0
    tick()
    clock.now_s += patience_s - 0.1
    assert ask(pulse, "/healthz") == (200, "ok\n")
    clock.now_s += 0.1
    expected = f"no tick began for {patience_s:.0f} s; {patience_s:.0f} s are the most that is waited for\n"
    assert ask(pulse, "/healthz") == (503, expected)
    tick()
    assert ask(pulse, "/healthz") == (200, "ok\n")


def test_a_process_has_as_long_for_its_first_tick_as_for_any_other(clock: Hands) -> None:
    pulse = Pulse(15.0, clock)
    assert ask(pulse, "/healthz")[0] == 200
    clock.now_s += 45.0
    assert ask(pulse, "/healthz")[0] == 503


def test_a_tick_that_hangs_is_dead_when_its_time_is_over_and_alive_before(clock: Hands) -> None:
    pulse = Pulse(10.0, clock)
    seen: list[int] = []

    def hanging() -> None:
        for _ in range(4):
            clock.now_s += 9.0
            seen.append(ask(pulse, "/healthz")[0])

    pulse.felt(hanging)()
    assert seen == [200, 200, 200, 503]


def test_it_is_ready_when_the_first_tick_has_ended_and_stays_so(clock: Hands) -> None:
    pulse = Pulse(15.0, clock)
    during: list[int] = []
    assert ask(pulse, "/readyz") == (503, "the first tick has not ended yet\n")
    tick = pulse.felt(lambda: during.append(ask(pulse, "/readyz")[0]))
    tick()
    assert ask(pulse, "/readyz") == (200, "ok\n")
    clock.now_s += 1000.0
    tick()
    assert during == [503, 200]


def test_a_first_tick_that_fails_makes_nothing_ready(clock: Hands) -> None:
    pulse = Pulse(15.0, clock)

    def failing() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        pulse.felt(failing)()
    assert ask(pulse, "/readyz")[0] == 503


def test_a_felt_tick_gives_what_the_tick_gives(clock: Hands) -> None:
    assert Pulse(15.0, clock).felt(lambda: ("status",))() == ("status",)


def test_metrics_are_served_byte_for_byte_with_their_content_type(clock: Hands) -> None:
    metrics = OwnMetrics(15.0)
    answer = TestClient(create_app(Pulse(15.0, clock), metrics.page)).get("/metrics")
    assert answer.headers["content-type"] == metrics.page()[1]
    assert b"pd_autoscaler_fleets 0.0" in answer.content


def test_nothing_but_three_pages_is_served_and_nothing_can_be_written(clock: Hands) -> None:
    client = TestClient(create_app(Pulse(15.0, clock), lambda: METRICS))
    for path in (
        "/",
        "/api/state",
        "/api/history",
        "/api/explain",
        "/events",
        "/static/live.js",
        "/docs",
        "/openapi.json",
        STATE_PATH,
    ):
        assert client.get(path).status_code == 404, path
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.post(path).status_code == 405


@pytest.mark.slow
@pytest.mark.parametrize(("shown", "status"), [("open-sesame", 200), ("guessed", 401), (None, 401)])
def test_sidecars_that_show_the_secret_hear_of_fleets_here_too(clock: Hands, shown: str | None, status: int) -> None:
    states = States(b"open-sesame")
    states.publish(CONTENT)
    server = serve_probes("127.0.0.1:0", Pulse(15.0, clock), lambda: METRICS, states)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", STATE_PATH, headers={"authorization": f"Bearer {shown}"} if shown else {})
        assert connection.getresponse().status == status
        connection.close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    "listen",
    ["", "8081", ":8081", "0.0.0.0", "0.0.0.0:", "0.0.0.0:x", "0.0.0.0:65536", "0.0.0.0:-1", ":::8081", "[0.0.0.0]:80", "pod:80"],
)
def test_an_address_that_is_none_is_refused_in_one_line(clock: Hands, listen: str) -> None:
    with pytest.raises(Refusal) as refused:
        serve_probes(listen, Pulse(15.0, clock), lambda: METRICS)
    assert str(refused.value).startswith(f"--listen {listen!r}: must be an IP address and a port (allowed: IPV4:PORT")


@pytest.fixture
def server(clock: Hands) -> Iterator[Server]:
    """On an address that apps/loopback.py refuses, and that nobody outside reaches either."""
    server = serve_probes("127.0.0.2:0", Pulse(15.0, clock), lambda: METRICS)
    yield server
    server.stop()


@pytest.mark.slow
def test_it_is_served_where_it_is_told_to_whatever_name_it_is_called_by(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.2", server.port, timeout=10)
    connection.request("GET", "/metrics", headers={"Host": "pd-autoscaler.example:8081"})
    assert connection.getresponse().read() == METRICS[0]
    connection.close()
    with pytest.raises(PortInUse):
        serve_probes(f"127.0.0.2:{server.port}", Pulse(15.0, Hands()), lambda: METRICS)


def test_an_answer_in_two_parts_is_not_held_back_until_the_first_is_acknowledged() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""Does a stub engine end, fail and lie as it is told, and is every request accounted for?"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, RemoteDisconnected

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.prometheus_server import wait_until
from tests.engines.conftest import Ask
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.loopback import ABSENT, DROPS, GARBAGE, HANGS, Answer, Fault, Loopback, Request, told
from tests.engines.metrics_page import scraped, total
from tests.engines.vllm import Vllm

RUNNING = "vllm:num_requests_running"
BODY = {"prompt": [1], "max_tokens": 1}

Begin = Callable[[StubEngine], threading.Thread]


@pytest.fixture
def engine(fleet: StubFleet) -> StubEngine:
    return fleet.start("d-0", Launch(Role.DECODE, slots=1), Vllm)


@pytest.fixture
def begin(ask: Ask) -> Begin:
    """Sends one request that runs until it is released, and does not wait for it."""

    def send(engine: StubEngine) -> None:
        try:
            ask(engine.port, "POST", "/v1/completions", BODY)
        except OSError:
            return  # the engine went; the ledger says what became of the request

    def began(engine: StubEngine) -> threading.Thread:
        engine.takes_s, before = math.inf, engine.open
        sender = threading.Thread(target=send, args=(engine,), daemon=True)
        sender.start()
        wait_until(lambda: engine.open == before + 1, "the request is taken")
        return sender

    return began


def test_a_request_beyond_the_slots_waits(engine: StubEngine, begin: Begin, fleet: StubFleet) -> None:
    first, second = begin(engine), begin(engine)
    assert (total(engine, RUNNING), total(engine, "vllm:num_requests_waiting")) == (1, 1)
    engine.release()
    first.join()
    wait_until(lambda: total(engine, RUNNING) == 1, "the second one has the slot")
    engine.release()
    second.join()
    assert fleet.ledger.counts() == {End.FINISHED: 2, None: 0, End.LOST_BY_ACT: 0, End.LOST_BY_FAULT: 0, End.EXPIRED: 0}


@pytest.mark.parametrize("by", [End.LOST_BY_ACT, End.LOST_BY_FAULT])
def test_a_killed_engine_refuses_connections_and_what_ran_is_lost_through_whoever_did_it(
    engine: StubEngine, begin: Begin, fleet: StubFleet, ask: Ask, by: End
) -> None:
    sender = begin(engine)
    engine.kill(by)
    sender.join()
    assert len(fleet.ledger.ended(by)) == fleet.ledger.counts()[by] == 1
    with pytest.raises(ConnectionRefusedError):
        ask(engine.port, "GET", "/health")


def test_an_engine_that_waits_at_sigterm_takes_nothing_new_and_finishes_what_runs(
    fleet: StubFleet, begin: Begin, ask: Ask
) -> None:
    engine = fleet.start("d-0", Launch(Role.DECODE, patience_s=60.0), Vllm)
    sender = begin(engine)
    gone = engine.terminate(grace_s=60.0)
    assert (ask(engine.port, "GET", "/health")[0], ask(engine.port, "POST", "/v1/completions", BODY)[0]) == (503, 503)
    engine.release()
    assert gone.wait(10)
    sender.join()
    assert (fleet.ledger.counts()[End.FINISHED], fleet.ledger.counts()[End.LOST_BY_ACT]) == (1, 0)


def test_what_outlasts_the_grace_period_is_lost(fleet: StubFleet, begin: Begin) -> None:
    engine = fleet.start("d-0", Launch(Role.DECODE, patience_s=60.0), Vllm)
    begin(engine)
    assert engine.terminate(grace_s=0.0).wait(10)
    assert fleet.ledger.counts()[End.LOST_BY_ACT] == 1


def test_vllm_aborts_what_runs_at_sigterm_unless_told_to_wait(engine: StubEngine, begin: Begin, fleet: StubFleet) -> None:
    begin(engine)
    assert engine.terminate(grace_s=60.0).wait(10)
    assert fleet.ledger.counts()[End.LOST_BY_ACT] == 1


def test_a_restarted_engine_has_its_launch_role_and_lost_what_ran(engine: StubEngine, begin: Begin, fleet: StubFleet) -> None:
    begin(engine)
    engine.role = Role.PREFILL
    engine.restart()
    assert (engine.role, fleet.ledger.counts()[End.LOST_BY_FAULT]) == (Role.DECODE, 1)


def test_a_request_that_an_engine_loses_is_counted_as_the_tests_fault(engine: StubEngine, fleet: StubFleet, ask: Ask) -> None:
    engine.loses = True
    with pytest.raises(RemoteDisconnected):
        ask(engine.port, "POST", "/v1/completions", BODY)
    assert fleet.ledger.counts()[End.LOST_BY_FAULT] == 1


def test_metrics_can_be_missing_or_lie(engine: StubEngine, begin: Begin) -> None:
    begin(engine)
    engine.hidden.add("vllm:kv_cache_usage_perc")
    engine.lies[RUNNING] = 0
    assert "vllm:kv_cache_usage_perc" not in scraped(engine)
    assert total(engine, RUNNING) == 0


def test_gauges_can_be_stale_after_the_engine_fell_idle(engine: StubEngine, ask: Ask) -> None:
    engine.stale_s = 60.0
    ask(engine.port, "POST", "/v1/completions", BODY)
    assert (total(engine, RUNNING), engine.open) == (1, 0)
    engine.stale_s = 0.0
    assert total(engine, RUNNING) == 0


def test_each_fault_of_an_answer_is_what_it_says(engine: StubEngine, ask: Ask) -> None:
    engine.http.faults = {"/metrics": ABSENT, "/health": GARBAGE, "/v1/models": DROPS, "/x": Fault(answer=told({}, 429))}
    assert ask(engine.port, "GET", "/metrics")[0] == 404
    assert "\x00" in ask(engine.port, "GET", "/health")[1]
    with pytest.raises(RemoteDisconnected):
        ask(engine.port, "GET", "/v1/models")
    assert ask(engine.port, "GET", "/x")[0] == 429


def test_whatever_hangs_ends_with_the_server() -> None:
    server, ends = Loopback(lambda request: told({})), list[BaseException | None]()
    server.faults["*"] = HANGS
    caller = threading.Thread(target=lambda: ends.append(_error(server.port)), daemon=True)
    caller.start()
    wait_until(lambda: server.asked["GET /"] == 1, "it is asked")
    began_s = time.monotonic()
    server.close()
    caller.join()
    assert isinstance(ends[0], RemoteDisconnected)
    assert time.monotonic() - began_s < HANGS.before_s / 10


def test_what_is_done_at_once_can_be_told_late(ask: Ask) -> None:
    done: list[Request] = []

    def answer(request: Request) -> Answer:
        done.append(request)
        return told({})

    server = Loopback(answer)
    server.faults["/x"] = Fault(after_s=180.0)
    caller = threading.Thread(target=_error, args=(server.port, "/x"), daemon=True)
    caller.start()
    wait_until(lambda: len(done) == 1, "it is done")
    assert caller.is_alive()
    server.close()
    caller.join()


def test_a_mistake_of_a_stub_fails_its_test(ask: Ask) -> None:
    def answer(request: Request) -> Answer:
        raise KeyError(request.path)

    server = Loopback(answer)
    with pytest.raises(RemoteDisconnected):
        ask(server.port, "GET", "/x")
    with pytest.raises(KeyError):
        server.close()


def test_a_body_that_is_no_json_is_refused(engine: StubEngine, ask: Ask) -> None:
    assert ask(engine.port, "POST", "/v1/completions", "[")[0] == 400


def _error(port: int, path: str = "/") -> BaseException | None:
    """What a caller gets in place of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        connection.getresponse()
    except OSError as error:
        return error
    else:
        return None
    finally:
        connection.close()

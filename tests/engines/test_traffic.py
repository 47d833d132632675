"""Is every user's request accounted for, through whichever router, and does leaving the routing really stop new ones?"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.prometheus_server import wait_until
from tests.engines.conftest import Ask
from tests.engines.contract import Contract, Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.routing import LabelRouter
from tests.engines.sglang import Sglang
from tests.engines.smg import Selected, SmgStub
from tests.engines.traffic import Fate, Traffic
from tests.engines.vllm import Vllm

FOUR = {"p-0": Role.PREFILL, "p-1": Role.PREFILL, "d-0": Role.DECODE, "d-1": Role.DECODE}


@pytest.fixture(params=[Sglang, Vllm])
def labels(fleet: StubFleet, request: pytest.FixtureRequest) -> dict[str, str | None]:
    """Two engines per role, and the labels that the test may change."""
    contract: type[Contract] = request.param
    for name, role in FOUR.items():
        fleet.start(name, Launch(role), contract)
    return {name: str(role) for name, role in FOUR.items()}


@pytest.fixture
def router(fleet: StubFleet, labels: dict[str, str | None]) -> LabelRouter:
    return LabelRouter(lambda: labels, fleet.engines.get)


@pytest.fixture
def smg(fleet: StubFleet) -> Iterator[SmgStub]:
    by_url = {engine.url: engine for engine in (fleet.start(name, Launch(role), Sglang) for name, role in FOUR.items())}
    gateway = SmgStub(by_url.get, settle_s=0.0)
    yield gateway
    gateway.close()


def names(engines: list[StubEngine]) -> list[str]:
    return [engine.name for engine in engines]


def selected(fleet: StubFleet, **roles: Role) -> list[Selected]:
    return [Selected(f"uid-{name}", fleet.engines[name].url, role) for name, role in roles.items()]


def test_every_request_is_served_and_every_leg_finished(router: LabelRouter, fleet: StubFleet) -> None:
    with Traffic(router, fleet.ledger, rps=200.0) as traffic:
        wait_until(lambda: traffic.sent >= 10, "ten requests are sent")
    assert set(traffic.fates.values()) == {Fate.SERVED}
    assert len(traffic.fates) == traffic.sent
    assert fleet.ledger.counts()[End.FINISHED] == len(fleet.ledger.legs()) == 2 * traffic.sent


def test_a_pod_whose_label_is_draining_gets_nothing_new(
    router: LabelRouter, fleet: StubFleet, labels: dict[str, str | None]
) -> None:
    labels |= {"p-0": "draining", "d-0": "draining"}
    traffic = Traffic(router, fleet.ledger)
    assert {traffic.send() for _ in range(5)} == {Fate.SERVED}
    assert {leg.engine for leg in fleet.ledger.legs()} == {"p-1", "d-1"}


def test_a_pod_without_its_label_still_decodes(router: LabelRouter, labels: dict[str, str | None]) -> None:
    labels["p-0"] = None
    assert names(router.routable(Role.DECODE)) == ["p-0", "d-0", "d-1"]


def test_a_router_that_lags_sends_to_where_it_last_saw_the_role(router: LabelRouter, labels: dict[str, str | None]) -> None:
    router.lag_s = 60.0
    router.routable(Role.PREFILL)
    labels["p-0"] = "draining"
    assert names(router.routable(Role.PREFILL)) == ["p-0", "p-1"]
    router.lag_s = 0.0
    assert names(router.routable(Role.PREFILL)) == ["p-1"]


def test_a_request_is_lost_when_the_decode_engine_chosen_for_it_is_killed_though_it_looked_idle(fleet: StubFleet) -> None:
    prefill, decode = fleet.start("p-0", Launch(Role.PREFILL), Vllm), fleet.start("d-0", Launch(Role.DECODE), Vllm)
    prefill.takes_s = float("inf")
    traffic = Traffic(LabelRouter(lambda: {"p-0": "prefill", "d-0": "decode"}, fleet.engines.get), fleet.ledger)
    user = threading.Thread(target=traffic.send, daemon=True)
    user.start()
    wait_until(lambda: prefill.open == 1, "the prefill runs")
    assert decode.open == 0
    decode.kill()
    prefill.release()
    user.join()
    assert len(traffic.ended(Fate.LOST_BY_ACT)) == 1
    assert "p-0" in traffic.ended(Fate.LOST_BY_ACT)[0]


def test_the_kv_that_a_killed_prefill_engine_held_is_a_users_loss(fleet: StubFleet) -> None:
    prefill, decode = fleet.start("p-0", Launch(Role.PREFILL), Vllm), fleet.start("d-0", Launch(Role.DECODE, slots=0), Vllm)
    traffic = Traffic(LabelRouter(lambda: {"p-0": "prefill", "d-0": "decode"}, fleet.engines.get), fleet.ledger)
    user = threading.Thread(target=traffic.send, daemon=True)
    user.start()
    wait_until(lambda: decode.open == 1, "the decode leg waits for room")
    prefill.kill(End.LOST_BY_FAULT)
    decode.launch = Launch(Role.DECODE)
    with decode.changed:
        decode.changed.notify_all()
    user.join()
    assert list(traffic.fates.values()) == [Fate.LOST_BY_FAULT]
    assert fleet.ledger.counts()[End.LOST_BY_FAULT] == 2


def test_an_engine_that_takes_nothing_costs_no_request_while_there_is_another(router: LabelRouter, fleet: StubFleet) -> None:
    fleet.engines["p-0"].kill(End.LOST_BY_FAULT)
    traffic = Traffic(router, fleet.ledger, seed=2)
    assert {traffic.send() for _ in range(6)} == {Fate.SERVED}
    assert fleet.ledger.ended(End.LOST_BY_ACT) == []


def test_with_nobody_in_routing_a_request_is_unserved_and_none_is_lost(
    router: LabelRouter, fleet: StubFleet, labels: dict[str, str | None]
) -> None:
    labels |= {"p-0": "draining", "p-1": "draining"}
    traffic = Traffic(router, fleet.ledger)
    traffic.patience_s = 0.05
    assert traffic.send() is Fate.UNSERVED
    assert fleet.ledger.legs() == []


def test_the_gateway_ignores_a_live_pod_that_changes_its_selector(smg: SmgStub, fleet: StubFleet) -> None:
    smg.discover(selected(fleet, **FOUR))
    smg.discover(selected(fleet, **{**FOUR, "p-0": Role.DECODE}))
    assert names(smg.routable(Role.PREFILL)) == ["p-0", "p-1"]
    smg.discover(selected(fleet, **{name: role for name, role in FOUR.items() if name != "p-0"}))
    assert names(smg.routable(Role.PREFILL)) == ["p-1"]
    smg.discover(selected(fleet, **{**FOUR, "p-0": Role.DECODE}))
    assert names(smg.routable(Role.DECODE)) == ["d-0", "d-1", "p-0"]


def test_a_deleted_worker_drains_before_it_is_gone(smg: SmgStub, fleet: StubFleet, ask: Ask) -> None:
    smg.discover(selected(fleet, **FOUR))
    listed = ask(smg.http.port, "GET", "/workers")[1]
    assert listed["stats"] == {"prefill_count": 2, "decode_count": 2, "regular_count": 0}
    path = f"/workers/{listed['workers'][0]['id']}"
    assert ask(smg.http.port, "GET", path)[1]["status"] == "ready"
    smg.settle_s = 60.0
    assert ask(smg.http.port, "DELETE", path)[0] == 202
    assert ask(smg.http.port, "GET", path)[1]["status"] == "draining"
    assert names(smg.routable(Role.PREFILL)) == ["p-1"]


def test_a_worker_that_is_gone_is_not_found_and_can_be_added_again(smg: SmgStub, fleet: StubFleet, ask: Ask) -> None:
    spec = {"url": fleet.engines["p-0"].url, "worker_type": "prefill"}
    status, added = ask(smg.http.port, "POST", "/workers", spec)
    assert (status, ask(smg.http.port, "POST", "/workers", spec)[0]) == (202, 409)
    smg.discover([])
    assert names(smg.routable(Role.PREFILL)) == ["p-0"]
    ask(smg.http.port, "DELETE", added["location"])
    assert ask(smg.http.port, "GET", added["location"])[1]["code"] == "WORKER_NOT_FOUND"
    assert ask(smg.http.port, "POST", "/workers", spec | {"worker_type": "decode"})[0] == 202
    assert names(smg.routable(Role.DECODE)) == ["p-0"]


def test_a_gateway_can_know_nothing_of_a_worker_that_it_routes_to(smg: SmgStub, fleet: StubFleet, ask: Ask) -> None:
    smg.discover(selected(fleet, **FOUR))
    smg.forgets.add(fleet.engines["p-0"].url)
    assert ask(smg.http.port, "GET", "/workers")[1]["total"] == 3
    assert names(smg.routable(Role.PREFILL)) == ["p-0", "p-1"]


def test_traffic_goes_through_the_gateway(smg: SmgStub, fleet: StubFleet) -> None:
    smg.discover(selected(fleet, **FOUR))
    assert Traffic(smg, fleet.ledger).send() is Fate.SERVED

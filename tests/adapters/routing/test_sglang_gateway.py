"""Does a replica behind the SGLang model gateway go out, and only then in as another role, whatever the gateway does?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.adapters.routing import Endpoint, GatewayClient, Refused, SglangGatewayRouting
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY
from autoscaler.ports import Fault
from tests.adapters.routing.pods_of_a_cluster import LABEL, VALUES, PodsOfACluster, by_label, pod
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.loopback import ABSENT, GARBAGE, Loopback, told
from tests.engines.loopback import Fault as Trouble
from tests.engines.sglang import Sglang
from tests.engines.smg import Selected, SmgStub


class Scene:
    """A pod with an engine behind a gateway that drains until `settle` is called."""

    def __init__(self, fleet: StubFleet) -> None:
        self.engine = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
        self.url = self.engine.url
        self.gateway = SmgStub(self._engine, settle_s=3600.0)
        self.cluster = PodsOfACluster(pod())

    def by_label(self) -> SglangGatewayRouting:
        return SglangGatewayRouting(GatewayClient(self.gateway.url), self.engine.port, by_label(self.cluster))

    def seen(self) -> Endpoint:
        return self.cluster.seen("prefill-0", ip="127.0.0.1")

    def discover(self) -> None:
        """The gateway reconciles: it adds what its selectors match, drains what they do not."""
        value = self.cluster.labels("prefill-0")[LABEL]
        matched = [Selected(self.seen().uid, self.url, role) for role, wanted in VALUES.items() if wanted == value]
        self.gateway.discover(matched)

    def settle(self) -> None:
        for worker in self.gateway._all:
            worker.gone_s = worker.gone_s and 0.0

    def register(self, **worker: Any) -> None:
        spec = {"url": self.url, "worker_type": "prefill"} | worker
        assert isinstance(GatewayClient(self.gateway.url).ask("POST", "/workers", spec), dict)

    def requests(self, kind: str) -> int:
        return sum(count for asked, count in self.gateway.http.asked.items() if asked.startswith(kind))

    def roles(self) -> list[Role]:
        return [role for role in Role if self.gateway.routable(role)]

    def _engine(self, url: str) -> StubEngine | None:
        return self.engine if url.partition("@")[0] == self.url else None


@pytest.fixture
def scene() -> Iterator[Scene]:
    with StubFleet() as fleet:
        made = Scene(fleet)
        yield made
        made.gateway.close()


def test_where_the_gateway_discovers_the_label_leaves_first(scene: Scene) -> None:
    scene.discover()
    routing = scene.by_label()
    assert routing.routed(scene.seen()) is Role.PREFILL
    assert routing.route(scene.seen(), None) is None
    assert (scene.cluster.labels("prefill-0")[LABEL], scene.requests("DELETE")) == ("draining", 0)
    assert routing.routed(scene.seen()) is Role.PREFILL  # the gateway has not noticed
    scene.discover()
    assert routing.routed(scene.seen()) is AWAY
    assert routing.route(scene.seen(), None) is None
    assert (scene.roles(), scene.requests("DELETE")) == ([], 0)


def test_a_flip_by_label_waits_for_the_old_worker_to_be_gone(scene: Scene) -> None:
    scene.discover()
    routing, steps = scene.by_label(), []
    events: Sequence[Callable[[], None]] = (lambda: None, scene.discover, scene.settle, scene.discover)
    for happens in events:
        happens()
        assert routing.route(scene.seen(), Role.DECODE) is None
        steps.append((scene.cluster.labels("prefill-0")[LABEL], routing.routed(scene.seen())))
    assert steps == [("draining", Role.PREFILL), ("draining", AWAY), ("decode", None), ("decode", Role.DECODE)]
    assert scene.requests("POST") == scene.requests("DELETE") == 0


def test_a_gateway_that_does_not_notice_labels_is_told_to_drop_the_worker(scene: Scene) -> None:
    scene.discover()
    routing = scene.by_label()
    for _ in range(3):
        assert routing.route(scene.seen(), None) is None
    assert routing.routed(scene.seen()) is AWAY
    assert (scene.roles(), scene.requests("DELETE")) == ([], 1)


def test_a_pod_whose_label_still_names_a_role_is_not_out_because_its_worker_is(scene: Scene) -> None:
    assert scene.by_label().routed(scene.seen()) is None
    scene.cluster.labels("prefill-0")[LABEL] = "draining"
    assert scene.by_label().routed(scene.seen()) is AWAY


def test_a_label_that_is_refused_leaves_the_worker_in_place(scene: Scene) -> None:
    scene.discover()
    scene.cluster.labels("prefill-0")[LABEL] = "encode"
    assert isinstance(scene.by_label().route(scene.seen(), None), Refused)
    assert (scene.roles(), scene.requests("DELETE")) == ([Role.PREFILL], 0)


def test_all_ranks_of_a_replica_go_and_other_replicas_stay(scene: Scene) -> None:
    other = scene.url.rpartition(":")[0] + ":1"
    for url in (f"{scene.url}@0", f"{scene.url}@1", other):
        scene.register(url=url)
    routing, here = scene.by_label(), scene.seen()
    assert routing.routed(here) is Role.PREFILL
    scene.gateway._all[1].gone_s = math.inf
    assert routing.routed(here) is None  # one rank drains, the other does not
    scene.cluster.labels("prefill-0")[LABEL] = "draining"
    assert routing.route(scene.seen(), None) is None
    assert routing.routed(scene.seen()) is AWAY
    assert [worker.url for worker in scene.gateway._all if worker.gone_s is None] == [other]


def test_a_worker_that_gets_no_requests_is_neither_in_nor_out(scene: Scene) -> None:
    scene.register()
    scene.engine.healthy = False
    assert scene.by_label().routed(scene.seen()) is None


def test_a_worker_under_another_address_is_ours_by_its_uid(scene: Scene) -> None:
    scene.discover()
    elsewhere = replace(scene.seen(), ip="fd00::7")
    assert scene.by_label().routed(elsewhere) is Role.PREFILL


def test_an_older_gateway_without_a_status_is_understood() -> None:
    workers = [{"id": "1", "url": "http://10.0.0.1:8000", "worker_type": "decode", "is_healthy": True}]
    server = Loopback(lambda request: told({"workers": workers}))
    routing, here = (
        SglangGatewayRouting(GatewayClient(server.url), 8000, by_label(PodsOfACluster())),
        Endpoint("p", "s", "u", "10.0.0.1", Role.DECODE),
    )
    assert routing.routed(here) is Role.DECODE
    workers[0]["is_healthy"] = False
    assert routing.routed(here) is None
    workers[0] |= {"is_healthy": True, "worker_type": "regular"}
    assert routing.routed(here) is None
    server.close()


@pytest.mark.parametrize(
    ("trouble", "final", "words"),
    [
        (GARBAGE, False, "answers no list of workers: the answer"),
        (ABSENT, True, "HTTP 404"),
        (Trouble(answer=told({"error": "want a token", "code": "X"}, 401)), True, "HTTP 401 want a token"),
        (Trouble(answer=told({"error": {"message": "busy\x1b[2J\nnow"}}, 429)), False, "HTTP 429 busy [2J now"),
        (Trouble(answer=told({"error": {}}, 503)), False, "HTTP 503"),
        (Trouble(answer=told({"workers": [{"id": 3}]})), False, "no list of workers: workers.0.id"),
        (Trouble(answer=told([])), False, "answers no list of workers"),
        (Trouble(drop=True), False, "not answered: ProtocolError"),
    ],
)
def test_whatever_the_gateway_answers_is_a_value_and_nothing_is_done(
    scene: Scene, trouble: Trouble, final: bool, words: str
) -> None:
    scene.discover()
    scene.gateway.http.faults["/workers"] = trouble
    assert scene.by_label().routed(scene.seen()) is None
    fault = scene.by_label().route(scene.seen(), None)
    assert isinstance(fault, Fault)
    assert isinstance(fault, Refused) is final
    assert words in fault.detail
    assert not scene.cluster.patched


def test_a_gateway_that_fails_to_drop_a_worker_says_so_and_one_that_has_none_is_fine(scene: Scene) -> None:
    scene.register()
    (worker,) = scene.gateway._all
    scene.cluster.labels("prefill-0")[LABEL] = "draining"
    scene.gateway.http.faults[f"/workers/{worker.id}"] = Trouble(answer=told({"error": "queue is full"}, 500))
    fault = scene.by_label().route(scene.seen(), None)
    assert fault == Fault("routing", f"DELETE {scene.gateway.url}/workers/{worker.id}: HTTP 500 queue is full")
    scene.gateway.http.faults[f"/workers/{worker.id}"] = ABSENT
    assert scene.by_label().route(scene.seen(), None) is None

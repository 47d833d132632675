"""Is there an engine behind every ready leader pod, with the pod's label in the router's eyes and the pod's end as its own?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.town import Town
from tests.engines.contract import Launch
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.on_plane import PORT
from tests.engines.routing import LABEL
from tests.engines.traffic import Fate, Traffic
from tests.engines.vllm import Vllm

pytestmark = pytest.mark.plane


@pytest.fixture
def town(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """Groups of two, whose engines let running requests end."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    launch = {role: Launch(role, patience_s=60.0) for role in Role}
    with StubFleet() as fleet, Town(plane, fleet, Vllm, launch.__getitem__) as town:
        town.pools({Role.PREFILL: 1, Role.DECODE: 2}, size=2)
        town.until_routed(Role.PREFILL, "prefill-0")
        town.until_routed(Role.DECODE, "decode-0", "decode-1")
        yield town


def ip(town: Town, pod: str) -> str:
    return str(json.loads(town.place.kubectl("get", "pod", pod, "-o", "json"))["status"]["podIP"])


def test_leaders_have_engines_at_their_pods_addresses_and_workers_have_none(town: Town) -> None:
    assert sorted(town.fleet.engines) == ["decode-0", "decode-1", "prefill-0"]
    assert {name: engine.role for name, engine in town.fleet.engines.items()}["prefill-0"] is Role.PREFILL
    assert town.fleet.engines["decode-1"].address == (ip(town, "decode-1"), PORT)
    assert town.engines.at(f"http://{ip(town, 'decode-0')}:{PORT}") is town.engines.engine("decode-0")
    assert town.engines.engine("decode-0-1") is None


def test_a_relabelled_pod_leaves_the_routing_and_its_engine_goes_on(town: Town) -> None:
    town.place.kubectl("label", "pod", "decode-1", f"{LABEL}=draining", "--overwrite")
    town.until_routed(Role.DECODE, "decode-0")
    drained = town.fleet.engines["decode-1"]
    with Traffic(town.engines.router, town.fleet.ledger, rps=50.0) as traffic:
        wait_until(lambda: traffic.sent >= 10, "ten requests are sent")
    assert set(traffic.fates.values()) == {Fate.SERVED}
    assert (drained.taken, drained.gone.is_set()) == (0, False)


def test_a_scaled_in_pod_ends_its_engine_after_what_runs_and_a_remade_one_has_a_new_engine(town: Town) -> None:
    last, first = town.fleet.engines["decode-1"], town.fleet.engines["decode-0"]
    last.takes_s = first.takes_s = float("inf")
    with Traffic(town.engines.router, town.fleet.ledger, rps=50.0) as traffic:
        wait_until(lambda: last.open > 0 and first.open > 0, "both decode")
        town.place.kubectl("scale", "leaderworkerset/decode", "--replicas=1")
        town.until_routed(Role.DECODE, "decode-0")
        assert not last.gone.is_set()
        last.takes_s = first.takes_s = 0.0
        last.release()
        assert last.gone.wait(10)
        town.engines.mine("decode-0")
        town.place.kubectl("delete", "pod", "decode-0", "--grace-period=1", "--wait=false")
        assert first.gone.wait(10)
        wait_until(lambda: town.engines.engine("decode-0") not in (None, first), "the remade pod has an engine")
    assert traffic.ended(Fate.LOST_BY_ACT) == town.fleet.ledger.ended(End.LOST_BY_ACT) == []
    assert town.fleet.ledger.ended(End.LOST_BY_FAULT) != []

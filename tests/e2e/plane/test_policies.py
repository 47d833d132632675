"""Does the roster follow the PDAutoscalers of a real API server, the ones it accepts and nobody can work by among them?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import connect
from autoscaler.adapters.kubernetes.policies import PolicyObjects
from autoscaler.core.reason import Reason
from autoscaler.ports import Managed, Unusable
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import Place
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]

CRD = "crd/pdautoscalers.pdautoscaler.io"
PROFILE = {"prefillSeconds": [0.01, 1e-4, 0], "decodeSeconds": [0.02, 1e-5, 1e-7], "kvTokens": 1000}
WATCH_S = 3
COUNT = 500
DEEP = "a mapping in a mapping in a mapping, and so on"
LEVELS = 5000  # json.loads gives up at 1000


# What the API server accepts, and the field that is told.
WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "misspelt": ({"spec.profile": {**PROFILE, "maxSeq": 8}}, "spec.profile.maxSeq: unknown field"),
    "timeless": ({"spec.profile": {**PROFILE, "prefillSeconds": [0, 1e-4, 0]}}, "spec.profile.prefillSeconds[0]: 0 is out of"),
    "flat": ({"spec.profile": {**PROFILE, "decodeSeconds": [0.02, 0, 0]}}, "spec.profile.decodeSeconds: b1 and b2 are both 0"),
    "hasty": ({"spec.slo.ttft.seconds": 0.002}, "spec.slo.ttft.seconds: 0.002 is below 0.0027"),
    "deep": ({"spec.profile": {**PROFILE, "kvTokens": 10, "odd": DEEP}}, "spec.profile.odd: unknown field"),
}


@pytest.fixture
def place(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A namespace of a plane that serves PDAutoscalers."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    plane.install_crd()
    place = Place(plane)
    yield place
    plane.kubectl("delete", "namespace", place.namespace, "--wait=false")


@pytest.fixture
def roster(place: Place) -> Iterator[PolicyObjects]:
    started = PolicyObjects(connect(), [place.namespace], watch_s=WATCH_S)
    yield started
    started.stop()


def own(name: str, changes: Mapping[str, Any] = {}) -> dict[str, Any]:
    """A policy with a model and targets of its own, but for the changes."""
    targets = {f"spec.pools.{role}.target.name": f"{name}-{role}" for role in ("prefill", "decode")}
    return edited({"metadata.name": name, "spec.model": name, **targets, **changes})


def write(place: Place, verb: str, name: str, changes: Mapping[str, Any] = {}) -> None:
    """Create or replace a policy with kubectl."""
    text = json.dumps(own(name, changes))
    place.kubectl(verb, "-f", "-", input=text.replace(json.dumps(DEEP), '{"a":' * LEVELS + "1" + "}" * LEVELS))


def told(roster: PolicyObjects) -> dict[str, str]:
    """Every entry by name: nothing for one that is usable, else reason and words."""
    return {
        one.key.partition("/")[2]: f"{one.finding.reason}: {one.finding.text}" if isinstance(one, Unusable) else ""
        for one in roster.managed()
    }


def states(roster: PolicyObjects) -> dict[str, Mapping[str, Any] | None]:
    """What earlier leaders left, by key."""
    return {one.key: one.state for one in roster.managed() if isinstance(one, Managed)}


def becomes(roster: PolicyObjects, expected: Mapping[str, str]) -> None:
    """The entries are these, each told with words that begin so."""

    def same() -> bool:
        now = told(roster)
        return now.keys() == expected.keys() and all(
            line == now[name] == "" or (line and now[name].startswith(line)) for name, line in expected.items()
        )

    wait_until(same, f"{expected}")


def test_the_roster_follows_what_is_created_edited_and_deleted_with_kubectl(place: Place, roster: PolicyObjects) -> None:
    assert roster.ready(10), roster.trouble()
    assert roster.managed() == ()
    for name, (changes, _) in WRONG.items():
        write(place, "create", name, changes)
    write(place, "create", "good")
    wrong = {name: f"{Reason.INVALID_POLICY}: {line}" for name, (_, line) in WRONG.items()}
    becomes(roster, {"good": "", **wrong})
    another = PolicyObjects(connect(), [place.namespace])  # which lists them, where the first one was told by its watch
    assert another.ready(10), another.trouble()
    assert told(another) == told(roster)
    another.stop()

    for name in WRONG:
        write(place, "replace", name)
    becomes(roster, dict.fromkeys(["good", *WRONG], ""))
    kept = roster.kept(f"{place.namespace}/flat")
    assert kept is not None
    assert (kept.generation, kept.status) == (2, {})

    status = {"reason": "ScaledUp", "state": {"format": 1, "epoch": 3, "memory": {"a": [1, 2]}}}
    patch = json.dumps({"status": status})
    place.kubectl("patch", "pda", "good", "--subresource=status", "--type=merge", "-p", patch)
    key = f"{place.namespace}/good"
    wait_until(lambda: states(roster)[key] == status["state"], "the state is seen")
    kept = roster.kept(key)
    assert kept is not None
    assert (kept.generation, kept.status) == (1, status)

    place.kubectl("delete", "pda", *WRONG)
    becomes(roster, {"good": ""})


def test_of_two_that_clash_the_older_goes_on_until_it_is_deleted(place: Place, roster: PolicyObjects) -> None:
    write(place, "create", "a-first")
    write(place, "create", "b-second", {"spec.pools.decode.target.name": "a-first-decode"})
    where = f"LeaderWorkerSet a-first-decode in namespace {place.namespace} is another policy's target too"
    clash = f"ClashingPolicy: spec.pools.decode.target.name: {where} ({place.namespace}/a-first"
    becomes(roster, {"a-first": "", "b-second": clash})
    place.kubectl("delete", "pda", "a-first")
    becomes(roster, {"b-second": ""})
    write(place, "create", "c-third", {"spec.model": "b-second"})
    becomes(roster, {"b-second": "", "c-third": "ClashingPolicy: spec.model: "})


def test_a_crd_that_is_removed_is_told_and_followed_again_when_it_is_back(place: Place, roster: PolicyObjects) -> None:
    write(place, "create", "good")
    becomes(roster, {"good": ""})
    place.plane.kubectl("delete", CRD)
    becomes(roster, {})
    how = "their CRD is not installed: autoscaler crd | kubectl apply -f -"
    wait_until(lambda: roster.trouble() == f"PDAutoscalers of namespace {place.namespace}: {how}", "told what to do")
    place.plane.install_crd()
    write(place, "create", "anew")
    becomes(roster, {"anew": ""})
    wait_until(lambda: roster.ready(0), "no trouble any more")


def test_an_account_without_rights_is_told_which(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(place.plane.kubeconfig_for(place.namespace, "nobody")))
    roster = PolicyObjects(connect(), [place.namespace])
    assert not roster.ready(10)
    assert 'cannot list resource "pdautoscalers"' in roster.trouble()
    assert roster.trouble().endswith("must allow list and watch of pdautoscalers in pdautoscaler.io")
    roster.stop()


def test_five_hundred_objects_cost_little_to_read_and_nothing_while_nothing_changes(place: Place) -> None:
    """CPU of this process, not time: measured 0.22 s, and 1.5 microseconds a tick."""
    api = connect()
    path = f"/apis/pdautoscaler.io/v1alpha1/namespaces/{place.namespace}/pdautoscalers"
    for number in range(COUNT):
        assert isinstance(api.create(path, own(f"chat-{number}")), dict)
    began = time.process_time()
    roster = PolicyObjects(connect(), [place.namespace])
    assert roster.ready(30), roster.trouble()
    assert sum(isinstance(one, Managed) for one in roster.managed()) == COUNT
    read_s = time.process_time() - began
    first = roster.managed()
    began = time.process_time()
    assert all(roster.managed() is first for _ in range(1000))
    tick_s = (time.process_time() - began) / 1000
    roster.stop()
    assert read_s < 4
    assert tick_s < 0.001

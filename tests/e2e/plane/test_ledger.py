"""Does a real API server fence terms as the ledger needs it, and does kubectl tell what the scribe wrote?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body, KubeApi, Operation, connect
from autoscaler.adapters.kubernetes.ledger import GONE, Ledger
from autoscaler.adapters.kubernetes.policies import Kept, PolicyObjects
from autoscaler.adapters.kubernetes.scribe import Scribe
from autoscaler.core.action import Action, Mode, Outcome, Verdict
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.reason import Reason
from autoscaler.core.status import Status, status_of
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.fakes import FakeLeadership, fleet, policy, pool, signals
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]
ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "manifests" / "crd" / "pdautoscalers.yaml"
GOLDEN = sorted((ROOT / "tests" / "contracts" / "crd" / "status").glob("*.json"))
SEEN = fleet(pool(Role.PREFILL, 3, serving=2, starting=1), pool(Role.DECODE, 2))


class Object:
    """The PDAutoscaler "chat" in a namespace of its own, as its controller and as its owner see it."""

    def __init__(self, plane: Plane, api: KubeApi) -> None:
        self.plane, self.api, self.namespace = plane, api, plane.namespace()
        self.key = f"{self.namespace}/chat"
        self.policies = PolicyObjects(api, [self.namespace])
        self.create()

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return self.plane.kubectl(f"--namespace={self.namespace}", *arguments, input=given)

    def create(self) -> None:
        """Make it, and wait until the controller knows this very one."""
        document = edited({"metadata.namespace": self.namespace, "spec.mode": "Auto"})
        self.kubectl("create", "-f", "-", given=json.dumps(document))
        uid = self.get()["metadata"]["uid"]
        wait_until(lambda: (kept := self.kept(self.key)) is not None and kept.uid == uid, "the roster has the object")

    def kept(self, key: str) -> Kept | None:
        self.policies.managed()
        return self.policies.kept(key)

    def now_kept(self) -> Kept:
        found = self.kept(self.key)
        assert found is not None
        return found

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "pda", "chat", "-o", "json"))
        return found

    def status(self) -> dict[str, Any]:
        stored: dict[str, Any] = self.get().get("status", {})
        return stored

    def ledger(self) -> Ledger:
        return Ledger(self.api, self.kept)

    def ticked(self, said: Signals, *, now: float, verdict: Verdict = Verdict.APPLIED, mode: Mode = Mode.AUTO) -> Status:
        """The status of this fleet after one first tick at which every write ended alike."""
        wanted, observation = policy(mode=mode), Observation(now, replace(SEEN, key=self.key), said)
        decision = decide(observation, Memory(), wanted)
        outcomes = tuple(Outcome(action, verdict, "quota exceeded") for action in decision.plan.to_apply)
        return status_of(observation, decision, outcomes, wanted)


class Between:
    """The API server, with something that happens just ahead of the next patch."""

    def __init__(self, api: KubeApi, happens: Callable[[], object]) -> None:
        self._api, self._happens = api, happens

    def get(self, path: str, **query: str) -> Body | ApiFault:
        return self._api.get(path, **query)

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        self._happens()
        return self._api.patch(path, operations)


@pytest.fixture
def chat(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Object]:
    plane.kubectl("apply", "--server-side", "-f", str(MANIFEST))
    plane.kubectl("wait", "--for=condition=Established", "crd/pdautoscalers.pdautoscaler.io", "--timeout=30s")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    made = Object(plane, connect())
    yield made
    made.policies.stop()
    plane.kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture
def scribe(chat: Object) -> Iterator[Scribe]:
    writer = Scribe(chat.kept, chat.ledger(), chat.api, FakeLeadership([3]), "pod-a")
    writer.start()
    yield writer
    writer.stop()


def to(replicas: int, role: Role = Role.PREFILL) -> Action:
    return Action(role, 1, replicas, Reason.SCALE_UP)


def test_an_older_term_is_refused_as_soon_as_a_later_one_has_claimed(chat: Object) -> None:
    old, new = chat.ledger(), chat.ledger()
    assert old.intend(chat.key, 3, to(4)) is None
    assert old.intend(chat.key, 3, to(2, Role.DECODE)) is None
    assert new.intend(chat.key, 4, to(5)) is None
    for fault in (old.intend(chat.key, 3, to(6)), old.publish(chat.now_kept(), 3, {"mode": "Off"}, None)):
        assert fault is not None
        assert "a later leader (term 4) has taken over" in str(fault)
    assert chat.status() == {"state": {"format": 1, "epoch": 4, "desired": {"prefill": 5, "decode": 2}}}


def test_of_two_claims_at_once_the_server_takes_one(chat: Object) -> None:
    new = chat.ledger()
    old = Ledger(Between(chat.api, lambda: new.intend(chat.key, 4, to(5))), chat.kept)
    fault = old.intend(chat.key, 3, to(6))
    assert isinstance(fault, ApiFault)
    assert (fault.status, fault.causes) == (422, 0)
    assert chat.status()["state"]["desired"] == {"prefill": 5}


def test_writing_the_same_again_is_no_write_to_etcd(chat: Object) -> None:
    book = chat.ledger()
    assert book.intend(chat.key, 3, to(4)) is None
    version = chat.get()["metadata"]["resourceVersion"]
    for _ in range(3):
        assert book.intend(chat.key, 3, to(4)) is None
    assert chat.get()["metadata"]["resourceVersion"] == version


def test_a_status_removed_by_hand_is_claimed_anew(chat: Object) -> None:
    book = chat.ledger()
    assert book.intend(chat.key, 3, to(4)) is None
    chat.kubectl("patch", "pda", "chat", "--subresource=status", "--type=json", "-p", '[{"op": "remove", "path": "/status"}]')
    assert book.intend(chat.key, 3, to(5)) is None
    assert chat.status() == {"state": {"format": 1, "epoch": 3, "desired": {"prefill": 5}}}


def test_an_object_deleted_and_made_anew_is_not_written_for_the_old_one(chat: Object) -> None:
    book, old = chat.ledger(), chat.now_kept()
    assert book.publish(old, 3, {"mode": "Auto"}, None) is None
    chat.kubectl("delete", "pda", "chat")
    gone = book.publish(old, 3, {"mode": "Off"}, None)
    assert gone is not None
    assert gone.status == 404
    chat.create()
    assert book.publish(old, 3, {"mode": "Off"}, None) == GONE
    assert chat.status() == {}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_a_promised_status_is_stored_as_it_is(chat: Object, file: Path) -> None:
    told = json.loads(file.read_text())
    assert chat.ledger().publish(chat.now_kept(), 3, told, {"format": 1, "memory": {}}) is None
    assert chat.status() == {**told, "state": {"format": 1, "epoch": 3, "desired": {}, "memory": {}}}


def test_kubectl_tells_mode_pools_shares_and_reason_and_conditions_keep_their_time(chat: Object, scribe: Scribe) -> None:
    now = time.time()
    scribe.report(chat.ticked(signals(SEEN, 22.0), now=now))
    wait_until(lambda: chat.status().get("reason") == "ScaledUp", "the status is written")
    header, row = chat.kubectl("get", "pda").splitlines()
    assert header.split() == ["NAME", "MODE", "PREFILL", "DECODE", "SLO", "REASON", "AGE"]
    assert row.split()[:4] == ["chat", "Auto", "2/3", "2/2"]
    assert "TTFT 90 %, TPOT 0 %" in row
    assert "ScaledUp" in row
    first = {one["type"]: one["lastTransitionTime"] for one in chat.status()["conditions"]}

    scribe.report(chat.ticked(Signals.unknown(Gap.UNREACHABLE, "connection refused"), now=now + 60))
    wait_until(lambda: chat.status().get("reason") == "SignalsUnreachable", "the change is written")
    second = {one["type"]: one["lastTransitionTime"] for one in chat.status()["conditions"]}
    assert {name for name in first if first[name] != second[name]} == {"ScalingActive"}
    assert chat.status()["state"]["epoch"] == 3
    assert scribe.failures == 0


def test_kubectl_shows_what_happened_once_as_events_of_the_object(chat: Object, scribe: Scribe) -> None:
    """10,000 s on a second's edge: eventTime must have its microseconds all the same."""
    for tick in range(5):
        scribe.report(chat.ticked(signals(SEEN, 22.0), now=float(10_000 + tick), verdict=Verdict.REFUSED))
    scribe.report(chat.ticked(Signals.unknown(Gap.UNREACHABLE, "connection refused"), now=time.time()))

    def shown() -> list[str]:
        return chat.kubectl("events", "--for=pdautoscaler/chat", "--no-headers").splitlines()

    wait_until(lambda: len(shown()) == 3, "all events are there")
    told = sorted(line.split(maxsplit=4)[1:] for line in shown())
    assert [(kind, reason, of) for kind, reason, of, _ in told] == [
        ("Warning", "SignalsUnreachable", "PDAutoscaler/chat"),
        ("Warning", "WriteRefused", "PDAutoscaler/chat"),
        ("Warning", "WriteRefused", "PDAutoscaler/chat"),
    ]
    assert "decode: 2 -> 5 (DemandRose): quota exceeded" in [note for *_, note in told]
    described = chat.kubectl("describe", "pda", "chat")
    assert "ScalingActive is False: prefill: connection refused" in described
    assert scribe.failures == 0


def test_a_frozen_api_server_makes_no_report_wait_and_gets_the_newest_when_it_is_back(chat: Object, scribe: Scribe) -> None:
    scribe.report(chat.ticked(signals(SEEN, 9.0), now=time.time()))
    wait_until(lambda: "reason" in chat.status(), "the first status is written")
    chat.plane.pause_api()
    try:
        for rps in (22.0, 30.0):
            scribe.report(chat.ticked(signals(SEEN, rps), now=time.time()))
        wait_until(lambda: scribe.failures > 0, "a write has been tried")
        began = time.monotonic()
        for _ in range(20):
            scribe.report(chat.ticked(signals(SEEN, 40.0), now=time.time()))
        assert time.monotonic() - began < 1.0
    finally:
        chat.plane.resume_api()
    wait_until(lambda: chat.status()["pools"]["prefill"]["target"] > 6, "the newest is written")
    assert chat.status()["reason"] == "ScaledUp"


def test_an_object_deleted_while_it_is_written_disturbs_nobody(chat: Object, scribe: Scribe) -> None:
    for _ in range(3):
        scribe.report(chat.ticked(signals(SEEN, 22.0), now=time.time()))
        chat.kubectl("delete", "pda", "chat", "--wait=false")
        scribe.report(chat.ticked(signals(SEEN, 2.0), now=time.time()))
        wait_until(lambda: chat.kept(chat.key) is None, "the roster knows that it is gone")
        scribe.forget(chat.key)
        chat.create()
    scribe.report(chat.ticked(signals(SEEN, 22.0), now=time.time()))
    wait_until(lambda: chat.status().get("reason") == "ScaledUp", "the last one is written")


def test_a_controller_that_may_not_write_says_so_and_goes_on(chat: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(chat.plane.kubeconfig_for(chat.namespace, "nobody")))
    fault = Ledger(connect(), chat.kept).intend(chat.key, 3, to(4))
    assert fault is not None
    assert fault.status == 403
    assert chat.status() == {}

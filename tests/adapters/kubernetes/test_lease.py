"""When may a controller act, and when does another take over? Rules 8 and 9 of the design, on a Lease kept in memory."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.lease import Election, Timing
from tests.adapters.prometheus_server import wait_until

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/autoscaler"
LOST = ApiFault(0, "ConnectTimeoutError", "no answer")


class LeaseStore:
    """One Lease with resourceVersions, as an API server keeps it; `down` for whoever is cut off."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def get(self, path: str, **query: str) -> Body | ApiFault:
        return copy.deepcopy(self.lease) if self.lease else ApiFault(404, "NotFound", path)

    def create(self, path: str, body: Body) -> Body | ApiFault:
        return ApiFault(409, "AlreadyExists", path) if self.lease else self._keep(body)

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return ApiFault(409, "Conflict", path)
        return self._keep(body)

    def _keep(self, body: Body) -> Body:
        self.version += 1
        self.lease = copy.deepcopy(body) | {"metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return copy.deepcopy(self.lease)


class Link:
    """One candidate's way to the store; may be cut, before the request or only for its answer."""

    def __init__(self, store: LeaseStore) -> None:
        self.store, self.cut, self.deaf = store, False, False

    def get(self, path: str, **query: str) -> Body | ApiFault:
        return LOST if self.cut else self.store.get(path)

    def create(self, path: str, body: Body) -> Body | ApiFault:
        return self._send(self.store.create, path, body)

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        return self._send(self.store.replace, path, body)

    def _send(self, write: Any, path: str, body: Body) -> Body | ApiFault:
        if self.cut:
            return LOST
        answer: Body | ApiFault = write(path, body)
        return LOST if self.deaf else answer


class World:
    """Candidates around one Lease on one monotonic clock."""

    def __init__(self, candidates: int = 2) -> None:
        self.now, self.store = 1000.0, LeaseStore()
        self.links = [Link(self.store) for _ in range(candidates)]
        self.elections = [
            Election(link, "ops", "autoscaler", f"pod-{number}", monotonic=lambda: self.now)
            for number, link in enumerate(self.links)
        ]

    def terms(self) -> list[int | None]:
        return [election.term() for election in self.elections]

    def step(self, number: int, after_s: float = 0.0) -> None:
        self.now += after_s
        self.elections[number].step()


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_candidate_leads_and_the_second_stands_by(world: World) -> None:
    world.step(0)
    world.step(1)
    assert world.terms() == [0, None]


def test_a_leader_that_renews_keeps_its_term(world: World) -> None:
    for _ in range(20):
        world.step(0, after_s=2)
        world.step(1)
    assert world.terms() == [0, None]


def test_a_leader_cut_off_stops_acting_at_its_deadline_before_anybody_may_take_over(world: World) -> None:
    world.step(0)
    world.step(1)
    world.links[0].cut = True
    world.step(0, after_s=6.9)
    assert world.terms() == [0, None]
    world.step(0, after_s=0.1)
    world.step(1)
    assert world.terms() == [None, None]
    world.step(1, after_s=8.9)
    assert world.terms() == [None, None]
    world.step(1, after_s=0.1)
    assert world.terms() == [None, 1]


def test_a_leader_that_comes_back_before_anybody_took_over_goes_on_in_its_term(world: World) -> None:
    world.step(0)
    world.links[0].cut = True
    world.step(0, after_s=12)
    assert world.terms()[0] is None
    world.links[0].cut = False
    world.step(0)
    assert world.terms()[0] == 0


def test_a_paused_leader_may_not_act_when_it_wakes_and_finds_its_successor(world: World) -> None:
    world.step(0)
    world.step(1)
    world.step(1, after_s=60)
    assert world.terms() == [None, 1], "the clock went on while it slept"
    world.step(0)
    assert world.terms() == [None, 1]


def test_a_stopped_leader_hands_over_at_once() -> None:
    world = World()
    world.elections[0].start()
    world.elections[0].stop()
    world.step(1)
    assert world.terms() == [None, 1]


def test_a_leader_with_a_write_under_way_does_not_hand_over() -> None:
    """Its successor waits for the Lease to run out, as after a crash: the write cannot land later than that."""
    world = World()
    world.elections[0].start()
    world.elections[0].stop(hand_over=False)
    world.step(1)
    world.step(1, after_s=15.9)
    assert world.terms() == [None, None]
    world.step(1, after_s=0.1)
    assert world.terms() == [None, 1]


def test_a_renewal_whose_answer_was_lost_does_not_prolong_the_deadline(world: World) -> None:
    world.step(0)
    world.links[0].deaf = True
    world.step(0, after_s=5)
    assert world.terms()[0] == 0
    world.now += 2
    assert world.terms()[0] is None


def test_who_writes_second_does_not_lead(world: World) -> None:
    """Both find the Lease run out; the first to write takes it, the other's write names a version that is no more."""
    world = World(3)
    for number in range(3):
        world.step(number)
    world.now += 30
    both_saw = world.store.get("")
    world.step(1)
    world.links[2].get = lambda path, **query: both_saw  # type: ignore[method-assign]
    world.step(2)
    assert world.terms() == [None, 1, None]


def test_what_keeps_a_candidate_from_the_lease_is_told_once_and_so_is_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    link = world.links[0]
    link.cut = True
    for _ in range(3):
        world.step(0, after_s=2.0)
    assert [record.message for record in caplog.records] == [f"{LEASE}: {LOST}; nothing is scaled without this Lease"]
    link.cut = False
    world.step(0)
    world.step(1)
    world.step(1, after_s=2.0)
    assert [record.message for record in caplog.records][1:] == [f"{LEASE}: answers again", "leading in term 0 as pod-0"]


def test_a_lease_that_may_not_be_made_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.links[0].create = lambda path, body: ApiFault(403, "Forbidden", "cannot create leases")  # type: ignore[method-assign]
    world.step(0)
    assert "Forbidden: cannot create leases; nothing is scaled" in caplog.text


def test_a_candidate_goes_on_trying_after_an_answer_that_is_no_lease(caplog: pytest.LogCaptureFixture) -> None:
    store = LeaseStore()
    store.lease = {"kind": "Status"}
    election = Election(store, "ops", "autoscaler", "pod-0", Timing(retry_s=0.01))
    election.start()
    wait_until(lambda: "leases/autoscaler failed" in caplog.text, "it is told")
    store.lease = None
    wait_until(lambda: election.term() == 0, "and tried again")
    election.stop(hand_over=False)


def test_a_timing_that_could_let_two_act_is_refused() -> None:
    with pytest.raises(ValueError, match=r"renew_deadline_s 10 \+ 8 s is not < 15"):
        Timing(duration_s=15, renew_deadline_s=10)


moves = st.tuples(st.integers(0, 2), st.sampled_from(["step", "cut", "mend", "deafen"]), st.floats(0, 25))


@given(st.lists(moves, max_size=60))
def test_two_never_lead_at_once(schedule: list[tuple[int, str, float]]) -> None:
    """Three candidates, any order of tries, cuts and lost answers, any pauses between them."""
    world = World(3)
    for number, move, after_s in schedule:
        world.now += after_s
        assert sum(term is not None for term in world.terms()) <= 1
        link = world.links[number]
        link.cut, link.deaf = move == "cut" or (link.cut and move == "step"), move == "deafen"
        world.step(number)
        assert sum(term is not None for term in world.terms()) <= 1


@given(st.lists(moves, max_size=60))
def test_terms_only_grow(schedule: list[tuple[int, str, float]]) -> None:
    world = World(3)
    seen: list[int] = []
    for number, _, after_s in schedule:
        world.step(number, after_s)
        seen += [term for term in world.terms() if term is not None]
    assert seen == sorted(seen)

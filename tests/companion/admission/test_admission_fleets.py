"""Is the index always that of the newest snapshot, and made no more often than it must be?"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from autoscaler.companion.admission.fleets import Fleets, Register
from autoscaler.core.fleet import Role
from tests.companion.admission.cluster import Object, cluster, policy


class Watched:
    """A snapshot that a test replaces."""

    def __init__(self, *objects: Object) -> None:
        self.objects: tuple[Object, ...] = objects

    def __call__(self) -> tuple[Object, ...]:
        return self.objects


def owners(fleets: Fleets, name: str) -> list[tuple[str, Role]]:
    """Whose this LeaderWorkerSet is."""
    found = fleets.owned("llm", "leaderworkerset.x-k8s.io", "leaderworkersets", name)
    return [(one.fleet.name, one.role) for one in found]


def told_again(body: Object) -> Object:
    """The same object with a newer status, as a watch gives it."""
    newer = copy.deepcopy(body)
    newer["status"]["lastTick"] = "2026-01-05T09:00:00Z"
    return newer


def test_a_status_that_changes_is_seen_and_makes_no_new_index() -> None:
    watched = Watched(*cluster())
    register = Register(watched)
    before = register.fleets()
    watched.objects = tuple(told_again(one) for one in watched.objects)
    after = register.fleets()
    assert after.by_resource is before.by_resource
    assert after.bodies["llm/chat"] is watched.objects[0]


@pytest.mark.parametrize("change", ["spec", "annotation", "made anew", "no uid"])
def test_another_spec_or_annotation_makes_a_new_index(change: str) -> None:
    first = policy("chat")
    second = policy("chat", annotations={"pdautoscaler.io/guard": "off"} if change == "annotation" else None)
    second["spec"]["pools"]["decode"]["target"]["name"] = "moved" if change != "annotation" else "chat-decode"
    second["metadata"] |= {"spec": {"generation": 2}, "made anew": {"uid": "another"}}.get(change, {})
    if change == "no uid":
        for one in (first, second):
            del one["metadata"]["uid"]
    watched = Watched(first)
    register = Register(watched)
    register.fleets()
    watched.objects = (second,)
    fleets = register.fleets()
    assert owners(fleets, "moved") == ([] if change == "annotation" else [("chat", Role.DECODE)])
    assert fleets.by_key["llm/chat"].annotations == second["metadata"].get("annotations", {})


def test_what_is_gone_owns_nothing() -> None:
    watched = Watched(policy("chat"), policy("draft"))
    register = Register(watched)
    assert owners(register.fleets(), "chat-decode") == [("chat", Role.DECODE)]
    watched.objects = (watched.objects[1],)
    fleets = register.fleets()
    assert owners(fleets, "chat-decode") == []
    assert set(fleets.bodies) == set(fleets.by_key) == {"llm/draft"}


def test_a_target_that_cannot_be_read_is_nobodys_and_its_neighbour_still_is() -> None:
    broken: Any = policy("chat")
    broken["spec"]["pools"]["prefill"]["target"] = {"name": "Not A Name"}
    fleets = Register(lambda: (broken,)).fleets()
    assert owners(fleets, "chat-decode") == [("chat", Role.DECODE)]
    assert list(fleets.by_key["llm/chat"].targets) == [Role.DECODE]

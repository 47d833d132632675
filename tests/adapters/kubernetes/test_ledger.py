"""Does the API server refuse the writes of an older term, and is nothing lost that is not ours? On objects in memory."""

from __future__ import annotations

import copy
import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation
from autoscaler.adapters.kubernetes.ledger import GONE, Ledger
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.core.action import Action
from autoscaler.core.fleet import Role
from autoscaler.core.reason import Reason
from autoscaler.policy.crd.status import STATE_BYTES

KEY = "models/chat"
PATH = "/apis/pdautoscaler.io/v1alpha1/namespaces/models/pdautoscalers/chat"
RECORD = {"format": 1, "memory": {"pools": {"decode": {"desired": 4}}}}
STORY = {"mode": "Auto", "reason": "ScaledUp"}
FAILED_TEST = ApiFault(422, "Invalid", "the server rejected our request due to an error in our request")
LOST = ApiFault(0, "ReadTimeoutError", "no answer")


class Store:
    """One PDAutoscaler, as an API server keeps it: a JSON patch is carried out whole or not at all, and only a change makes
    a new version. `before` runs once ahead of the next patch; `deaf` loses the answer of a patch that was carried out.
    """

    def __init__(self, status: Body | None = None) -> None:
        self.object: dict[str, Any] = {"metadata": {"name": "chat", "uid": "u1", "resourceVersion": "1"}}
        if status is not None:
            self.object["status"] = status
        self.gets = self.patches = 0
        self.before: Callable[[], object] | None = None
        self.deaf = self.down = False

    @property
    def state(self) -> Any:
        return self.object["status"]["state"]

    def get(self, path: str, **query: str) -> Body | ApiFault:
        assert path == PATH
        self.gets += 1
        return LOST if self.down else copy.deepcopy(self.object)

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        assert path == f"{PATH}/status"
        self.patches += 1
        if self.down:
            return LOST
        before, self.before = self.before, None
        if before is not None:
            before()
        changed = json.loads(json.dumps(self.object))
        for operation in operations:
            *parents, last = operation["path"].removeprefix("/").split("/")
            place = changed
            for parent in parents:
                place = place.get(parent) if isinstance(place, dict) else None
            if place is None or (operation["op"] == "test" and place.get(last) != operation["value"]):
                return FAILED_TEST
            if operation["op"] == "add":
                place[last] = copy.deepcopy(operation["value"])
        if changed != self.object:
            self.object = changed
            self.touch()
        return LOST if self.deaf else copy.deepcopy(self.object)

    def touch(self) -> None:
        """Somebody wrote something."""
        self.object["metadata"]["resourceVersion"] = str(int(self.object["metadata"]["resourceVersion"]) + 1)


def kept(key: str = KEY, uid: str = "u1") -> Kept:
    namespace, _, name = key.partition("/")
    return Kept(uid, 1, namespace, name, {})


def ledger(store: Store) -> Ledger:
    return Ledger(store, kept)


def to(replicas: int, role: Role = Role.PREFILL) -> Action:
    return Action(role, 1, replicas, Reason.SCALE_UP)


def test_the_first_write_of_a_term_claims_the_object_and_later_ones_need_no_look() -> None:
    store = Store()
    book = ledger(store)
    assert book.intend(KEY, 3, to(4)) is None
    assert book.intend(KEY, 3, to(2, Role.DECODE)) is None
    assert book.publish(kept(), 3, STORY, RECORD) is None
    assert store.object["status"] == {**STORY, "state": {**RECORD, "epoch": 3, "desired": {"prefill": 4, "decode": 2}}}
    assert (store.gets, store.patches) == (1, 3)


def test_a_leader_of_an_older_term_is_refused_from_the_moment_the_later_one_claims() -> None:
    store = Store()
    old, new = ledger(store), ledger(store)
    assert old.intend(KEY, 3, to(4)) is None
    assert new.intend(KEY, 4, to(5)) is None
    for fault in (old.intend(KEY, 3, to(6)), old.publish(kept(), 3, STORY, RECORD), ledger(store).intend(KEY, 3, to(6))):
        assert fault is not None
        assert fault.status == 409
        assert "a later leader (term 4) has taken over" in str(fault)
    assert store.state == {"format": 1, "epoch": 4, "desired": {"prefill": 5}}


def test_of_two_that_claim_at_once_one_is_refused() -> None:
    """The older one looked before the later one claimed, and writes after it."""
    store = Store()
    old, new = ledger(store), ledger(store)
    store.before = lambda: new.intend(KEY, 4, to(5))
    fault = old.intend(KEY, 3, to(6))
    assert fault == FAILED_TEST
    assert store.state["desired"] == {"prefill": 5}


def test_a_claim_takes_over_what_the_last_leader_intended_and_recorded() -> None:
    store = Store({"reason": "Hold", "state": {**RECORD, "epoch": 7, "desired": {"decode": 2}, "later": "kept"}})
    assert ledger(store).intend(KEY, 8, to(4)) is None
    expected = {**RECORD, "epoch": 8, "desired": {"decode": 2, "prefill": 4}, "later": "kept"}
    assert store.object["status"] == {"reason": "Hold", "state": expected}


def test_a_status_without_a_record_leaves_the_stored_one_alone() -> None:
    store = Store({"state": {**RECORD, "epoch": 2, "desired": {"decode": 2}}})
    book = ledger(store)
    for _ in range(2):
        assert book.publish(kept(), 2, STORY, None) is None
        assert store.object["status"] == {**STORY, "state": {**RECORD, "epoch": 2, "desired": {"decode": 2}}}


def test_a_state_of_a_newer_format_is_told_about_and_never_touched_and_nothing_scales_under_it() -> None:
    newer = {"format": 2, "epoch": 1, "ledger": ["unknown"]}
    store = Store({"state": newer})
    book = ledger(store)
    for _ in range(2):
        assert book.publish(kept(), 5, STORY, RECORD) is None
        assert store.object["status"] == {**STORY, "state": newer}
    fault = book.intend(KEY, 5, to(4))
    assert fault is not None
    assert str(fault).startswith("NewerState: status.state has format 2, this release knows up to 1")


def test_a_newer_format_is_not_touched_by_a_leader_that_has_claimed_before_it_was_written() -> None:
    store = Store()
    book = ledger(store)
    assert book.intend(KEY, 3, to(4)) is None
    store.state["format"] = 99
    fault = book.intend(KEY, 3, to(5))
    assert fault is not None
    assert "kubectl patch pda chat -n models --subresource=status" in str(fault)
    assert book.publish(kept(), 3, STORY, RECORD) is None
    assert (store.state["format"], store.state["desired"]) == (99, {"prefill": 4})


def test_an_object_made_anew_is_not_taken_for_the_old_one() -> None:
    store = Store()
    book = ledger(store)
    assert book.intend(KEY, 3, to(4)) is None
    store.object = {"metadata": {"name": "chat", "uid": "u2", "resourceVersion": "9"}}
    assert book.intend(KEY, 3, to(5)) == GONE
    assert book.publish(kept(uid="u2"), 3, STORY, None) is None
    assert store.state == {"format": 1, "epoch": 3, "desired": {}}


def test_a_fleet_that_is_not_kept_has_nowhere_to_write_to() -> None:
    store = Store()
    assert Ledger(store, lambda key: None).intend(KEY, 3, to(4)) == GONE
    assert store.patches == 0


def test_a_status_that_somebody_removed_by_hand_is_claimed_anew() -> None:
    store = Store()
    book = ledger(store)
    assert book.intend(KEY, 3, to(4)) is None
    del store.object["status"]
    assert book.intend(KEY, 3, to(5)) is None
    assert store.state == {"format": 1, "epoch": 3, "desired": {"prefill": 5}}


@pytest.mark.parametrize("garbage", [{"epoch": "x", "desired": []}, {"epoch": None}, {"epoch": 2, "desired": "many"}])
def test_a_state_edited_into_garbage_is_claimed_and_put_right(garbage: Body) -> None:
    store = Store({"state": {"format": 1, **garbage}})
    assert ledger(store).intend(KEY, 3, to(4)) is None
    assert store.state == {"format": 1, "epoch": 3, "desired": {"prefill": 4}}


def test_a_write_whose_answer_was_lost_is_a_fault_and_the_next_one_looks_first() -> None:
    store = Store()
    book = ledger(store)
    assert book.intend(KEY, 3, to(4)) is None
    store.deaf = True
    assert book.intend(KEY, 3, to(5)) == LOST
    store.deaf = False
    assert book.publish(kept(), 3, STORY, None) is None
    assert store.state["desired"] == {"prefill": 5}
    assert store.gets == 2


def test_a_server_that_is_down_is_asked_once_and_not_again() -> None:
    store = Store()
    store.down = True
    assert ledger(store).intend(KEY, 3, to(4)) == LOST
    assert (store.gets, store.patches) == (1, 0)


def test_an_intent_waits_for_a_story_that_is_being_written_and_neither_is_lost() -> None:
    store = Store()
    book = ledger(store)
    assert book.publish(kept(), 3, STORY, None) is None
    meanwhile = threading.Thread(target=book.intend, args=(KEY, 3, to(4)))

    def between() -> None:
        meanwhile.start()
        meanwhile.join(0.05)  # as long as it needs where nothing holds it back

    store.before = between
    assert book.publish(kept(), 3, STORY, RECORD) is None
    meanwhile.join()
    assert store.state == {**RECORD, "epoch": 3, "desired": {"prefill": 4}}


def test_writing_the_same_again_changes_nothing() -> None:
    store = Store()
    book = ledger(store)
    for _ in range(3):
        assert book.intend(KEY, 3, to(4)) is None
    assert store.object["metadata"]["resourceVersion"] == "2"


def test_a_record_too_large_is_left_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    book = ledger(store)
    assert book.publish(kept(), 3, STORY, RECORD) is None
    room = STATE_BYTES - len(json.dumps({**store.state, "memory": ""}, separators=(",", ":")))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert book.publish(kept(), 3, {"mode": "Off"}, {"format": 1, "memory": "x" * (room + 1)}) is None
    assert store.object["status"] == {"mode": "Off", "state": {**RECORD, "epoch": 3, "desired": {}}}
    assert [record.getMessage() for record in caplog.records] == [
        f"{KEY} status.state would have {STATE_BYTES + 1} bytes, at most {STATE_BYTES} are kept: left as it was"
    ]
    assert book.publish(kept(), 3, STORY, {"format": 1, "memory": "x" * room}) is None
    assert store.state["memory"] == "x" * room


UNDER_WAY = [{"key": "drain-1", "step": "leave"}]


def test_what_is_under_way_is_stored_and_read_by_the_next_leader() -> None:
    store = Store({"reason": "Hold", "state": {**RECORD, "epoch": 2}})
    book = ledger(store)
    assert book.transactions(KEY, 3) == ()
    assert book.transact(KEY, 3, UNDER_WAY) is None
    assert store.object["status"] == {
        "reason": "Hold",
        "state": {**RECORD, "epoch": 3, "desired": {}, "transactions": UNDER_WAY},
    }
    assert book.transactions(KEY, 3) == ledger(store).transactions(KEY, 4) == UNDER_WAY
    assert (store.gets, store.patches) == (2, 1)


def test_nothing_under_way_leaves_no_trace() -> None:
    store = Store()
    book = ledger(store)
    book.transact(KEY, 3, UNDER_WAY)
    assert book.transact(KEY, 3, []) is None
    assert store.state == {"format": 1, "epoch": 3, "desired": {}}


def test_an_intent_and_a_story_keep_what_is_under_way() -> None:
    store = Store()
    book = ledger(store)
    book.transact(KEY, 3, UNDER_WAY)
    assert book.intend(KEY, 3, to(4)) is None
    assert book.publish(kept(), 3, STORY, {**RECORD, "transactions": ["of an older look"]}) is None
    assert store.state == {**RECORD, "epoch": 3, "desired": {"prefill": 4}, "transactions": UNDER_WAY}


def test_a_leader_whose_term_is_over_stores_nothing_more() -> None:
    store = Store()
    old, new = ledger(store), ledger(store)
    old.transact(KEY, 3, UNDER_WAY)
    assert new.transactions(KEY, 4) == UNDER_WAY
    assert new.transact(KEY, 4, []) is None
    for fault in (old.transact(KEY, 3, UNDER_WAY), ledger(store).transactions(KEY, 3)):
        assert isinstance(fault, ApiFault)
        assert fault.reason == "LaterTerm"
    assert "transactions" not in store.state


def test_what_a_newer_release_has_under_way_is_not_written_over() -> None:
    newer = {"format": 2, "epoch": 1, "transactions": [{"kind": "unknown"}]}
    store = Store({"state": newer})
    fault = ledger(store).transact(KEY, 5, UNDER_WAY)
    assert fault is not None
    assert (fault.reason, store.state) == ("NewerState", newer)


@pytest.mark.parametrize("garbage", ["all", {"key": 1}, 7])
def test_what_is_no_list_is_handed_on_as_something_that_nobody_can_read(garbage: object) -> None:
    assert ledger(Store({"state": {"transactions": garbage}})).transactions(KEY, 3) == [garbage]


def test_a_fleet_that_is_not_kept_has_nothing_under_way() -> None:
    nowhere = Ledger(Store(), lambda key: None)
    assert nowhere.transactions(KEY, 3) == nowhere.transact(KEY, 3, UNDER_WAY) == GONE


def test_a_server_that_is_down_says_nothing_about_what_is_under_way() -> None:
    store = Store()
    store.down = True
    assert ledger(store).transactions(KEY, 3) == ledger(store).transact(KEY, 3, UNDER_WAY) == LOST

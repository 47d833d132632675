"""Does the roster follow the PDAutoscalers of a cluster, and does each that is wrong stay its own trouble?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes import policies as module
from autoscaler.adapters.kubernetes import snapshot
from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.policies import LONGEST, Kept, PolicyObjects, Reader, one_line
from autoscaler.core.action import Mode
from autoscaler.core.reason import Reason
from autoscaler.policy import Document
from autoscaler.policy.profiles import metric_profiles
from autoscaler.ports import Managed, Unusable
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from tests.adapters.kubernetes.fake_api import END, NOT_FOUND, FakeApi, listed
from tests.adapters.prometheus_server import wait_until
from tests.policy_documents import edited

PATH = "/apis/pdautoscaler.io/v1alpha1/namespaces/chats/pdautoscalers"
OTHER_PATH = PATH.replace("chats", "batch")
FORBIDDEN = ApiFault(403, "Forbidden", 'User "u" cannot list resource "pdautoscalers" in API group "pdautoscaler.io"')
PROFILE = {"prefillSeconds": [0.01, 1e-4, 0], "decodeSeconds": [0.02, 1e-5, 1e-7], "kvTokens": 1000}
ENGINES = ", ".join(metric_profiles("engine"))
WRONG_SPECS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "a misspelt field of an inline profile": (
        {"spec.profile": {**PROFILE, "maxSeq": 8}},
        'spec.profile.maxSeq: unknown field; did you mean "maxSeqs"?',
    ),
    "a prefill that takes no time": (
        {"spec.profile": {**PROFILE, "prefillSeconds": [0, 1e-4, 0]}},
        "spec.profile.prefillSeconds[0]: 0 is out of range (allowed: 1e-06..60)",
    ),
    "a step that takes no longer for more": (
        {"spec.profile": {**PROFILE, "decodeSeconds": [0.02, 0, 0]}},
        (
            "spec.profile.decodeSeconds: b1 and b2 are both 0: a decode step must take longer the more it carries "
            "(allowed: one of them above 0)"
        ),
    ),
    "an SLO below what the profile can do": (
        {"spec.slo.ttft.seconds": 0.002},
        (
            "spec.slo.ttft.seconds: 0.002 is below 0.0027, the least that a prefill takes on llama-3-8b-h100-tp1 "
            "(allowed: 0.0027..3600)"
        ),
    ),
    "an engine of a later release": (
        {"spec.engine": "vlm"},
        f'spec.engine: "vlm" is not an engine with a metric profile; did you mean "vllm"? (allowed: {ENGINES})',
    ),
    "a misspelt signal": (
        {"spec.metrics.queries": {"pods.wating": "x"}},
        'spec.metrics.queries."pods.wating": "pods.wating" is not a signal; did you mean "pods.waiting"?',
    ),
    "several at once": (
        {"spec.engine": "vlm", "spec.pools.decode.max": 0},
        (
            f'spec.engine: "vlm" is not an engine with a metric profile; did you mean "vllm"? (allowed: {ENGINES}); '
            "spec.pools.decode.max: 0 is out of range (allowed: 1..1000)"
        ),
    ),
}

Objects = Callable[..., PolicyObjects]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SHORTEST_S", 0.0)
    monkeypatch.setattr(snapshot, "BACKOFF_S", 0.01)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def follow(api: FakeApi) -> Iterator[Objects]:
    started: list[PolicyObjects] = []

    def start(*namespaces: str, **options: Any) -> PolicyObjects:
        started.append(PolicyObjects(api, namespaces or ("chats",), **options))
        started[-1].ready(10)
        return started[-1]

    yield start
    for one in started:
        one.stop()


def stored(name: str, changes: Mapping[str, Any] = {}, *, born: int = 0, generation: int = 1, **status: Any) -> Body:
    """An object as the API server has it, with a model and targets of its own; `born`: in which second."""
    own = {"spec.model": name, "spec.pools.prefill.target.name": f"{name}-p", "spec.pools.decode.target.name": f"{name}-d"}
    body = edited({**own, **changes})
    body["metadata"] = {
        "name": name,
        "namespace": "chats",
        "uid": f"uid-of-{name}",
        "generation": generation,
        "creationTimestamp": f"2026-01-01T00:00:{born:02}Z",
        "managedFields": [{"manager": "kubectl"}],
    }
    return {**body, **({"status": status} if status else {})}


def told(roster: PolicyObjects) -> dict[str, str]:
    """Every entry by name: nothing for one that is usable, else reason and words."""
    entries = {one.key.partition("/")[2]: one for one in roster.managed()}
    assert len(entries) == len(roster.managed()), "one entry per key"
    return {
        name: f"{one.finding.reason}: {one.finding.text}" if isinstance(one, Unusable) else "" for name, one in entries.items()
    }


def reasons(roster: PolicyObjects) -> dict[str, str]:
    return {name: line.partition(":")[0] for name, line in told(roster).items()}


def becomes(roster: PolicyObjects, expected: dict[str, str]) -> None:
    wait_until(lambda: reasons(roster) == expected, f"{expected}")


def test_an_object_is_the_fleet_that_its_file_would_be_with_uid_and_state(api: FakeApi, follow: Objects) -> None:
    state = {"format": 1, "epoch": 4}
    api.lists(PATH, stored("chat", {"spec.behaviour.tickSeconds": 5}, state=state))
    (fleet,) = follow().managed()
    body = stored("chat", {"spec.behaviour.tickSeconds": 5})
    document = Document.model_validate({**body, "metadata": {"name": "chat", "namespace": "chats"}})
    assert fleet == managed(document, uid="uid-of-chat", state=state)
    assert isinstance(fleet, Managed)
    assert (fleet.key, fleet.tick_s, fleet.model) == ("chats/chat", 5.0, "chat")


def test_what_the_writer_needs_is_kept_of_usable_and_unusable_objects_alike(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("good", generation=3, reason="ScaledUp"), stored("bad", {"spec.engine": "vlm"}, generation=7))
    roster = follow()
    assert roster.kept("chats/good") is None, "nothing is known before the first tick has looked"
    assert len(roster.managed()) == 2
    assert roster.kept("chats/good") == Kept("uid-of-good", 3, "chats", "good", {"reason": "ScaledUp"})
    assert roster.kept("chats/bad") == Kept("uid-of-bad", 7, "chats", "bad", {})
    good = roster.get("chats/good")
    assert good is not None
    assert good.spec.model == "good"
    assert (roster.get("chats/bad"), roster.get("chats/none"), roster.kept("chats/none")) == (None, None, None)


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_what_the_api_server_accepts_and_nobody_can_work_by_is_told_in_one_line(api: FakeApi, follow: Objects, case: str) -> None:
    changes, line = WRONG_SPECS[case]
    api.lists(PATH, stored("bad", changes), stored("good"))
    found = told(follow())
    assert found["good"] == ""
    assert found["bad"].startswith(f"InvalidPolicy: {line}")
    assert len(found["bad"].splitlines()) == 1


def test_what_another_room_refuses_is_unusable_too(api: FakeApi, follow: Objects) -> None:
    def check(fleet: Managed) -> None:
        if fleet.queries:
            raise Refusal("queries: pods.waiting: placeholder $podz is unknown\nqueries: twice")

    api.lists(PATH, stored("bad", {"spec.metrics.queries": {"pods.waiting": "x{pod=~'$podz'}"}}), stored("good"))
    line = "InvalidPolicy: queries: pods.waiting: placeholder $podz is unknown; queries: twice"
    assert told(follow(check=check)) == {"bad": line, "good": ""}


def test_recommend_only_keeps_every_policy_from_acting_and_off_stays_off(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, *(stored(mode.lower(), {"spec.mode": mode}) for mode in ("Auto", "Off", "Recommend")))
    for roster, modes in (
        (follow(), [Mode.AUTO, Mode.OFF, Mode.RECOMMEND]),
        (follow(recommend_only=True), [Mode.RECOMMEND, Mode.OFF, Mode.RECOMMEND]),
    ):
        assert [one.policy.mode for one in roster.managed() if isinstance(one, Managed)] == modes


def test_objects_are_followed_as_they_are_made_edited_and_deleted(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("a"))
    roster = follow()
    becomes(roster, {"a": ""})
    api.tell(PATH, "ADDED", stored("b", {"spec.engine": "vlm"}))
    becomes(roster, {"a": "", "b": Reason.INVALID_POLICY})
    api.tell(PATH, "MODIFIED", stored("b", generation=2))
    becomes(roster, {"a": "", "b": ""})
    kept = roster.kept("chats/b")
    assert kept is not None
    assert kept.generation == 2
    api.tell(PATH, "DELETED", stored("a"))
    becomes(roster, {"b": ""})
    assert (roster.get("chats/a"), roster.kept("chats/a")) == (None, None)


def test_one_tick_sees_one_policy_whatever_happens_meanwhile(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("a"))
    roster = follow()
    roster.managed()
    before = roster.get("chats/a"), roster.kept("chats/a")
    api.tell(PATH, "MODIFIED", stored("a", {"spec.pools.decode.max": 9}, generation=2))
    wait_until(lambda: has_news(roster), "the edit has arrived")
    assert (roster.get("chats/a"), roster.kept("chats/a")) == before
    roster.managed()
    after = roster.get("chats/a")
    assert after is not None
    assert [pool.max for pool in after.spec.pools.values()] == [4, 9]


def has_news(roster: PolicyObjects) -> bool:
    """Whether the list knows more than the last tick."""
    (seen,) = roster._snapshots.values()
    return seen.picture().items is not roster._pictures[0]


def test_a_status_that_is_written_costs_no_validation_and_an_edit_one(
    api: FakeApi, follow: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[str] = []

    def counted(document: Document, **options: Any) -> Managed:
        validated.append(document.metadata.name)
        return managed(document, **options)

    monkeypatch.setattr(module, "managed", counted)
    api.holds(PATH, listed(stored("a"), stored("b")), listed(stored("a"), stored("b", generation=2)))
    roster = follow()
    assert (reasons(roster), validated) == ({"a": "", "b": ""}, ["a", "b"])
    api.tell(PATH, "MODIFIED", stored("a", state={"format": 1}))
    wait_until(lambda: any(isinstance(one, Managed) and one.state for one in roster.managed()), "the state is seen")
    assert validated == ["a", "b"]
    api.events[PATH].put({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})
    wait_until(lambda: api.times_asked(PATH) == 2 and validated == ["a", "b", "b"], "listed anew, one of two validated anew")


def test_nothing_is_worked_out_anew_while_nothing_changed(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("a"))
    roster = follow()
    first = roster.managed()
    assert roster.managed() is first
    api.tell(PATH, "MODIFIED", stored("a", reason="Hold"))
    wait_until(lambda: roster.managed() is not first, "another picture")


def test_of_two_that_claim_the_same_the_older_goes_on_and_the_newer_follows_when_it_is_gone(
    api: FakeApi, follow: Objects
) -> None:
    old, new = stored("old", born=1), stored("new", {"spec.pools.decode.target.name": "old-d", "spec.model": "old"}, born=2)
    api.lists(PATH, new, old)
    roster = follow()
    assert told(roster) == {
        "old": "",
        "new": "ClashingPolicy: spec.model: old in namespace chats is another policy's model too, and metrics cannot tell the "
        "two apart (chats/old, which was there first); spec.pools.decode.target.name: LeaderWorkerSet old-d in namespace "
        "chats is another policy's target too (chats/old, which was there first)",
    }
    assert roster.get("chats/new") is None
    api.tell(PATH, "DELETED", old)
    becomes(roster, {"new": ""})
    assert roster.get("chats/new") is not None


def test_of_one_second_the_first_by_name_goes_on(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("b", {"spec.model": "a"}), stored("a"))
    assert reasons(follow()) == {"a": "", "b": Reason.CLASHING_POLICY}


def test_what_is_unusable_itself_claims_nothing(api: FakeApi, follow: Objects) -> None:
    invalid = stored("invalid", {"spec.engine": "vlm", "spec.model": "first"}, born=0)
    clashing = stored("clashing", {"spec.model": "first", "spec.pools.decode.target.name": "free"}, born=2)
    api.lists(PATH, invalid, stored("first", born=1), clashing, stored("last", {"spec.pools.decode.target.name": "free"}, born=3))
    assert reasons(follow()) == {"invalid": "InvalidPolicy", "first": "", "clashing": "ClashingPolicy", "last": ""}


def test_the_newest_term_is_that_of_any_object_but_none_that_no_lease_could_reach(api: FakeApi, follow: Objects) -> None:
    """Terms would begin anew below it, and whoever leads then could not write to that object."""
    api.lists(PATH, stored("a", state={"format": 1, "epoch": 3}), stored("odd", state={"format": 1, "epoch": "9"}))
    invalid = stored("invalid", {"spec.engine": "vlm"}, state={"format": 1, "epoch": 7})
    api.lists(OTHER_PATH, invalid, stored("forged", state={"format": 1, "epoch": 2**31 - 2}), stored("new"))
    assert follow("chats", "batch").newest_term() == 7
    api.lists(PATH)
    assert follow("chats").newest_term() == -1


def test_namespaces_do_not_clash_and_come_in_order(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("a"))
    api.lists(OTHER_PATH, stored("a"), stored("b"))
    assert [one.key for one in follow("chats", "batch").managed()] == ["batch/a", "batch/b", "chats/a"]


def test_before_the_first_answer_there_is_nothing_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(FakeApi):
        def get(self, path: str, **query: str) -> Body | ApiFault:
            for _ in self.watch(path, 0):  # type: ignore[union-attr]  # waits until something is told
                break
            return super().get(path, **query)

    api = Frozen()
    api.lists(PATH, stored("a"))
    roster = PolicyObjects(api, ["chats"])
    assert roster.managed() == ()
    assert not roster.ready(0.01)
    assert roster.trouble() == "PDAutoscalers of namespace chats: no answer yet"
    api.events[PATH].put({})
    assert roster.ready(10)
    assert reasons(roster) == {"a": ""}
    roster.stop()


def test_a_crd_that_is_not_installed_is_told_with_what_to_do_and_found_when_it_is(api: FakeApi, follow: Objects) -> None:
    roster = follow("chats", "batch")
    how = "their CRD is not installed: autoscaler crd | kubectl apply -f -"
    wait_until(lambda: roster.trouble().endswith("(and 1 more namespaces)"), "both are told")
    assert roster.trouble() == f"PDAutoscalers of namespace chats: {how} (and 1 more namespaces)"
    assert (roster.managed(), roster.ready(0)) == ((), False)
    api.lists(PATH, stored("a"))
    api.lists(OTHER_PATH)
    becomes(roster, {"a": ""})
    wait_until(lambda: roster.ready(0), "no trouble any more")


def test_a_missing_verb_is_told_and_what_was_known_stays(api: FakeApi, follow: Objects) -> None:
    api.lists(PATH, stored("a"))
    roster = follow()
    becomes(roster, {"a": ""})
    api.refused_watches[PATH] = FORBIDDEN
    api.events[PATH].put(END)
    wait_until(lambda: roster.trouble() != "", "trouble")
    words = 'Forbidden: User "u" cannot list resource "pdautoscalers" in API group "pdautoscaler.io"'
    verbs = "a Role in chats must allow list and watch of pdautoscalers in pdautoscaler.io"
    assert roster.trouble() == f"PDAutoscalers of namespace chats: {words}; {verbs}"
    assert reasons(roster) == {"a": ""}
    api.refused_watches[PATH] = NOT_FOUND
    wait_until(lambda: "CRD" in roster.trouble(), "another trouble")


def test_problems_are_cut_to_what_a_condition_and_an_event_hold() -> None:
    assert one_line(["a: two\nlines"]) == "a: two lines"
    line = one_line(["x" * 2000, "y"])
    assert line == f"{'x' * (LONGEST - 3)}...; and 1 more"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = ("metadata.uid", "metadata.generation", "metadata.creationTimestamp", "metadata.namespace", "status", "status.state")
SPEC_PLACES = ("spec", "spec.model", "spec.pools", "spec.pools.decode", "spec.profile", "spec.metrics.queries", "spec.slo")


@settings(max_examples=25)
@given(values=st.dictionaries(st.sampled_from([*PLACES, *SPEC_PLACES]), JSON, min_size=1, max_size=3))
def test_no_json_in_any_place_disturbs_a_neighbour(values: Mapping[str, Any]) -> None:
    """Law: whatever stands in an object, reading it ends with an entry of its own, and the neighbour's is what it was."""
    reader = Reader("chats", recommend_only=False, check=None)
    odd = stored("odd", born=1, reason="Hold")
    for path in sorted(values, key=len, reverse=True):
        parent = odd
        *above, last = path.split(".")
        for part in above:
            parent = parent.setdefault(part, {})
        parent[last] = values[path]
    neighbour = reader.read(stored("neighbour", born=2))
    objects = {"odd": reader.read(copy.deepcopy(odd)), "neighbour": neighbour}
    view = module._settled([objects])
    assert view.entries[0] == neighbour.entry
    assert view.entries[1].key == "chats/odd"
    if isinstance(view.entries[1], Unusable):
        line = view.entries[1].finding.text
        assert line
        assert len(line.splitlines()) == 1
        assert len(line) <= LONGEST + 20
    assert isinstance(neighbour.entry, Managed)

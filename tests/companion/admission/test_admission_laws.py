"""Can a stranger's object crash the webhook, or make it deny what it must not?

The laws: every sequence of bytes gets an answer at once, 200 or 4xx, never an exception; whatever stands in objects and in
PDAutoscalers, an answer to a review bears its uid; outside mode Auto, and of state that is stale, nothing is denied but a
PDAutoscaler; a dry run is answered like any other write; a smaller load is never denied where a larger one is not.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.companion.admission import guard, injection, load, policies
from autoscaler.companion.admission.fleets import Register
from autoscaler.companion.admission.review import Review, Ruling, Unreadable, read, unread, wire
from tests.companion.admission.cluster import (
    JOB,
    JOB_SET,
    LWS,
    NOW,
    PDA,
    POD,
    SETS,
    SETTINGS,
    UID,
    cluster,
    demands,
    disaggregated,
    job,
    leader,
    lws,
    policy,
    post,
    review,
    scale,
    webhook,
)
from tests.examples import examples

STRICT = {"pdautoscaler.io/guard": "deny", "pdautoscaler.io/early-reject": "deny"}
JOBS: Any = {"replicatedJobs": [{"replicas": 2, "template": {"spec": {"parallelism": 3, "template": {"metadata": {}}}}}]}
QUESTIONS: list[Any] = [
    scale("chat-prefill", 5, 3),
    review(LWS, lws("chat-prefill", 3, emergency="x"), lws("chat-prefill", 5)),
    review(SETS, disaggregated(prefill=1, decode=2), disaggregated(prefill=2, decode=2)),
    review(JOB, job(demands(decode="4k"), parallelism=2)),
    review(JOB_SET, job(demands(decode="4k"), **JOBS)),
    review(POD, leader("chat-prefill", readinessGates=[{"conditionType": "x"}])),
    review(PDA, policy("new")),
    review(PDA, policy("new"), policy("new", requestShape={"promptTokens": 100, "outputTokens": 10})),
]
OBJECTS = tuple(cluster())
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
APP = webhook()


def rule_on(body: bytes, objects: Any = OBJECTS) -> list[Ruling]:
    """What each door rules on a body; nothing where it is no review. Each ruling can be sent."""
    asked = read(body)
    if isinstance(asked, Unreadable):
        return [unread(asked)] if asked.uid else []
    fleets = Register(lambda: objects).fleets()
    rulings = [
        guard.judge(asked, fleets, NOW, SETTINGS),
        load.judge(asked, fleets, NOW, SETTINGS),
        injection.judge(asked, fleets, NOW),
        policies.judge(asked, fleets),
    ]
    for ruling in rulings:
        assert json.loads(wire(asked.uid, ruling))["response"]["uid"] == asked.uid
    return rulings


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(found for key, value in inside for found in places(value, (*path, key)))]


def replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The same document with another value at a path."""
    other = copy.deepcopy(body)
    place = other
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return other


@st.composite
def spoilt(draw: st.DrawFn, documents: list[Any]) -> Any:
    """One of these documents with up to three values replaced by anything."""
    body = draw(st.sampled_from(documents))
    for _ in range(draw(st.integers(1, 3))):
        body = replaced(body, draw(st.sampled_from(places(body)[1:])), draw(ANYTHING))
    return body


@examples(30)
@given(body=spoilt(QUESTIONS))
def test_no_object_crashes_a_door(body: Any) -> None:
    rulings = rule_on(json.dumps(body).encode())
    assert all(ruling.allowed or ruling.message for ruling in rulings)


@given(body=st.one_of(st.binary(max_size=200), ANYTHING.map(lambda value: json.dumps(value).encode())))
def test_no_bytes_crash_a_door(body: bytes) -> None:
    assert all(ruling.allowed for ruling in rule_on(body))


@given(question=st.sampled_from(QUESTIONS), cut=st.floats(0, 1), put=st.binary(max_size=3))
def test_a_review_that_was_cut_or_damaged_on_its_way_crashes_no_door(question: Any, cut: float, put: bytes) -> None:
    whole = json.dumps(question).encode()
    at = int(cut * len(whole))
    for sent in (whole[:at], whole[:at] + put + whole[at + len(put) :]):
        assert all(ruling.allowed or ruling.message for ruling in rule_on(sent))


@examples(12)
@given(fleet=spoilt([one for one in OBJECTS if one["metadata"]["name"] in {"chat", "mail"}]))
def test_no_pdautoscaler_that_is_stored_crashes_a_door(fleet: Any) -> None:
    for question in QUESTIONS:
        rulings = rule_on(json.dumps(question).encode(), (fleet, *OBJECTS[1:]))
        assert all(ruling.allowed or ruling.message for ruling in rulings)


@given(
    mode=st.sampled_from(["Auto", "Recommend", "Off"]),
    age_s=st.floats(-7200, 7200),
    room=st.integers(-(10**6), 10**6),
    wanted=st.integers(0, 10**6),
)
def test_outside_mode_auto_and_of_stale_state_nothing_is_denied(mode: str, age_s: float, room: int, wanted: int) -> None:
    fleet = policy("chat", mode=mode, annotations=STRICT, headroom={"decode": room}, age_s=age_s)
    declared = review(JOB, job(demands(decode=str(wanted))))
    fresh = mode == "Auto" and -29 < age_s < 134
    denied = [
        not all(ruling.allowed for ruling in rule_on(json.dumps(question).encode(), (fleet,)))
        for question in (scale("chat-decode", 5, 3), declared)
    ]
    silent = mode != "Auto" or not -31 < age_s < 136
    assert not (silent and any(denied))
    assert not fresh or denied == [True, wanted > max(0, room)]


@given(question=st.sampled_from(QUESTIONS))
def test_a_dry_run_is_answered_like_any_other_write(question: Any) -> None:
    dry = replaced(question, ("request", "dryRun"), True)
    assert rule_on(json.dumps(dry).encode()) == rule_on(json.dumps(question).encode())


@given(smaller=st.integers(0, 10_000), larger=st.integers(0, 10_000), room=st.integers(-100, 10_000))
def test_a_smaller_load_is_never_denied_where_a_larger_one_comes_in(smaller: int, larger: int, room: int) -> None:
    smaller, larger = sorted((smaller, larger))
    fleet = policy("chat", annotations=STRICT, headroom={"decode": room})
    allowed = [
        load.judge(_review(job(demands(decode=str(wanted)))), Register(lambda: (fleet,)).fleets(), NOW, SETTINGS).allowed
        for wanted in (smaller, larger)
    ]
    assert allowed[0] or not allowed[1]


@examples(30)
@given(body=spoilt(QUESTIONS), door=st.sampled_from(["policies", "scale", "load", "pods"]))
def test_over_http_every_review_gets_200_with_its_uid_or_a_status(body: Any, door: str) -> None:
    reply = post(APP, door, json.dumps(body).encode())
    if reply.status == 200:
        assert reply.response["uid"] == body["request"]["uid"]
    else:
        assert (reply.status, reply.body["kind"]) == (400, "Status")


def _review(body: Any) -> Review:
    asked = read(json.dumps(review(JOB, body)).encode())
    assert isinstance(asked, Review)
    assert asked.uid == UID
    return asked

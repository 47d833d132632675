"""Is exactly one number given per policy and role, all that are meant or none, and in a form that HPA cannot misread?

The law: whatever is stale, unknown or in another mode among the series that are meant, the answer is a failure, never a sum
with a part missing.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from autoscaler.companion.app import create_app
from autoscaler.companion.external import quantity, value_list
from autoscaler.companion.failures import CAUSES_SHOWN, Failure
from autoscaler.companion.keda import create_keda_app
from autoscaler.companion.metrics import METRICS, samples
from autoscaler.core.action import Mode
from tests.companion.asking import CALLERS, ask
from tests.companion.policies import NOW, policy, pool, recommending
from tests.examples import examples

DESIRED = "pdautoscaler_desired_replicas"
PATH = "/apis/external.metrics.k8s.io/v1beta1/namespaces"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (0, "0"),
        (2.5, "2500m"),
        (-0.5, "-500m"),
        (-3, "-3"),
        (0.0004, "0"),
        (0.0006, "1m"),
        (1e15, "1" + "0" * 15),
    ],
)
def test_a_quantity_is_a_whole_number_or_thousandths(value: float, text: str) -> None:
    assert quantity(value) == text


@given(st.one_of(st.integers(-(10**15), 10**15), st.floats(-1e15, 1e15)))
@examples(50)
def test_a_quantity_is_the_number_to_a_thousandth(value: float) -> None:
    text = quantity(value)
    read = Fraction(int(text.removesuffix("m")), 1000 if text.endswith("m") else 1)
    assert abs(read - Fraction(value)) <= Fraction(1, 2000)


STATES = st.sampled_from(["told", "stale", "recommend", "off", "direct", "unknown", "absent"])


def thing(name: str, state: str, count: int) -> dict[str, Any]:
    if state == "recommend":
        return recommending(name)
    lacking: dict[str, Any] = {"unknown": {"target": None}, "direct": {"actuation": "direct"}}
    target = {"decode": pool(count, **lacking.get(state, {}))}
    return policy(name, mode="Off" if state == "off" else "Auto", pools=target, age_s=500.0 if state == "stale" else 5.0)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(STATES, st.integers(0, 64)), max_size=6),
    st.sets(st.sampled_from("abcdef")),
)
def test_a_sum_is_given_whole_or_not_at_all(fleets: dict[str, tuple[str, int]], wanted: set[str]) -> None:
    objects = [thing(name, state, count) for name, (state, count) in fleets.items() if state != "absent"]
    meant = {name: fleets[name] for name in wanted & set(fleets) if fleets[name][0] != "absent"}
    found = samples(objects, NOW, "default", DESIRED, lambda labels: labels["policy"] in wanted and labels["role"] == "decode")
    if meant and all(state == "told" for state, _ in meant.values()):
        assert not isinstance(found, Failure)
        assert {one.policy: one.value for one in found} == {name: count for name, (_, count) in meant.items()}
        assert len(found) == len(meant), "HPA adds up what it gets"
    else:
        assert isinstance(found, Failure)
        passing = any(state in ("stale", "unknown") for state, _ in meant.values())
        assert found.code == (503 if passing else 404)


def test_only_the_recommendation_is_told_in_mode_recommend_and_nothing_in_mode_off() -> None:
    for mode in Mode:
        fleet = [policy(mode=mode, pools={"decode": pool(7, recommended=7)})]
        for name, metric in METRICS.items():
            found = value_list(fleet, NOW, "default", name, "")
            assert isinstance(found, Failure) is (metric.mode is not mode or mode is Mode.OFF), (mode, name)


def test_a_policy_elsewhere_is_never_told() -> None:
    found = value_list([policy(namespace="elsewhere")], NOW, "default", DESIRED, "")
    assert isinstance(found, Failure)
    assert found.code == 404


def test_a_failure_shows_so_many_causes_and_counts_the_rest() -> None:
    found = value_list([policy(f"fleet-{n}", age_s=500.0) for n in range(100)], NOW, "default", DESIRED, "role=decode")
    assert isinstance(found, Failure)
    assert found.message.endswith("(and 99 more)")
    assert len(found.body()["details"]["causes"]) == CAUSES_SHOWN


APP = create_app(lambda: [policy()], CALLERS, lambda: NOW)
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([DESIRED, "default", "*", "..", "%2e%2e", "role=decode", "policy in (chat)"]),
)


@given(
    st.lists(TEXTS, max_size=3),
    st.one_of(TEXTS.map(str.encode), st.binary(max_size=20)),
    st.lists(st.tuples(st.sampled_from(["accept", "if-none-match", "x-remote-group"]), TEXTS), max_size=2),
)
@examples(50)
def test_whatever_is_asked_the_answer_is_json_that_says_what_it_is(
    parts: list[str], selector: bytes, headers: list[tuple[str, str]]
) -> None:
    sent = [(name, value.encode("utf-8", "replace").decode("latin-1")) for name, value in headers]
    path, query = f"{PATH}/{'/'.join(parts)}", b"labelSelector=" + selector
    answer = ask(APP, path, [("X-Remote-User", "anna"), *sent], query=query)
    assert answer.status in (200, 400, 404)
    assert answer.json["kind"] == ("ExternalMetricValueList" if answer.status == 200 else "Status")
    assert answer.json.get("code", 200) == answer.status


def broken() -> list[dict[str, Any]]:
    raise RuntimeError("a bug")


def unknown() -> list[dict[str, Any]]:
    raise HTTPException(503, "the list of policies is not known yet")


@pytest.mark.parametrize(
    ("objects", "code", "message"),
    [
        (broken, 500, "an error of this server; its log has the traceback"),
        (unknown, 503, "GET '/keda/v1/default/chat/decode': the list of policies is not known yet"),
    ],
)
def test_what_goes_wrong_with_us_is_a_status_too(objects: Callable[[], Any], code: int, message: str) -> None:
    app = create_keda_app(objects, lambda: NOW)
    answer = TestClient(app, raise_server_exceptions=False).get("/keda/v1/default/chat/decode")
    assert (answer.status_code, answer.json()["kind"], answer.json()["code"]) == (code, "Status", code)
    assert answer.json()["message"] == message

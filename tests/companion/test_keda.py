"""Does KEDA's metrics-api trigger get a number it can read, and a failure it cannot take for one?

No KEDA runs here. tests/contracts/external_metrics/keda-*.txt are requests of the shape that it sends (Go's HTTP client; with
`authMode: bearer` the token in front), and `as_keda_reads` is its rule: any status but 200 is a failure, and so is a
`valueLocation` that leads to no number.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.companion.keda import create_keda_app
from tests.companion.asking import Answer, ask
from tests.companion.policies import NOW, policy, pool, recommending

GOLDEN = Path(__file__).parent.parent / "contracts" / "external_metrics"
OBJECTS = (
    policy("chat"),
    policy("chat", namespace="elsewhere", pools={"decode": pool(77)}),
    policy("old", age_s=1000.0),
    policy("asleep", pools={"decode": pool(0)}),
    policy("own", pools={"decode": pool(7, actuation=None)}),
    recommending("draft"),
)
OPEN = create_keda_app(lambda: OBJECTS, lambda: NOW)
GUARDED = create_keda_app(lambda: OBJECTS, lambda: NOW, lambda: "s3cret")


def sent(name: str) -> tuple[str, list[tuple[str, str]]]:
    """The address and the headers of a golden request."""
    head, *lines = (GOLDEN / f"{name}.txt").read_text().splitlines()
    method, url, version = head.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    return url, [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in lines if line]


def as_keda_reads(answer: Answer, value_location: str = "value") -> float | None:
    """The number that KEDA takes; None: a failure."""
    if answer.status != 200:
        return None
    found = answer.json.get(value_location)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def test_keda_gets_the_count_with_a_token_where_one_is_asked_for_and_without_elsewhere() -> None:
    bare, bearing = sent("keda-none"), sent("keda-bearer")
    assert as_keda_reads(ask(OPEN, *bare, peer=None)) == 7
    assert as_keda_reads(ask(OPEN, *bearing, peer=None)) == 7
    assert as_keda_reads(ask(GUARDED, *bearing, peer=None)) == 7
    refused = ask(GUARDED, *bare, peer=None)
    assert (refused.status, refused.json["kind"], as_keda_reads(refused)) == (401, "Status", None)


@pytest.mark.parametrize("shown", ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "s3cret", "Basic s3cret", "Bearer \xe9"])
def test_a_token_that_is_not_the_one_opens_nothing(shown: str) -> None:
    assert ask(GUARDED, "/keda/v1/default/chat/decode", [("Authorization", shown)]).status == 401


def test_an_empty_token_opens_nothing_rather_than_everything() -> None:
    unset = create_keda_app(lambda: OBJECTS, lambda: NOW, lambda: "")
    for headers in ([], [("Authorization", "Bearer ")], [("Authorization", "Bearer s3cret")]):
        assert ask(unset, "/keda/v1/default/chat/decode", headers).status == 401


def test_the_answer_says_for_people_what_it_is() -> None:
    assert ask(OPEN, "/keda/v1/default/chat/prefill").json == {
        "value": 5,
        "metric": "pdautoscaler_desired_replicas",
        "namespace": "default",
        "policy": "chat",
        "role": "prefill",
        "told": "2026-01-05T08:59:50Z",
    }


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("default/chat/decode?metric=pdautoscaler_queue_pressure", 1.25),
        ("default/chat/decode?metric=pdautoscaler_slo_headroom", 0.4),
        ("default/chat/decode?metric=pdautoscaler_forecast_tokens_per_second", 1400.0),
        ("default/draft/decode?metric=pdautoscaler_recommended_replicas", 7),
        ("elsewhere/chat/decode", 77),
        ("default/asleep/decode", 0),
        ("default/own/decode?metric=pdautoscaler_queue_pressure", 1.25),
    ],
)
def test_every_metric_is_there_by_its_name(url: str, value: float) -> None:
    assert as_keda_reads(ask(OPEN, f"/keda/v1/{url}")) == value


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("/keda/v1/default/old/decode", 503, "ServiceUnavailable"),
        ("/keda/v1/default/draft/decode", 404, "NotFound"),
        ("/keda/v1/default/own/decode", 404, "NotFound"),
        ("/keda/v1/default/chat/encode", 404, "NotFound"),
        ("/keda/v1/default/nobody/decode", 404, "NotFound"),
        ("/keda/v1/nowhere/chat/decode", 404, "NotFound"),
        ("/keda/v1/default/chat/decode?metric=queue", 404, "NotFound"),
        ("/keda/v1/default/chat", 404, "NotFound"),
        ("/keda/v2/default/chat/decode", 404, "NotFound"),
        ("/apis", 404, "NotFound"),
    ],
)
def test_what_may_not_be_told_is_a_failure_to_keda_and_a_status_to_people(url: str, status: int, reason: str) -> None:
    answer = ask(OPEN, url)
    assert as_keda_reads(answer) is None
    assert (answer.status, answer.json["kind"], answer.json["reason"]) == (status, "Status", reason)

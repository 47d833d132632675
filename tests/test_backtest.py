"""Does `autoscaler backtest` refuse what makes no sense, and ask for the time it was told? (tests/e2e runs it on a real past)"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autoscaler.commands import backtest as command
from autoscaler.commands.backtest import backtest, pattern_of, seconds
from autoscaler.commands.hindsight import difference
from autoscaler.policy.sections import Target
from autoscaler.refusal import Refusal
from tests.policy_documents import MINIMAL, policy, text

NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port
NOW_S = 1_000_000_030.0  # 2001-09-09 01:47:10 UTC


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text(dict(MINIMAL)))
    return path


def run(file: Path, **changed: Any) -> None:
    usual = {
        "prometheus": NOWHERE, "headers": (), "token_file": None, "ca_file": None, "query_timeout_s": 1.0, "policy": file,
        "since": "1h", "until": None, "step": None, "pods": (), "replicas": (), "arrivals": "poisson", "start_up_s": 60.0,
        "seed": 1, "report": None, "as_json": True,
    }  # fmt: skip
    backtest(**{**usual, **changed})


@pytest.mark.parametrize(
    ("written", "expected_s"),
    [("7d", 604_800), ("12h", 43_200), ("90m", 5_400), ("1d12h", 129_600), ("45s", 45), ("1w", 604_800)],
)
def test_durations_are_read_as_prometheus_writes_them(written: str, expected_s: int) -> None:
    assert seconds("--since", written) == expected_s


@pytest.mark.parametrize("written", ["", "7", "d", "7 d", "-1h", "0h", "1.5h", "7days", "h7"])
def test_what_is_no_duration_is_refused_by_name_and_value(written: str) -> None:
    with pytest.raises(Refusal, match=rf'^--since "{re.escape(written)}" is no duration \(allowed: .*7d, 12h, 90m\)$'):
        seconds("--since", written)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"since": "1h"}, (999_996_420, 1_000_000_020, 60)),
        ({"since": "1h", "until": "2h"}, (999_989_220, 999_992_820, 60)),
        ({"since": "1h", "until": "2001-09-09T01:00Z"}, (999_993_600, 999_997_200, 60)),
        ({"since": "1h", "until": "2001-09-09T01:00"}, (999_993_600, 999_997_200, 60)),
        ({"since": "1h", "until": "2001-09-09T01:47:10Z"}, (999_996_420, 1_000_000_020, 60)),
        ({"since": "1h", "step": "10m"}, (999_996_000, 999_999_600, 600)),
        ({"since": "30d"}, (997_407_900, 999_999_900, 300)),
    ],
    ids=["from now", "until two hours ago", "until a moment", "UTC without a zone", "until this second", "steps", "a long time"],
)
def test_the_span_ends_on_a_whole_step(options: dict[str, str], expected: tuple[int, int, int]) -> None:
    span = command._span(policy(), options["since"], options.get("until"), options.get("step"), NOW_S)
    assert (span.start_s, span.end_s, span.step_s) == expected
    assert span.end_s <= NOW_S


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"until": "yesterday"}, r'^--until "yesterday" is neither a time \(.*\) nor a duration ago \(12h\)$'),
        ({"step": "30s"}, r"^--step 30s: must be >= 60 s, 4 x spec\.metrics\.scrapeIntervalSeconds 15"),
        ({"step": "2h"}, r"^--since 1h: is shorter than one step of 7200 s$"),
        ({"since": "9999w"}, r'^--since "9999w": begins before 1970$'),
        ({"until": "9999w"}, r'^--since "1h" --until "9999w": begins before 1970$'),
        ({"until": "2999-01-01"}, r'^--until "2999-01-01" is yet to come: a past ends at 20..-.*Z, which is now, at the latest$'),
        ({"pods": ("chat=x",)}, r'^--pods "chat=x": must be ROLE=\.\.\. \(roles: prefill, decode\)$'),
        ({"pods": ("prefill",)}, r'^--pods "prefill": must be ROLE='),
        ({"replicas": ("decode=0",)}, r'^--replicas "0" is no count of replicas \(allowed: 1\.\.1000\)$'),
        ({"replicas": ("decode=two",)}, r'^--replicas "two" is no count'),
        ({"report": Path("/nowhere/at/all.html")}, r"^--report /nowhere/at/all\.html: there is no folder /nowhere/at$"),
        ({"prometheus": "ftp://x"}, r"^prometheus 'ftp://x': must be http"),
        ({}, rf"^{NOWHERE}: .*Connection refused \(asked for traffic\.offered_rps, steps from 1 of 60\)$"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(file: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal, match=told) as refused:
        run(file, **options)
    assert "\n" not in str(refused.value)


def test_several_policies_are_refused(tmp_path: Path) -> None:
    other = {**MINIMAL, "metadata": {"name": "other", "namespace": "elsewhere"}}
    (both := tmp_path / "both.yaml").write_text(f"{text(dict(MINIMAL))}---\n{text(other)}")
    with pytest.raises(Refusal, match=r"holds 2 policies; a back-test is about one fleet$"):
        run(both)


@pytest.mark.parametrize(
    ("target", "own", "others"),
    [
        ({"name": "chat"}, ["chat-0", "chat-12"], ["chat-0-1", "chat-prefill-0", "chat"]),
        ({"name": "chat", "kind": "StatefulSet", "apiVersion": "apps/v1"}, ["chat-3"], ["chat-x-3"]),
        ({"name": "chat", "kind": "Deployment", "apiVersion": "apps/v1"}, ["chat-7d4b9c-x2x4z"], ["chats-7d4b9c-x2x4z"]),
        (
            {"name": "llm", "kind": "DisaggregatedSet", "apiVersion": "d/v1", "role": "prefill"},
            ["llm-prefill-0", "llm-5f6c-prefill-2", "llm-prefill-5f6c-2"],
            ["llm-decode-0"],
        ),
    ],
    ids=["LeaderWorkerSet", "StatefulSet", "Deployment", "DisaggregatedSet"],
)
def test_a_targets_pods_are_known_by_their_names(target: dict[str, str], own: list[str], others: list[str]) -> None:
    pattern = re.compile(pattern_of(Target.model_validate(target)))
    assert all(pattern.fullmatch(name) for name in own)
    assert not [name for name in others if pattern.fullmatch(name)]


def test_the_difference_is_told_in_points_gpu_hours_and_gpus() -> None:
    was = {"attainment": 0.95, "gpu_hours": 100.0, "gpus": 10.0, "actions": 2}
    would = {"attainment": 0.99, "gpu_hours": 80.0, "gpus": 8.0, "actions": 31}
    assert difference(was, would) == (
        "Under the policy +4.00 points of the requests would have been met in time, for -20.00 GPU-hours (-20.0%): "
        "8.0 GPUs on average instead of 10.0, and 31 scalings instead of 2."
    )

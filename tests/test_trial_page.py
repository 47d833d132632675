"""Is the simulator's trial told as it was printed, and is anything else refused?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.commands.trial_page import section
from autoscaler.refusal import Refusal
from tests.bench.trials.finding import Check, Curve, Rule, Series
from tests.bench.truth import document
from tests.examples import examples

CHECKS = (
    Check("wait", "mean wait of M/D/1 & more, seconds", 0.0149, 0.015, 0.02, standard_error=0.0002),
    Check("best", "prefill nodes at the peak", 11, 8, 1 / 8, published=8),
    Check("cut", "share of wasted prefills saved", 0.72, 0.5, rule=Rule.AT_LEAST),
)
CURVE = Curve(
    "waits",
    "Wait < service",
    "load",
    "seconds",
    [Series("one", [(0.3, 0.1), (0.5, 0.2)]), Series("dots", [(0.4, 0.1)], joined=False)],
    "It rises.",
)


def printed() -> dict[str, Any]:
    """What the bench prints of these, as whoever reads the file gets it."""
    told: dict[str, Any] = json.loads(json.dumps(document([*CHECKS, CURVE])))
    return told


def drawn(points: object) -> dict[str, object]:
    """A curve with one series of these points."""
    curve: dict[str, object] = printed()["curves"][0]
    return {**curve, "series": [{"name": "one", "joined": True, "points": points}]}


def tree(trial: Mapping[str, object]) -> ElementTree.Element:
    html = section(trial).replace("&plusmn;", "+-").replace("<br>", "<br/>")
    return ElementTree.fromstring(f"<body>{html}</body>")


def test_every_check_has_its_row_and_a_missed_one_stands_out() -> None:
    rows = ["|".join("".join(cell.itertext()) for cell in row) for row in tree(printed()).iter("tr")]
    assert rows[1:] == [
        "mean wait of M/D/1 & more, seconds|0.0149 +- 0.0002|0.015 +- 2 %||met",
        "prefill nodes at the peak|11|8 +- 12.5 %|8|missed",
        "share of wasted prefills saved|0.72|at least 0.5||met",
    ]
    assert "2 of 3 checks are met" in section(printed())


def test_every_series_is_drawn_inside_its_plot() -> None:
    (plot,) = tree(printed()).iter("svg")
    lines = [line.get("points", "").split() for line in plot.iter("polyline")]
    assert [len(line) for line in lines] == [2]
    placed = [re.findall(r"[\d.]+", mark.get("transform", "")) for mark in plot.iter("path") if mark.get("class") == "mark"]
    dots = [(float(x), float(y)) for x, y in placed]
    assert len(dots) == 3
    assert all(0 <= x <= float(plot.get("width", 0)) and 0 <= y <= float(plot.get("height", 0)) for x, y in dots)
    assert dots[1][1] < dots[0][1], "more is higher up"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"bench": "tick"}, 'bench: "tick"'),
        ({"checks": []}, "checks: "),
        ({"checks": [{"name": "x"}]}, "checks[0].claim"),
        (
            {"curves": [drawn([[1]])]},
            "points",
        ),
        ({"requests": float("nan")}, "requests: "),
        ({"more": 1}, "more: "),
    ],
)
def test_what_is_no_trial_is_refused_in_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(Refusal) as refused:
        section({**printed(), **change})
    assert "\n" not in str(refused.value)
    assert "make bench NAME=truth" in str(refused.value)
    assert line in str(refused.value)


@examples(25)
@given(st.lists(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=2), min_size=1, max_size=5))
def test_any_curve_can_be_drawn(points: list[list[float]]) -> None:
    labels = [text.text for text in tree({**printed(), "curves": [drawn(points)]}).iter("text")]
    assert 3 <= len(labels) <= 20

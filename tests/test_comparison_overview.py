"""Does the first screen of a report name the right winners?"""

from __future__ import annotations

import re

from autoscaler.commands.comparison_overview import matrix, winners
from autoscaler.simulator.contenders import OURS, Contender
from autoscaler.simulator.result import Result
from tests.simulator.test_frontiers import run

EASY = [run(OURS, 0.1, 9.0, 0.995), run("static", 1.0, 8.0, 0.98), run("arrow", 1.0, 9.001, 0.999)]
HARD = [run(OURS, 0.1, 9.0, 0.4), run("static", 1.0, 8.0, 0.5), run("best-static", 1.0, 8.0, 1.0)]
RANKINGS = {"easy@60s": EASY, "hard@60s": [*HARD, Result("hard@60s", Contender("arrow", 1.0), None)]}


def rows(html: str) -> list[list[str]]:
    return [re.findall(r"<td[^>]*>([^<]*)", row.replace("<a href", "<b href")) for row in html.split("<tr")[2:]]


def test_wins_are_shared_and_a_reference_wins_nothing() -> None:
    assert rows(winners(RANKINGS, 0.99)) == [[OURS, "1", "1", "0"], ["arrow", "1", "1", "0"], ["static", "0", "0", "1"]]


def test_the_matrix_tells_cost_where_it_is_reached_and_the_share_where_not() -> None:
    easy, hard = rows(matrix(RANKINGS, 0.99))
    assert easy[1:] == ["9.00", "98.0%", "9.00", "-"]
    assert hard[1:] == ["40.0%", "50.0%", "-", "8.00"]
    assert matrix(RANKINGS, 0.99).count("class=win") == 2

"""Does the first screen of a report name the right winners?"""

from __future__ import annotations

import re

from autoscaler.commands.comparison_overview import answer, matrix, verdict, winners
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


def test_the_answer_names_who_keeps_the_promise_and_who_does_so_for_less() -> None:
    assert answer(RANKINGS, 0.99) == (
        f"{OURS} and arrow (each 1 of 2) answered 99.0% of the requests as promised most often; {OURS} and arrow (each 1 of 2) "
        "most often did so for the fewest GPU-hours. In 1 of the 2 situations nobody did."
    )
    assert answer({"hard": HARD, "harder": HARD}, 0.99).startswith("No autoscaler reached 99.0% in any of 2 situations")
    assert answer({"easy": EASY}, 0.99) == verdict(EASY, 0.99)


def test_a_verdict_tells_by_how_much_and_what_is_possible() -> None:
    oracle = run("oracle", 0.0, 6.0, 0.99)
    assert verdict([*EASY, run("hpa-queue", 5.0, 12.0, 1.0), oracle], 0.99) == (
        f"The cheapest to reach 99.0%: {OURS} with 9.00 GPU-hours; next is arrow with 9.00, 0% more. "
        "Somebody who knows the traffic beforehand (oracle) needs 6.00."
    )
    assert verdict(EASY[:2], 0.99) == f"The cheapest to reach 99.0%: {OURS} with 9.00 GPU-hours, and nobody else did."
    assert verdict(HARD, 0.99) == "No autoscaler reached 99.0%; static came nearest: 50.0%."


def test_a_verdict_on_lines_reads_the_cost_off_them() -> None:
    """97 % for 10 and 99.5 % for 15 make 99 % for 14, less than the 15 of the setting that reaches it."""
    line = [run("arrow", 1.0, 10.0, 0.97), run("arrow", 0.8, 15.0, 0.995)]
    assert verdict([*line, run("static", 1.0, 28.0, 1.0)], 0.99) == (
        "The cheapest to reach 99.0%, at the best point of its line: arrow with 14.00 GPU-hours; "
        "next is static with 28.00, 100% more."
    )

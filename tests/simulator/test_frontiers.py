"""Is the cost at equal attainment what the line between the runs says?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.simulator.contenders import LOWER_BOUND, Contender
from autoscaler.simulator.frontiers import Cost, Kind, costs
from autoscaler.simulator.result import Result
from autoscaler.simulator.score import Score

SCORE = Score(60.0, 10, 10, 0, 0, 0, 0, 0, 0, 10, 1.0, 0.1, dict.fromkeys(Role, 1.0), 0, 0, 0, 0, 0)


def run(name: str, point: float, gpu_hours: float, attainment: float) -> Result:
    return Result("s", Contender(name, point), gpu_hours, replace(SCORE, attainment=attainment))


def line(name: str, *points: tuple[float, float]) -> list[Result]:
    return [run(name, place, hours, attainment) for place, (hours, attainment) in enumerate(points)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (((10.0, 0.97), (15.0, 0.995)), (Kind.INTERPOLATED, 14.0)),
        (((15.0, 0.995), (10.0, 0.97)), (Kind.INTERPOLATED, 14.0)),  # a knob that is turned the other way
        (((10.0, 0.99), (15.0, 0.995)), (Kind.PLAYED, 10.0)),
        (((10.0, 0.90), (12.0, 0.98)), (Kind.NEVER, None)),
        (((20.0, 0.995), (10.0, 0.97), (12.0, 0.991)), (Kind.INTERPOLATED, 10.0 + 2 * 20 / 21)),  # the cheaper of two crossings
    ],
)
def test_a_line_costs_what_it_costs_where_it_passes_the_attainment(
    points: tuple[tuple[float, float], ...], expected: tuple[Kind, float | None]
) -> None:
    (cost,) = costs(line("a", *points), 0.99)
    kind, gpu_hours = expected
    assert cost.kind is kind
    assert cost.gpu_hours == (None if gpu_hours is None else pytest.approx(gpu_hours))


def test_the_cheapest_line_comes_first_and_those_that_never_reach_it_last_the_nearest_first() -> None:
    bound = Result("s", Contender(LOWER_BOUND), 5.0)
    absent = Result("s", Contender("d", 1.0), None)
    runs = [*line("a", (10.0, 0.5)), *line("b", (9.0, 0.9)), *line("c", (30.0, 1.0)), bound, absent]
    assert costs(runs, 0.99) == [
        Cost(LOWER_BOUND, Kind.PLAYED, 5.0, None),
        Cost("c", Kind.PLAYED, 30.0, 1.0),
        Cost("b", Kind.NEVER, None, 0.9),
        Cost("a", Kind.NEVER, None, 0.5),
    ]

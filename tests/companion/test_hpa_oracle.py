"""Does a HorizontalPodAutoscaler make of our metric exactly the count that is published?

Its arithmetic, in our own words, from pkg/controller/podautoscaler/replica_calculator.go and horizontal.go of Kubernetes 1.33 and
later, in its milli-values and its floats: for External metrics the two formulas (AverageValue, Value), the tolerance of a
direction, the step limits of `behavior` with windows of 0, and the bounds. `older` is the test of tolerance before 1.33,
|1 - ratio| <= 0.1, which differs from the present one where floats do: 11 / 10 is within 1 + 0.1, and 1 - 1.1 is -0.1 and a bit.

R is the count that stands, D the one that is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

MILLI = 1000
MOST = 128
COUNTS = range(MOST + 1)
Within = Callable[[float], bool]


def tolerant(down: float, up: float) -> Within:
    """1.33 and later: one tolerance for each direction."""
    low, high = 1.0 - down, 1.0 + up
    return lambda ratio: low <= ratio <= high


def older(ratio: float) -> bool:
    """Before 1.33: one for both, the flag's default."""
    return abs(1.0 - ratio) <= 0.1


EXACT, DEFAULT = tolerant(0.0, 0.0), tolerant(0.1, 0.1)


def average_value(total: int, target: int, status_replicas: int, within: Within) -> int:
    """Of all series together, `target` for each replica; where the ratio is within, the count that the scale's status tells."""
    if status_replicas and within(total / (target * status_replicas)):
        return status_replicas
    return math.ceil(total / target)


def value(total: int, target: int, status_replicas: int, ready_pods: int, within: Within) -> int:
    """`target` for all replicas together; what is ready is multiplied."""
    ratio = total / target
    if status_replicas == 0:
        return math.ceil(ratio)
    return status_replicas if within(ratio) else math.ceil(ratio * ready_pods)


@dataclass(frozen=True)
class Policies:
    """One policy of a direction, or two of which the larger step wins (selectPolicy Max); a period of one look."""

    pods: int
    percent: float = 0.0


LARGE = Policies(1000)
UP_BY_DEFAULT, DOWN_BY_DEFAULT = Policies(4, 100.0), Policies(0, 100.0)


def limited(wanted: int, spec: int, up: Policies, down: Policies) -> int:
    """Up by a percentage is rounded up, down is cut off: so it moves by one at least."""
    if wanted > spec:
        return min(wanted, max(spec + up.pods, math.ceil(spec * (1 + up.percent / 100))))
    return max(wanted, min(spec - down.pods, int(spec * (1 - down.percent / 100))), 0)


def look(published: int, spec: int, within: Within = EXACT, up: Policies = LARGE, down: Policies = LARGE) -> int:
    """One look at a target whose status has caught up with its spec; minReplicas 0 and HPAScaleToZero are on."""
    wanted = average_value(published * MILLI, MILLI, spec, within)
    return min(max(limited(wanted, spec, up, down), 0), MOST)


def settled(published: int, spec: int, within: Within) -> int:
    """Where looks by the default steps end."""
    for _ in range(MOST):
        after = look(published, spec, within, UP_BY_DEFAULT, DOWN_BY_DEFAULT)
        if after == spec:
            break
        spec = after
    return spec


def missed(within: Within) -> dict[int, list[int]]:
    """For each count that stands, the other counts that are published in vain, as differences."""
    found = {spec: [wanted - spec for wanted in COUNTS if look(wanted, spec, within) != wanted] for spec in COUNTS}
    return {spec: differences for spec, differences in found.items() if differences}


def test_with_tolerance_0_and_average_value_1_one_look_makes_every_count_of_every_other() -> None:
    assert [(wanted, spec) for wanted, spec in product(COUNTS, COUNTS) if look(wanted, spec) != wanted] == []


def test_whatever_the_scale_s_status_tells_the_answer_is_the_published_count() -> None:
    """A status lags behind its spec while groups are made; with the default tolerance it may be the answer: what was before."""
    pairs = list(product(COUNTS, COUNTS))
    assert all(average_value(wanted * MILLI, MILLI, told, EXACT) == wanted for wanted, told in pairs)
    assert average_value(11 * MILLI, MILLI, 12, DEFAULT) == 12


def test_the_default_tolerance_swallows_every_tenth_of_the_count_that_stands() -> None:
    """Of 16,512 pairs of different counts 1,461 are never reached, from 10 replicas on; the steps do not matter."""
    lost = missed(DEFAULT)
    assert min(lost) == 10
    assert {spec: lost[spec] for spec in (10, 19, 20, 29, 64)} == {
        10: [-1, 1],
        19: [-1, 1],
        20: [-2, -1, 1, 2],
        29: [-2, -1, 1, 2],
        64: [-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6],
    }
    assert sum(map(len, lost.values())) == 1461
    assert all(settled(spec + change, spec, DEFAULT) == spec for spec, changes in lost.items() for change in changes)


def test_before_tolerances_of_directions_floats_let_some_of_the_edges_through() -> None:
    now, before = missed(DEFAULT), missed(older)
    assert before[10] == [-1]
    assert before[20] == [-2, -1, 1]
    let_through = {(spec, one) for spec, changes in now.items() for one in changes if one not in before.get(spec, [])}
    assert all(abs(one) * 10 == spec for spec, one in let_through)
    assert all(one in now[spec] for spec, changes in before.items() for one in changes)


def test_with_the_default_steps_every_count_is_made_too_in_more_looks() -> None:
    assert [(wanted, spec) for wanted, spec in product(COUNTS, COUNTS) if settled(wanted, spec, EXACT) != wanted] == []
    assert [look(12, spec, EXACT, UP_BY_DEFAULT, DOWN_BY_DEFAULT) for spec in (1, 5, 10)] == [5, 10, 12]


def test_with_the_default_tolerance_the_default_steps_stop_short_of_what_one_large_step_reaches() -> None:
    """4 becomes 8, 16, 32, 64 and would become 70, which is within a tenth of 64."""
    assert (look(70, 4, DEFAULT), settled(70, 4, DEFAULT)) == (70, 64)


def test_type_value_never_shrinks_to_one_and_multiplies_everything_else() -> None:
    """The published sample of another project: target Value 1. Of 4 replicas that are ready, 5 published make 20."""
    assert value(1 * MILLI, MILLI, 7, 7, EXACT) == 7
    assert value(5 * MILLI, MILLI, 4, 4, EXACT) == 20
    assert all(value(wanted * MILLI, MILLI, spec, spec, EXACT) == wanted * spec for wanted in range(2, 9) for spec in range(1, 9))


def test_two_series_of_one_policy_would_be_added_up() -> None:
    assert average_value(2 * 5 * MILLI, MILLI, 5, EXACT) == 10

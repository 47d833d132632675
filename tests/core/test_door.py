"""What is told of the sidecars before a fleet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.door import Door, Verdicts
from tests.examples import examples

RATES = st.floats(0.0, 1e4)
MODES = st.sampled_from(["off", "shadow", "enforce"])
VERDICTS = st.builds(Verdicts, MODES, st.booleans(), st.sampled_from(["fits", "ttft"]), st.sampled_from(["free", "paid"]), RATES)


def test_after_a_change_of_mode_the_one_that_is_judged_in_now_counts() -> None:
    """The counters of the old one stand still until the sidecar is started anew."""
    old, new = Verdicts("shadow", True, "fits", "free", 0.0), Verdicts("enforce", False, "ttft", "free", 0.1)
    assert Door((old, new)).mode == "enforce"


def test_while_nobody_asks_no_mode_is_known() -> None:
    assert Door((Verdicts("shadow", True, "fits", "free", 0.0),)).mode is None
    assert Door(()).mode is None


@examples(50)
@given(st.lists(VERDICTS, max_size=8))
def test_every_verdict_that_is_given_is_told_once_those_against_a_request_first(verdicts: list[Verdicts]) -> None:
    told = Door(tuple(verdicts)).rates()
    assert sorted(map(repr, told)) == sorted(repr(one) for one in verdicts if one.rps > 0)
    assert [one.admit for one in told] == sorted(one.admit for one in told)
    for admit in (False, True):
        rates = [one.rps for one in told if one.admit is admit]
        assert rates == sorted(rates, reverse=True)

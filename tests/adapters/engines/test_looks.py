"""Successive looks: only several quiet ones in a row, apart, with nothing held for anybody, make an engine idle.

Laws: whatever comes last and is not quiet leaves no count; a count has so many quiet looks behind it, and has taken its time.
"""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.engines.client import EngineFault, FaultKind
from autoscaler.adapters.engines.idle import APART_S, LEASE_S, Load, Looks

QUIET, BUSY = Load(0), Load(2)
HELD, UNTOLD = Load(0, held=0.4), Load(0, held=None)
GONE = EngineFault(FaultKind.UNREACHABLE, "127.0.0.1:8000: /metrics: [Errno 111] Connection refused")
Found = Load | EngineFault
Timeline = list[tuple[float, Found]]

found = st.sampled_from([QUIET, BUSY, HELD, UNTOLD, GONE, Load(0, ("vllm:num_requests_running",))])
steps = st.lists(st.tuples(st.sampled_from([0.0, 0.5, APART_S, 1.0, LEASE_S]), found), max_size=12)
timelines = steps.map(lambda row: [(sum(later_s for later_s, _ in row[: n + 1]), look) for n, (_, look) in enumerate(row)])


def told(*looks: tuple[float, Found]) -> Looks:
    looked = Looks()
    for now, one in looks:
        looked = looked.after(one, now)
    return looked


def counts(*looks: tuple[float, Found]) -> list[int]:
    return [told(*looks[:n]).count for n in range(1, len(looks) + 1)]


def test_quiet_looks_in_a_row_are_counted() -> None:
    assert counts((0.0, QUIET), (1.0, QUIET), (2.0, QUIET)) == [1, 2, 3]


def test_one_request_begins_the_count_anew() -> None:
    assert counts((0.0, QUIET), (1.0, QUIET), (2.0, BUSY), (3.0, QUIET), (4.0, QUIET)) == [1, 2, 0, 1, 2]


def test_so_does_a_look_that_finds_nobody_and_it_says_why() -> None:
    looked = told((0.0, BUSY), (1.0, QUIET), (2.0, GONE))
    assert (looked.count, looked.why, looked.requests) == (0, GONE.detail, 0)


def test_looks_in_quick_succession_are_one() -> None:
    assert counts((0.0, QUIET), (0.01, QUIET), (0.5, QUIET), (0.95, QUIET), (1.9, QUIET)) == [1, 1, 1, 2, 3]


def test_what_is_not_told_may_be_a_request() -> None:
    looked = told((0.0, BUSY), (1.0, Load(0, ("vllm:num_requests_waiting",))))
    assert (looked.count, looked.requests) == (0, 2)
    assert looked.why == "does not tell vllm:num_requests_waiting, so it may have requests"


def test_kv_that_is_still_to_be_fetched_delays_until_it_is() -> None:
    assert counts((0.0, BUSY), (1.0, HELD), (2.0, HELD), (3.0, QUIET), (4.0, Load(0, held=0.0009))) == [0, 0, 0, 1, 2]
    assert told((0.0, HELD), (4.0, HELD)).why == "40.0% of its KV memory is still to be fetched; waits 26 s more at most"


def test_or_until_its_lease_is_over_counted_from_the_first_quiet_look() -> None:
    assert counts((0.0, BUSY), (1.0, HELD), (1.0 + LEASE_S - 0.1, HELD), (1.0 + LEASE_S, HELD)) == [0, 0, 0, 1]
    assert counts((0.0, HELD), (LEASE_S - 1, BUSY), (LEASE_S, HELD)) == [0, 0, 0]


def test_a_longer_lease_is_waited_for() -> None:
    looked = Looks().after(HELD, 0.0, 480.0).after(HELD, 479.0, 480.0)
    assert looked.count == 0
    assert looked.after(HELD, 480.0, 480.0).count == 1


def test_an_engine_that_does_not_tell_what_it_holds_waits_for_the_lease() -> None:
    assert counts((0.0, UNTOLD), (LEASE_S, UNTOLD)) == [0, 1]


def test_a_clock_that_goes_back_begins_the_count_anew() -> None:
    assert counts((1000.0, QUIET), (1001.0, QUIET), (5.0, QUIET), (6.0, QUIET)) == [1, 2, 1, 2]


@given(timelines, st.sampled_from([BUSY, GONE, Load(0, ("x",))]))
def test_whatever_went_before_one_that_is_not_quiet_leaves_no_count(before: Timeline, last: Found) -> None:
    looked = told(*before, (before[-1][0] + 1.0 if before else 0.0, last))
    assert looked.count == 0
    assert looked.quiet_since_s is None
    assert looked.why


@given(timelines)
def test_a_count_has_its_looks_and_has_taken_its_time(looks: Timeline) -> None:
    count = told(*looks).count
    row = list(takewhile(lambda look: isinstance(look[1], Load) and look[1].quiet, reversed(looks)))
    assert count <= len(row)
    assert not count or row[0][0] - row[-1][0] >= (count - 1) * APART_S - 1e-6

"""Does a tape give back what was put on it, as often as it is asked, in little memory?"""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.tape import LONGEST_TOKENS, Tape
from autoscaler.simulator.workload import Request
from tests.examples import examples

TOKENS = st.integers(0, LONGEST_TOKENS)
ROWS = st.lists(st.tuples(st.floats(0, 1e6), TOKENS, TOKENS, TOKENS, st.lists(st.integers(0, 2**50)).map(tuple)), max_size=5)


@given(rows=ROWS)
@examples(20)
def test_what_is_read_is_what_was_put_on(rows: list[tuple[float, int, int, int, tuple[int, ...]]]) -> None:
    requests = [Request(place, *row) for place, row in enumerate(rows)]
    tape = Tape(iter(requests), blocks=True)
    assert (len(tape), list(tape), list(tape)) == (len(requests), requests, requests)
    assert [one.blocks for one in Tape(iter(requests))] == [()] * len(requests)


def test_a_request_takes_twenty_bytes_and_no_more_than_a_growing_array_wastes() -> None:
    tape = Tape(Request(at, at / 10, 100, 0, 10) for at in range(10_000))
    held = sum(sys.getsizeof(getattr(tape, name)) for name in ("_arrivals_s", "_prompts", "_cached", "_outputs"))
    assert held < 1.2 * 20 * 10_000

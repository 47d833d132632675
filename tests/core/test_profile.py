"""Does a replica's timing follow its coefficients, in one piece and in two?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.profile import ReplicaProfile

# 20 ms + 0.04 ms per request + 0.6 us per token; from 95 requests on 9 ms + 0.16 ms per request.
BENT = ReplicaProfile(
    "bent", (0.0, 1e-4, 0.0), (0.020, 4e-5, 6e-7), kv_tokens=100_000, decode_beyond=(95.0, (0.009, 1.6e-4, 6e-7))
)


@pytest.mark.parametrize(
    ("requests", "step_ms"),
    [
        (1, 20 + 0.04 + 6),
        (94, 20 + 3.76 + 6),
        (95, 9 + 15.2 + 6),
        (200, 9 + 32 + 6),
    ],
)
def test_a_step_follows_the_piece_its_batch_falls_into(requests: int, step_ms: float) -> None:
    assert BENT.step_time_s(requests, 10_000) * 1000 == pytest.approx(step_ms)


def test_without_a_second_piece_any_batch_follows_the_first() -> None:
    assert replace(BENT, decode_beyond=None).step_time_s(200, 0) * 1000 == pytest.approx(20 + 8)


@pytest.mark.parametrize(
    ("beyond", "shorter"),
    [
        ((0.009, 1.6e-4, 6e-7), None),
        ((0.008, 1.6e-4, 6e-7), (0.0238, 0.0232)),  # 20 + 3.8 against 8 + 15.2 ms, with an empty cache
        ((0.009, 1.6e-4, 5e-7), (0.0838, 0.0742)),  # the same and 60 against 50 ms, with a full one
    ],
)
def test_a_second_piece_that_makes_a_step_shorter_is_found(
    beyond: tuple[float, float, float], shorter: tuple[float, float] | None
) -> None:
    found = replace(BENT, decode_beyond=(95.0, beyond)).shorter_beyond
    assert found == (None if shorter is None else pytest.approx(shorter))

"""How long until a shift is over?"""

from __future__ import annotations

import pytest

from autoscaler.simulator.recovery import Windows


def windows(*shares: float | None) -> Windows:
    """Ten requests in each window of 30 s, of which this share was met; None: nothing arrived."""
    seen = Windows()
    for window, share in enumerate(shares):
        for request in range(0 if share is None else 10):
            seen.decided(window * 30.0 + request, request < 10 * (share or 0.0))
    return seen


def test_a_shift_lasts_until_the_last_bad_window_is_over() -> None:
    seen = windows(1.0, 1.0, 0.5, 1.0, 0.8, 1.0, 1.0)
    assert seen.recovery_s(65.0, 0.9) == pytest.approx(150.0 - 65.0)
    assert seen.recovery_s(65.0, 0.8) == pytest.approx(90.0 - 65.0)


def test_a_shift_that_hurt_nobody_is_over_at_once() -> None:
    assert windows(0.0, 1.0, 1.0).recovery_s(30.0, 0.99) == 0.0


def test_what_is_still_bad_at_the_next_shift_or_the_end_has_not_recovered() -> None:
    seen = windows(1.0, 0.5, 1.0, 0.5)
    assert seen.recovery_s(30.0, 0.9) is None
    assert seen.recovery_s(30.0, 0.9, until_s=90.0) == pytest.approx(30.0)
    assert seen.recovery_s(30.0, 0.9, until_s=60.0) is None


def test_windows_without_requests_say_nothing() -> None:
    assert windows(1.0, 0.5, None, None, 1.0).recovery_s(30.0, 0.9) == pytest.approx(30.0)
    assert windows().recovery_s(0.0, 0.9) == 0.0


def test_attainment_is_told_per_window_in_order() -> None:
    assert windows(1.0, None, 0.5).attainment() == {0.0: 1.0, 60.0: 0.5}

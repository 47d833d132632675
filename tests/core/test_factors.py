"""Do the factors find what differs from a formula, and only that, however odd the windows are?"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.factors import (
    MEMORY,
    NOISE_LEAST,
    NOISE_MOST,
    PERSIST,
    Fit,
    Prior,
    Triple,
    Window,
    around,
    level,
    nearer,
    taught,
)
from tests.examples import examples

PRIOR = Prior()
HERE: Triple = (0.02, 0.2, 0.02)
FAR: Triple = (0.02, 0.8, 0.32)
TRUTH: Triple = (1.3, 1.6, 0.7)

seconds = st.floats(1e-6, 1e6)
windows = st.builds(Window, st.tuples(seconds, st.just(0.0) | seconds, st.just(0.0) | seconds), seconds)


def window(terms: Triple = HERE, factors: Triple = (1.6, 1.6, 1.6), times: float = 1.0) -> Window:
    return Window(terms, times * sum(factor * term for factor, term in zip(factors, terms, strict=True)))


def fitted(seen: Iterable[Window], prior: Prior = PRIOR, fit: Fit | None = None) -> Fit:
    fit = fit or Fit()
    for one in seen:
        fit = taught(fit, one, prior)
    return fit


KNOWN = fitted([window()] * 30)


def test_before_so_many_windows_nothing_is_said() -> None:
    few = fitted([window()] * (PERSIST - 1))
    assert (few.factors, few.said(HERE), few.error(HERE)) == (None, None, math.inf)
    assert fitted([window()] * PERSIST).factors is not None


def test_at_one_point_all_factors_move_together() -> None:
    assert KNOWN.factors == pytest.approx((1.6, 1.6, 1.6), rel=0.01)


def test_windows_at_different_points_tell_the_terms_apart() -> None:
    terms = [(0.02, 0.1 * step, 0.005 * step * step) for step in (1, 2, 4, 8)]
    found = fitted(window(point, TRUTH) for _ in range(100) for point in terms)
    for point in terms:
        assert found.said(point) == pytest.approx(window(point, TRUTH).seconds, rel=0.02)
    assert found.factors == pytest.approx(TRUTH, rel=0.25)  # the constant is a fifth of the smallest time, and less elsewhere


def test_the_error_is_larger_where_nothing_was_seen() -> None:
    assert KNOWN.error(HERE) < 0.02 < KNOWN.error((0.2, 0.02, 0.02))


@examples(12)
@given(st.lists(windows, max_size=9))
def test_whatever_is_seen_the_factors_are_finite_and_bounded(seen: list[Window]) -> None:
    found = fitted(seen)
    for factor in found.factors or ():
        assert PRIOR.least <= factor <= PRIOR.most
    assert NOISE_LEAST <= found.noise <= NOISE_MOST
    assert len(found.doubted) < PERSIST
    assert not math.isnan(found.error(HERE))


@examples(12)
@given(st.lists(windows, min_size=PERSIST, max_size=PERSIST), st.randoms(use_true_random=False))
def test_the_order_of_the_first_windows_does_not_matter(seen: list[Window], order: random.Random) -> None:
    assert fitted(order.sample(seen, PERSIST)).factors == fitted(seen).factors


@given(st.lists(st.floats(1.25, 1e3) | st.floats(1e-3, 0.8), min_size=1, max_size=PERSIST - 1))
def test_odd_windows_change_no_factor_while_they_do_not_persist(poison: list[float]) -> None:
    odd = fitted([window(times=times) for times in poison], fit=KNOWN)
    assert odd.factors == KNOWN.factors
    assert odd.windows == KNOWN.windows
    assert len(odd.doubted) >= 1


@given(st.lists(st.sampled_from((3.1, 30.0, 0.3)), max_size=30))
def test_threefold_stalls_between_sound_windows_are_never_believed(poison: list[float]) -> None:
    """One sound window clears the doubt; and too slow beside too fast says nothing."""
    found = KNOWN
    for times in poison:
        found = fitted([window(times=times), window()], fit=found)
        assert found.factors == pytest.approx((1.6, 1.6, 1.6), rel=1e-6)


@pytest.mark.parametrize("times", [1.4, 2.4, 0.5, 0.2])
def test_what_persists_is_believed(times: float) -> None:
    found = fitted([window(times=times)] * PERSIST, fit=KNOWN)
    assert found.said(HERE) == pytest.approx(min(4.0, 1.6 * times) * sum(HERE), rel=0.02)
    assert found.doubted == ()


def test_a_stall_among_the_first_windows_is_outvoted() -> None:
    found = fitted([window(times=100.0), window(), window(), window(times=20.0)])
    assert found.factors == pytest.approx((1.6, 1.6, 1.6), rel=0.2)


def test_a_small_drift_is_followed_within_the_memory() -> None:
    found = fitted([window(times=1.1)] * round(1 / (1 - MEMORY)), fit=KNOWN)
    assert 1.06 < (found.said(HERE) or 0.0) / window().seconds < 1.1


def test_a_day_at_one_point_forgets_what_was_known_of_the_others_and_not_the_point() -> None:
    apart = fitted(window(point, TRUTH) for _ in range(30) for point in (HERE, FAR))
    later = fitted([window(HERE, TRUTH)] * 1440, fit=apart)
    assert apart.factors is not None
    assert later.factors is not None
    assert later.said(HERE) == pytest.approx(window(HERE, TRUTH).seconds, rel=0.01)
    assert max(later.factors) / min(later.factors) < max(apart.factors) / min(apart.factors)
    assert later.error(FAR) > apart.error(FAR)


def test_noise_is_learned_and_makes_the_fit_less_sure() -> None:
    rng = random.Random(1)
    noisy = fitted(window(times=rng.gauss(1.0, 0.15)) for _ in range(200))
    assert 0.08 < noisy.noise < 0.25
    assert noisy.error(HERE) > 2 * KNOWN.error(HERE)
    assert noisy.factors == pytest.approx((1.6, 1.6, 1.6), rel=0.1)


def test_the_covariance_stays_one_over_thousands_of_windows() -> None:
    rng, found = random.Random(2), KNOWN
    for _ in range(300):
        scale = rng.uniform(0.2, 5.0)
        terms = (0.02, 0.2 * scale, 0.02 * scale * scale)
        found = taught(found, window(terms, TRUTH, rng.gauss(1.0, 0.05)), PRIOR)
        assert min(found.spread[at][at] for at in range(3)) > 0
    for terms in (HERE, FAR, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        assert 0 < found.error(terms) < 0.5


@examples(12)
@given(st.tuples(*[st.floats(0.25, 4.0)] * 3), st.lists(windows, min_size=5, max_size=9), st.floats(0.03, 0.2), st.floats(0, 0.1))
def test_a_step_towards_a_fit_moves_times_that_way_by_at_most_what_is_allowed_and_ends(
    factors: Triple, seen: list[Window], play: float, most: float
) -> None:
    found = fitted(seen)
    wanted = found.factors or factors
    moved = nearer(factors, found, play, most)
    for terms in around(found.terms):
        before, after, aim = (level(each, terms) for each in (factors, moved, wanted))
        assert abs(math.log(after / before)) <= most + 1e-9
        assert min(before, aim) * (1 - 1e-9) <= after <= max(before, aim) * (1 + 1e-9)
    there = nearer(factors, found, play, 100.0)
    assert nearer(there, found, play, 100.0) == there

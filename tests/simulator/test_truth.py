"""Does the simulator agree with what is known? The trials of `make bench NAME=truth`, shorter where they can be.

The mean wait of 10^5 prompts, a tenth of the bench's, has a standard error of 0.9 to 3.5 %. So it is held to three times
the error that the run itself tells, and that error to 4 % of the wait.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.trials import early_rejection, per_gpu, ratio_walk, split_curve
from tests.bench.trials.finding import Check, Finding, Rule
from tests.bench.trials.queues import SERVICE_S, SIGMA, WIDE_SIGMA, allen_cunneen_s, cosmetatos_s, erlang_s, path, queue

PROMPTS = 100_000
TRACES = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no {TRACES} (PDA_SHARED names the folder above traces)")


def checks(found: list[Finding]) -> dict[str, Check]:
    return {one.name: one for one in found if isinstance(one, Check)}


def missed(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if not check.met}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("servers", "utilisation", "sigma"), [(1, 0.3, 0.0), (1, 0.6, 0.0), (1, 0.5, SIGMA), (4, 0.7, 0.0), (4, 0.5, SIGMA)]
)
def test_mean_wait_is_that_of_queueing_theory_within_its_standard_error(servers: int, utilisation: float, sigma: float) -> None:
    check = queue(servers, utilisation, PROMPTS, 0.0, sigma)
    assert check.standard_error is not None
    assert check.standard_error < 0.04 * check.reference
    assert abs(check.measured - check.reference) < 3 * check.standard_error, check


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [SIGMA, WIDE_SIGMA])
def test_replicas_behind_a_gateway_that_holds_serve_each_prompt_when_the_recursion_says(sigma: float) -> None:
    check = path(4, 0.7, 20_000, sigma)
    assert check.met, check


def test_the_approximations_for_many_servers_are_exact_where_they_must_be() -> None:
    assert cosmetatos_s(1, 0.6) == pytest.approx(0.6 * SERVICE_S / (2 * 0.4))
    assert allen_cunneen_s(1, 0.6, 0.0) == pytest.approx(cosmetatos_s(1, 0.6))
    assert erlang_s(1, 0.6) == pytest.approx(0.6 * SERVICE_S / 0.4)  # M/M/1
    assert erlang_s(2, 0.6) == pytest.approx(0.6**2 * SERVICE_S / (1 - 0.6**2))  # M/M/2


@pytest.mark.slow
def test_two_prefill_and_one_decode_replica_do_most_per_gpu() -> None:
    """DistServe's example: 10 / 3 = 3.3 requests/s and GPU, against 2.8 of 1P1D, 2.5 of 3P1D and 1.9 of 1P2D."""
    found = checks(list(per_gpu.trial()))
    assert missed(found) == set()
    assert max(found, key=lambda name: found[name].measured) == "distserve_2p1d_rps_per_gpu"


@needs_traces
@pytest.mark.slow
def test_sixteen_nodes_have_one_best_split_near_half_and_half() -> None:
    assert missed(checks(list(split_curve.trial(TRACES)))) == set()


@pytest.mark.parametrize(
    ("values", "count"), [([1, 3, 2], 1), ([1, 2, 3], 1), ([3, 1, 2], 2), ([1, 3, 3, 2], 1), ([2, 2], 1), ([1, 3, 2, 3], 2)]
)
def test_peaks_are_counted_at_the_ends_too(values: list[float], count: int) -> None:
    assert split_curve.peaks(values) == count


@pytest.mark.slow
def test_flips_in_place_beat_any_fixed_split_and_cold_ones_lose_only_when_restless() -> None:
    """The published order needs the published number of flips: three cold ones still beat the best fixed split."""
    found = checks(list(ratio_walk.trial(seeds=(1,))))
    assert missed(found) == {"walk_rare_cold"}
    assert found["walk_rare_cold"].measured < found["walk_rare_switch"].measured


@needs_traces
@pytest.mark.slow
def test_early_rejection_saves_most_wasted_prefills_and_swings_less_than_published() -> None:
    found = checks(list(early_rejection.trial(TRACES)))
    swings = {"rejection_early_prefill_swing", "rejection_early_decode_swing"}
    assert missed(found) == {*swings, "rejection_predicted_anti_phase"}
    assert all(found[name].measured < found[name].reference for name in swings)


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        (Rule.NEAR, [False, True, True, False]),
        (Rule.AT_LEAST, [False, True, True, True]),
        (Rule.AT_MOST, [True, True, True, False]),
    ],
)
def test_a_rule_says_on_which_side_a_figure_may_be(rule: Rule, met: list[bool]) -> None:
    assert [Check("x", "", measured, 2.0, 0.1, rule).met for measured in (1.7, 1.9, 2.1, 2.3)] == met

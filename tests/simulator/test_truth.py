"""Does the simulator agree with queueing theory and with DistServe's arithmetic? `make bench NAME=truth` has the long runs."""

from __future__ import annotations

import pytest

from tests.bench.truth import SERVICE_S, Check, cosmetatos_s, one_queue, per_gpu, shared_queue

COUNT = 100_000


@pytest.mark.slow
@pytest.mark.parametrize(("utilisation", "sigma"), [(0.3, 0.0), (0.6, 0.0), (0.5, 0.8)])
def test_mean_wait_at_one_replica_is_that_of_pollaczek_and_khinchine(utilisation: float, sigma: float) -> None:
    check = one_queue(utilisation, COUNT, 0.03, sigma)
    assert check.met, check


@pytest.mark.slow
def test_replicas_behind_a_gateway_that_holds_wait_like_one_queue() -> None:
    check = shared_queue(4, 0.7, COUNT, 0.03)
    assert check.met, check


def test_the_approximation_for_many_servers_is_exact_for_one() -> None:
    assert cosmetatos_s(1, 0.6) == pytest.approx(0.6 * SERVICE_S / (2 * 0.4))


@pytest.mark.slow
def test_two_prefill_and_one_decode_replica_do_most_per_gpu() -> None:
    """DistServe's example: 10 / 3 = 3.3 requests/s and GPU, against 2.8 of 1P1D, 2.5 of 3P1D and 1.9 of 1P2D."""
    found = {split: per_gpu(*split) for split in ((1, 1), (2, 1), (3, 1), (1, 2))}
    assert [check for check in found.values() if not check.met] == []
    assert max(found, key=lambda split: found[split].measured) == (2, 1)


def test_a_miss_is_a_miss_on_either_side() -> None:
    assert [Check("x", measured, 2.0, 0.1).met for measured in (1.7, 1.9, 2.1, 2.3)] == [False, True, True, False]

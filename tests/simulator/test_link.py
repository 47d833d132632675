"""Do transfers share a network as processor sharing says?"""

from __future__ import annotations

from random import Random

import pytest

from autoscaler.simulator.events import Agenda, Job
from autoscaler.simulator.link import SharedLink
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import changed

# 1 kB per token, 1 MB/s per replica, 0.25 s to set up
PROFILE = changed(kv_bytes_per_token=1_000, link_bytes_per_s=1e6, link_base_s=0.25)


def arrivals(bytes_per_s: float, *sends: tuple[float, int]) -> dict[int, float]:
    """When the transfers arrive that set off at these moments with so many tokens."""
    agenda, arrived = Agenda(), {}
    link = SharedLink(bytes_per_s, PROFILE, agenda)

    def note(job: Job, now: float) -> None:
        arrived[job.request.id] = now

    for number, (at_s, tokens) in enumerate(sends):
        agenda.at(at_s, lambda job, now: link.send(job, note, now), Job(Request(number, at_s, tokens, 0, 1), at_s))
    while agenda.next_s < 1e9:
        agenda.run_next()
    assert len(link) == 0
    return arrived


def test_alone_a_transfer_has_its_replicas_link_and_no_more() -> None:
    assert arrivals(1e9, (1.0, 500)) == pytest.approx({0: 1.75})


def test_two_share_what_is_too_little_for_both() -> None:
    """1 MB/s for both: 500 kB each take 1 s instead of 0.5 s."""
    assert arrivals(1e6, (0.0, 500), (0.0, 500)) == pytest.approx({0: 1.25, 1: 1.25})


def test_who_comes_later_slows_down_who_is_under_way_and_speeds_up_when_that_is_through() -> None:
    """A alone until 0.5 s (500 kB); both at 0.5 MB/s until B's 200 kB are through at 0.9 s; A's last 300 kB alone."""
    assert arrivals(1e6, (0.0, 1_000), (0.5, 200)) == pytest.approx({0: 1.2 + 0.25, 1: 0.9 + 0.25})


def test_a_wide_network_slows_nobody_down() -> None:
    assert arrivals(3e6, *[(0.0, 500)] * 3) == pytest.approx(dict.fromkeys(range(3), 0.75))


def test_mean_time_of_many_is_that_of_an_m_d_1_processor_sharing_queue() -> None:
    """D / (1 - rho), whatever the sizes are: M/G/1-PS is insensitive to them. Here D = 0.1 s, rho = 0.5."""
    rng, now, sends = Random(1), 0.0, []
    for _ in range(20_000):
        now += rng.expovariate(5.0)
        sends.append((now, 100))
    ends = arrivals(1e6, *sends)
    mean_s = sum(ends[number] - at_s - 0.25 for number, (at_s, _) in enumerate(sends)) / len(sends)
    assert mean_s == pytest.approx(0.1 / (1 - 0.5), rel=0.03)


def test_a_network_without_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="network_bytes_per_s 0 is not > 0"):
        SharedLink(0.0, PROFILE, Agenda())

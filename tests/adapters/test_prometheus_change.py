"""What is told of a pod while it changes its role, or the names of its metrics, within the rate window?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Signals, Unknown
from tests.adapters.fake_cluster import FLIP, FLIPPED, PREFILL, RESPELT, WINDOW_S, Cluster, known, pod
from tests.adapters.fake_pages import negotiated

pytestmark = pytest.mark.prometheus


@pytest.fixture(scope="module")
def change(cluster: Cluster) -> Mapping[str, tuple[Signals, Signals]]:
    """Two pods change, one its role and one its names: what is read of both before, within a window, and after it."""
    read = {"before": (cluster.read(FLIP), cluster.read(RESPELT))}
    cluster.flipping.works_as(PREFILL)
    cluster.exporters.add_page("respelt-p-0", negotiated(cluster.respelling), namespace="prod", pod="respelt-p-0")
    cluster.scrapes(2)
    read["within"] = (cluster.read(replace(FLIPPED, moved=frozenset({"flip-x-0"}))), cluster.read(RESPELT))
    cluster.scrapes(int(WINDOW_S) + 1)
    return read | {"after": (cluster.read(FLIPPED), cluster.read(RESPELT))}


def test_a_pods_gauges_are_of_its_new_role_at_once(change: Mapping[str, tuple[Signals, Signals]]) -> None:
    assert {pod(flip, "flip-x-0").running for flip, _ in change.values()} == {30}


def test_the_role_that_a_pod_left_forgets_it_at_once(change: Mapping[str, tuple[Signals, Signals]]) -> None:
    told = {when: known(flip.roles[Role.DECODE].tokens_per_request) for when, (flip, _) in change.items()}
    assert told == pytest.approx({"before": 155, "within": 100, "after": 100}, rel=0.02)  # two pods, not scraped at once


def test_what_a_pod_did_in_its_old_role_is_never_laid_to_the_new_one(change: Mapping[str, tuple[Signals, Signals]]) -> None:
    """Requests that it decoded have one computed token each, against 1,200."""
    told = [known(flip.roles[Role.PREFILL].tokens_per_request) for flip, _ in change.values()]
    assert told == pytest.approx([1200, 1200, 1200])


def test_a_pod_whose_names_change_is_unknown_for_one_window_and_never_counted_twice(
    change: Mapping[str, tuple[Signals, Signals]],
) -> None:
    before, within, after = (respelt for _, respelt in change.values())
    assert pod(before, "respelt-p-0").running == pod(after, "respelt-p-0").running == 7
    assert isinstance(within.gauges, Unknown)
    assert within.gauges.gap is Gap.SERVER_ERROR
    assert "same labelset" in within.gauges.detail
    assert known(after.traffic.offered_rps) == pytest.approx(10, rel=0.5)

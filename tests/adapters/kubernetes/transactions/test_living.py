"""Is a fleet seen as it is going to be, and is each of its GPUs counted once at every step?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.core.fleet import Phase, Role
from autoscaler.core.transaction import Kind, Step, Transaction
from tests.adapters.kubernetes.transactions.standing_fleet import (
    NOW,
    D,
    P,
    fleet,
    ground,
    moving,
    pod,
    pods,
    standing,
    undone,
)

GOING: dict[str, Any] = {"leaving_s": NOW - 3.0}


def wished(of: Ground) -> tuple[int, int]:
    return of.pools[P].desired, of.pools[D].desired


def phases(of: Ground, role: Role) -> list[str]:
    return [f"{one.name} {one.phase}" for one in of.pools[role].replicas]


def test_a_replica_does_the_role_of_its_label_and_counts_where_it_works() -> None:
    lent = ground(standing(3, *pods(P, 0, 1, 2, at_0="decode")))
    assert wished(lent) == (2, 3)
    assert phases(lent, D) == ["prefill-0 serving", "decode-0 serving", "decode-1 serving"]
    assert fleet(lent).gpus_held == 5


def test_without_a_label_a_replica_does_its_targets_role() -> None:
    assert wished(ground(standing(3, *pods(P, 0, 1, 2, at_0="decode")), routed=False)) == (3, 2)


def test_a_replica_that_was_taken_out_by_somebody_is_stuck_and_told() -> None:
    seen = ground(standing(3, *pods(P, 0, 1, 2, at_1="draining")))
    assert phases(seen, P) == ["prefill-0 serving", "prefill-1 stuck", "prefill-2 serving"]
    assert (wished(seen), fleet(seen).gpus_held) == ((3, 2), 5)
    assert seen.left_out == (
        "prefill-1 serves nobody: label llm-d.ai/role is draining and nothing is under way for it; give it its role's value",
    )
    assert ground(seen.standings[P], 2, moving(Kind.SWITCH, Step.IDLE, ["prefill-1"])).left_out == ()


def test_a_replica_has_its_role_since_its_label_was_written() -> None:
    flipped = pod("prefill-0", "decode", written_s=NOW - 20.0)
    seen = ground(standing(2, flipped, *pods(P, 1)))
    assert seen.pools[D].replicas[0].since_s == NOW - 20.0
    assert seen.pools[P].replicas[0].since_s == 1000.0


# What stands of prefill (3 before) at each step: (step, its count, its pods, decode's, wished, GPUs held).
STAYS = pods(P, 0, 1)
ALL = pods(P, 0, 1, 2)
LEFT = [*STAYS, pod("prefill-2", "draining")]
ENDING = [*STAYS, pod("prefill-2", "draining", **GOING)]
JOURNEYS = [
    *((Kind.DRAIN, step, 3, LEFT, 2, (2, 2), 5) for step in (Step.LEAVE, Step.IDLE, Step.SHRINK)),
    pytest.param(Kind.DRAIN, Step.SHRINK, 2, ENDING, 2, (2, 2), 5, id="drain: the list tells of the lower count"),
    (Kind.DRAIN, Step.GONE, 2, ENDING, 2, (2, 2), 5),
    pytest.param(Kind.DRAIN, Step.GONE, 2, STAYS, 2, (2, 2), 4, id="drain: its pod is gone"),
    pytest.param(Kind.DRAIN, Step.IDLE, 3, STAYS, 2, (2, 2), 5, id="drain: its pod is missing and comes back"),
    *((Kind.DRAIN_FIRST, step, 3, LEFT, 2, (2, 3), 5) for step in (Step.LEAVE, Step.IDLE, Step.SHRINK)),
    pytest.param(Kind.DRAIN_FIRST, Step.LEAVE, 3, STAYS, 2, (2, 3), 5, id="drainFirst: missing"),
    (Kind.DRAIN_FIRST, Step.GONE, 2, ENDING, 2, (2, 3), 5),
    pytest.param(Kind.DRAIN_FIRST, Step.GONE, 2, STAYS, 2, (2, 3), 5, id="drainFirst: gone"),
    (Kind.DRAIN_FIRST, Step.GROW, 2, STAYS, 2, (2, 3), 5),
    (Kind.DRAIN_FIRST, Step.READY, 2, STAYS, 3, (2, 3), 5),
    *((Kind.SURGE_FIRST, Step.GROW, 3, ALL, count, (2, 3), 6) for count in (2, 3)),
    (Kind.SURGE_FIRST, Step.READY, 3, ALL, 3, (2, 3), 6),
    pytest.param(Kind.SURGE_FIRST, Step.READY, 3, STAYS, 3, (2, 3), 6, id="surgeFirst: missing"),
    *((Kind.SURGE_FIRST, step, 3, LEFT, 3, (2, 3), 6) for step in (Step.LEAVE, Step.IDLE, Step.SHRINK)),
    (Kind.SURGE_FIRST, Step.GONE, 2, ENDING, 3, (2, 3), 6),
    pytest.param(Kind.SURGE_FIRST, Step.GONE, 2, STAYS, 3, (2, 3), 5, id="surgeFirst: gone"),
    *((Kind.SWITCH, step, 3, LEFT, 2, (2, 3), 5) for step in (Step.LEAVE, Step.IDLE, Step.SWITCH, Step.JOIN)),
    pytest.param(Kind.SWITCH, Step.JOIN, 3, [*STAYS, pod("prefill-2", "decode")], 2, (2, 3), 5, id="switch: let in"),
    (Kind.RELABEL, Step.JOIN, 3, ALL, 2, (2, 3), 5),
]


@pytest.mark.parametrize(("kind", "step", "count", "stands", "decode", "wish", "gpus"), JOURNEYS)
def test_no_step_changes_the_wished_counts_and_none_counts_a_gpu_twice_or_loses_one(  # noqa: PLR0917
    kind: Kind, step: Step, count: int, stands: list[object], decode: int, wish: tuple[int, int], gpus: int
) -> None:
    seen = ground(standing(count, *stands), decode, moving(kind, step, ["prefill-2"]))  # type: ignore[arg-type]
    assert (wished(seen), fleet(seen).gpus_held) == (wish, gpus)


BACK = [
    (undone(Kind.DRAIN, Step.IDLE, Step.REJOIN, ["prefill-2"]), 3, LEFT, 2, (3, 2), 5),
    (undone(Kind.SWITCH, Step.SWITCH, Step.REMAKE, ["prefill-2"]), 3, LEFT, 2, (3, 2), 5),
    (undone(Kind.SURGE_FIRST, Step.READY, Step.UNGROW, ["prefill-2"]), 3, ALL, 3, (3, 2), 6),
    (undone(Kind.SURGE_FIRST, Step.IDLE, Step.REJOIN, ["prefill-2"]), 3, LEFT, 3, (3, 3), 6),
    (undone(Kind.DRAIN_FIRST, Step.READY, Step.UNGROW, ["prefill-2"]), 2, STAYS, 3, (3, 2), 5),
    (undone(Kind.DRAIN_FIRST, Step.READY, Step.REGROW, ["prefill-2"]), 2, STAYS, 2, (3, 2), 5),
]


@pytest.mark.parametrize(("one", "count", "stands", "decode", "wish", "gpus"), BACK)
def test_the_same_holds_on_the_way_back(
    one: Transaction, count: int, stands: list[object], decode: int, wish: tuple[int, int], gpus: int
) -> None:
    seen = ground(standing(count, *stands), decode, one)  # type: ignore[arg-type]
    assert (wished(seen), fleet(seen).gpus_held) == (wish, gpus)


def test_of_two_for_one_what_has_gone_already_is_promised_and_held_by_nobody() -> None:
    """Two TP2 that drain for one TP4: 8 GPUs in all whether both stand, one is gone, or both are."""
    pools = {
        "prefill": {"target": {"name": "p"}, "max": 4, "gpusPerReplica": 2},
        "decode": {"target": {"name": "d"}, "max": 4, "gpusPerReplica": 4},
    }
    names = ["prefill-1", "prefill-2"]
    one = moving(Kind.DRAIN_FIRST, Step.GONE, names, {P: 3, D: 1})
    ends = [pod(name, "draining", **GOING) for name in names]
    for left in (ends, ends[:1], []):
        assert fleet(ground(standing(1, *pods(P, 0), *left), 1, one, pools=pools)).gpus_held == 10
    shared = [flip.shared_gpus for flip in ground(standing(1, *pods(P, 0), *ends[:1]), 1, one, pools=pools).flips]
    assert shared == [2]


def test_victims_are_shown_on_their_way() -> None:
    drained = ground(standing(3, *LEFT), 2, moving(Kind.DRAIN, Step.IDLE, ["prefill-2"]))
    assert phases(drained, P)[-1] == "prefill-2 draining"
    switched = ground(standing(3, *LEFT), 2, moving(Kind.SWITCH, Step.SWITCH, ["prefill-2"]))
    assert phases(switched, D)[0] == "prefill-2 switching"
    surge = ground(standing(3, *ALL), 3, moving(Kind.SURGE_FIRST, Step.READY, ["prefill-2"]))
    assert (phases(surge, P)[-1], surge.pools[P].leaving) == ("prefill-2 serving", 1)
    back = ground(standing(3, *LEFT), 2, undone(Kind.DRAIN, Step.IDLE, Step.REJOIN, ["prefill-2"]))
    assert phases(back, P)[-1] == "prefill-2 starting"


def test_a_victim_of_a_surge_that_does_not_serve_is_not_one_of_those_that_only_serve_until_then() -> None:
    stopped = pod("prefill-2", "prefill", ready_s=None)
    seen = ground(standing(3, *STAYS, stopped), 3, moving(Kind.SURGE_FIRST, Step.READY, ["prefill-2"]))
    assert (seen.pools[P].leaving, fleet(seen).gpus_held) == (0, 6)


def test_a_pod_made_anew_drains_on_under_its_name_but_has_no_role_to_change() -> None:
    anew = pod("prefill-2", "prefill", uid="another")
    assert phases(ground(standing(3, *STAYS, anew), 2, moving(Kind.DRAIN, Step.IDLE, ["prefill-2"])), P)[-1].endswith("draining")
    flip = ground(standing(3, *STAYS, anew), 2, moving(Kind.SWITCH, Step.SWITCH, ["prefill-2"]))
    assert (wished(flip), phases(flip, P)[-1], fleet(flip).gpus_held) == ((3, 2), "prefill-2 serving", 5)


def test_somebody_who_raises_a_count_that_we_have_lowered_is_seen_at_once() -> None:
    """The new pod has a victim's name and is none."""
    again = ground(
        standing(3, *ALL[:2], pod("prefill-2", "prefill", uid="another")), 2, moving(Kind.DRAIN, Step.GONE, ["prefill-2"])
    )
    assert (wished(again), phases(again, P)[-1]) == ((3, 2), "prefill-2 serving")


def test_a_victim_of_a_deployment_that_was_replaced_holds_no_gpu_beside_its_successor() -> None:
    stays = [pod(name, "prefill", numbered=False) for name in ("a", "b", "c")]
    seen = ground(standing(3, *stays), 2, moving(Kind.DRAIN, Step.IDLE, ["gone"]))
    assert fleet(seen).gpus_held == 5


def test_a_rollout_hides_what_it_adds_on_top() -> None:
    seen = ground(standing(3, *pods(P, 0, 1, 2, 3), updating=True))
    assert phases(seen, P) == [f"prefill-{number} serving" for number in range(3)]
    assert wished(seen) == (3, 2)


def test_a_draining_victim_is_not_among_those_that_serve() -> None:
    """Law 6 counts by it: with two that leave, one of three serves, and the core takes none."""
    two = ground(
        standing(3, *STAYS, *LEFT[2:]),
        2,
        moving(Kind.DRAIN, Step.LEAVE, ["prefill-2"]),
        moving(Kind.SWITCH, Step.LEAVE, ["prefill-0"]),
    )
    assert two.pools[P].serving == 1
    assert len(two.pools[P].in_phase(Phase.DRAINING)) == 2
    assert wished(two) == (1, 3)

"""Does a back-test play what stood there, and the policy on the same requests?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.observation import Histogram
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.simulator.backtest import Stage, recorded, replay_past, replay_policy, stood, unseen
from autoscaler.simulator.rebuilt import rebuild
from tests.simulator.test_rebuilt import Written

SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 1.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}
LIMITS = dict.fromkeys(Role, PoolLimits(1, 4))
POLICY = Policy(Mode.RECOMMEND, SLOS, LIMITS, replica_profile("llama-3-8b-h100-tp1"))
STAGE = Stage(Managed("prod/chat", "prod", "chat", POLICY), dict.fromkeys(Role, 2), start_up_s=30.0)


def past(prefill: list[int | None], decode: list[int | None], rps: float | None = 0.5) -> Written:
    return Written([rps] * len(prefill), replicas={Role.PREFILL: prefill, Role.DECODE: decode})


def test_a_count_nobody_saw_is_the_one_before_and_at_first_the_next() -> None:
    seen = past([None, 2, None, 3, None], [1] * 5)
    assert stood(seen, {})[Role.PREFILL] == [2, 2, 2, 3, 3]
    assert unseen(seen, rebuild(seen, None).pieces, {}) == {Role.PREFILL: 0.6, Role.DECODE: 0.0}


def test_a_count_that_is_told_replaces_what_was_seen_and_is_counted_as_unseen() -> None:
    seen = past([2] * 5, [None] * 5)
    assert stood(seen, {Role.DECODE: 3})[Role.DECODE] == [3] * 5
    assert unseen(seen, rebuild(seen, None).pieces, {Role.DECODE: 3})[Role.DECODE] == 1.0


def test_a_role_of_which_nothing_was_seen_is_refused_with_what_to_do() -> None:
    with pytest.raises(Refusal, match=r"^no replica of decode was ever seen; .*--pods decode=PATTERN, --replicas decode=N"):
        stood(past([1] * 5, [None] * 5), {})


def test_replicas_stand_there_when_they_were_seen_and_their_start_is_paid_for() -> None:
    """Decode has one for three minutes, two for three: 9 replica-minutes and one start of 30 s, of 2 GPUs each. The second one
    serves from the end of the third step on.
    """
    seen = past([1] * 6, [1, 1, 1, 2, 2, 2])
    side = replay_past(STAGE, rebuild(seen, None).pieces, stood(seen, {}))
    assert [side.serving[Role.DECODE][at] for at in range(6)] == [1, 1, 2, 2, 2, 2]
    assert side.gpu_hours[Role.DECODE] == pytest.approx(2 * (9 + 0.5) / 60)
    assert side.gpu_hours[Role.PREFILL] == pytest.approx(2 * 6 / 60)
    assert side.attainment == 1.0


def test_what_stood_there_is_not_cut_to_the_policys_bounds() -> None:
    narrow = replace(STAGE, managed=replace(STAGE.managed, policy=replace(POLICY, gpu_budget=4, pools=LIMITS)))
    seen = past([1, 1, 6, 6, 6, 6], [1] * 6)
    side = replay_past(narrow, rebuild(seen, None).pieces, stood(seen, {}))
    assert side.serving[Role.PREFILL][5] == 6


@pytest.mark.slow
def test_the_policy_acts_whatever_its_mode_and_within_its_bounds() -> None:
    """Four of each where one would do: a policy that only recommends is played as if it acted."""
    seen = past([4] * 14, [4] * 14, rps=0.1)
    side = replay_policy(STAGE, rebuild(seen, None).pieces, stood(seen, {}))
    assert side.serving[Role.PREFILL][0] == 4
    assert all(side.serving[role][13] < 4 for role in Role)
    assert side.total("actions") > 0


def test_both_meet_the_same_requests_in_every_piece() -> None:
    seen = past([1] * 14, [1] * 14)
    seen.offered_rps = [0.1] * 6 + [None] + [0.1] * 7
    pieces, counts = rebuild(seen, None).pieces, stood(seen, {})
    was, would = (replay(STAGE, pieces, counts) for replay in (replay_past, replay_policy))
    assert [score.offered for score in was.scores] == [score.offered for score in would.scores] == [30, 36]
    assert was.total("offered") == 66
    assert sorted(was.serving[Role.DECODE]) == [*range(5), *range(8, 14)]


@pytest.mark.slow
def test_after_a_hole_the_policy_goes_on_with_the_counts_it_had() -> None:
    seen = past([4] * 22, [4] * 22)
    seen.offered_rps = [0.1] * 14 + [None] + [0.1] * 7
    side = replay_policy(STAGE, rebuild(seen, None).pieces, stood(seen, {}))
    assert side.serving[Role.PREFILL][16] <= side.serving[Role.PREFILL][12] < 4


def test_every_latency_of_the_replay_is_there_once() -> None:
    """TTFT at the gateway and in prefill, TPOT in decode; those that ended after the last look are missing."""
    seen = past([1] * 5, [1] * 5)
    side = replay_past(STAGE, rebuild(seen, None).pieces, stood(seen, {}))
    for signal in ("traffic.ttft", "prefill.latency", "decode.latency"):
        latency = side.latency(signal)
        assert latency is not None
        assert 140 <= latency.samples <= 150


def test_recorded_latencies_are_added_over_the_played_steps_only() -> None:
    one = Histogram((0.5, 1.0, float("inf")), (3.0, 5.0, 6.0))
    other = Histogram((0.25, 1.0, float("inf")), (1.0, 2.0, 2.0))
    seen = past([1] * 8, [1] * 8)
    seen.offered_rps = [1.0] * 6 + [None] * 2
    seen.latencies = {"traffic.ttft": [one, other, None, None, None, one, one, one]}
    pooled = recorded(seen, rebuild(seen, None).pieces, "traffic.ttft")
    assert pooled == Histogram((0.25, 0.5, 1.0, float("inf")), (1.0, 4.0, 7.0, 8.0))
    assert recorded(seen, rebuild(seen, None).pieces, "decode.latency") is None

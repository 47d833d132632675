"""Where a HorizontalPodAutoscaler writes a pool's count: is it told the right one at every moment, and nothing written by us?

The autoscaler is played: at each look it makes the target's count what the status last published. A status is written at a
tick, so what is asked for in between is not seen before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.fleet_gateway import KubernetesFleet
from autoscaler.adapters.kubernetes.publishing import FOLLOWS_S, RENEWED_S
from autoscaler.adapters.kubernetes.story import story
from autoscaler.controller import Controller
from autoscaler.core.action import Action, Mode, Outcome, Verdict
from autoscaler.core.conditions import Condition, conditions
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Handed, Role
from autoscaler.core.forecast import ForecastLimits
from autoscaler.core.hysteresis import Brakes, Damping, Step, Target
from autoscaler.core.observation import Observation, Signals
from autoscaler.core.plan import Wish, plan
from autoscaler.core.policy import PoolLimits
from autoscaler.core.pool_status import pool_status
from autoscaler.core.reason import Reason
from autoscaler.errands import AtOnce, Pace
from autoscaler.ports import FleetScope
from autoscaler.roster import managed
from tests.adapters.kubernetes.fake_cluster import KEY, SETS, FakeCluster
from tests.conductor.stage import BY_LABEL, Policies, Stage, engaged, staged
from tests.fakes import FakeRoster, FakeSink, pool, signals
from tests.fakes import policy as core_policy
from tests.policy_documents import policy

P, D = Role.PREFILL, Role.DECODE
HPAS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
TICK_S = 15.0
PATIENCE_S = FOLLOWS_S + TICK_S


def pools(*handed: Role, **more: Any) -> dict[str, Any]:
    return {
        role.value: {
            "target": {"name": f"chat-{role}"},
            "max": 4,
            "capacityPool": "h100",
            **({"actuation": "hpa"} if role in handed else {}),
            **more,
        }
        for role in Role
    }


def hpa(role: Role, *, target: Mapping[str, str] | None = None, policy: str = "chat", more: int = 0) -> Body:
    labels = {"policy": policy, "role": role.value}
    metric = {"name": "pdautoscaler_desired_replicas", "selector": {"matchLabels": labels}}
    external = {"metric": metric, "target": target or {"type": "AverageValue", "averageValue": "1"}}
    ref = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": f"chat-{role}"}
    metrics = [{"type": "External", "external": external}, *[{"type": "Resource"}] * more]
    return {"metadata": {"name": f"chat-{role}", "uid": f"hpa-{role}"}, "spec": {"scaleTargetRef": ref, "metrics": metrics}}


def cluster(*hpas: Body) -> FakeCluster:
    """One that has these autoscalers from the start."""
    made = FakeCluster()
    made.lists(HPAS, *hpas)
    return made


@dataclass
class Ticks:
    """A tick's reading, one action at most, and what its status publishes; and the autoscaler that reads that."""

    stage: Stage
    published: dict[Role, int] = field(default_factory=dict)
    history: list[dict[Role, int]] = field(default_factory=list)

    def tick(self, action: Action | None = None) -> Outcome | None:
        fleet = self.stage.fleet
        outcome = None if action is None else self.stage.scale(action.role, action.from_replicas, action.to_replicas)
        told = {role: pool.handed.published for role, pool in fleet.pools.items() if pool.handed is not None}
        if outcome is not None and outcome.published is not None:
            told[outcome.action.roles[0]] = outcome.published
        self.published = told
        self.history.append(told)
        return outcome

    def look(self) -> None:
        """Of every autoscaler."""
        follow(self.stage.cluster, self.published)

    @property
    def counts(self) -> dict[Role, int]:
        return {role: self.stage.cluster.count(f"chat-{role}") for role in Role}

    def writes(self) -> list[str]:
        """Counts that we wrote."""
        return [at for _, at in self.stage.cluster.writes if at.startswith(SETS)]


def up(role: Role, seen: int, wanted: int) -> Action:
    return Action(role, seen, wanted, Reason.SCALE_UP if wanted > seen else Reason.SCALE_DOWN)


@contextmanager
def handed(*roles: Role, hpas: tuple[Body, ...] | None = None, **spec: Any) -> Iterator[Ticks]:
    found = tuple(map(hpa, roles)) if hpas is None else hpas
    with staged(cluster=cluster(*found), pools=pools(*roles), **spec) as stage:
        yield Ticks(stage)


def test_growth_is_published_at_once_and_written_by_the_other() -> None:
    with handed(P) as ticks:
        outcome = ticks.tick(up(P, 3, 4))
        assert outcome is not None
        assert (outcome.verdict, outcome.published) == (Verdict.PENDING, 4)
        assert (ticks.counts[P], ticks.writes()) == (3, [])
        ticks.look()
        ticks.tick()
        assert (ticks.counts[P], ticks.published) == (4, {P: 4})


def test_the_other_role_is_written_as_ever() -> None:
    with handed(P) as ticks:
        outcome = ticks.tick(up(D, 2, 3))
        assert outcome is not None
        assert (outcome.verdict, ticks.counts[D], ticks.published) == (Verdict.APPLIED, 3, {P: 3})


def played(ticks: Ticks, beats: int = 60, *, every: int = 5) -> list[tuple[str, dict[Role, int]]]:
    """A beat, a tick, now and then a look of the autoscalers, until nothing is under way; (step, published) at each tick."""
    told = []
    for beat in range(beats):
        ticks.stage.beat()
        ticks.tick()
        told.append((ticks.stage.step, ticks.published))
        if beat % every == every - 1:
            ticks.look()
        if not ticks.stage.cluster.stored:
            return told
    raise AssertionError(f"never over: {ticks.stage.cluster.stored}")


def test_a_shrink_is_published_only_when_its_replica_is_drained() -> None:
    """Who goes is the highest ordinal, whoever writes the count: that one is drained first."""
    with engaged(pools=pools(P)) as (stage, _):
        ticks = Ticks(stage)
        outcome = ticks.tick(up(P, 3, 2))
        assert outcome is not None
        assert (outcome.verdict, ticks.published) == (Verdict.APPLIED, {P: 3})
        told = played(ticks)
        assert {step for step, published in told if published[P] == 3} >= {"idle"}
        assert {step for step, published in told if published[P] == 2} <= {"shrink", "gone", ""}
        assert ticks.counts == {P: 2, D: 2}
        assert ticks.writes() == []


def test_two_autoscalers_are_told_a_paired_resize_one_after_the_other() -> None:
    """The receiver's count is told once the donor's replicas are gone: no moment asks for more GPUs than there are."""
    spec: dict[str, Any] = {
        "behaviour": {"flip": {"enabled": True, "driver": "pairedResize", "order": "drainFirst"}},
        "gpuBudget": 5,
    }
    with engaged(pools=pools(P, D), **spec) as (stage, _):
        ticks = Ticks(stage)
        assert stage.flip(P, D).verdict is Verdict.APPLIED
        told = played(ticks, every=3)
        assert (ticks.counts, ticks.writes()) == ({P: 2, D: 3}, [])
        assert max(sum(published.values()) for _, published in told) == 5
        assert [published[D] for step, published in told if step in ("leave", "idle", "shrink", "gone")].count(3) == 0


def test_an_autoscaler_that_never_follows_gets_the_old_count_and_the_replica_its_work_back() -> None:
    with engaged(pools=pools(P)) as (stage, _):
        ticks = Ticks(stage)
        ticks.tick(up(P, 3, 2))
        stage.until("shrink")
        stage.clock.at += 60 + PATIENCE_S
        told = played(ticks, every=100)
        assert (ticks.counts[P], stage.cluster.labels()["chat-prefill-2"]) == (3, "prefill")
        assert told[-1][1] == {P: 3}


def test_what_a_transaction_has_not_asked_for_lately_is_published_no_more() -> None:
    """Its process may be another's by now, or it may have gone back."""
    with engaged(pools=pools(P)) as (stage, _):
        ticks = Ticks(stage)
        ticks.tick(up(P, 3, 2))
        stage.until("shrink")
        stage.beat()
        ticks.tick()
        assert ticks.published == {P: 2}
        stage.clock.at += RENEWED_S + 1
        ticks.tick()
        assert ticks.published == {P: 3}


def test_growth_that_a_transaction_would_have_to_count_along_with_waits_for_its_end() -> None:
    with engaged(pools=pools(P, D), behaviour={"flip": {"enabled": True, "driver": "pairedResize", "order": "drainFirst"}}) as (
        stage,
        _,
    ):
        ticks = Ticks(stage)
        assert stage.flip(P, D).verdict is Verdict.APPLIED
        outcome = ticks.tick(up(D, 3, 4))
        assert outcome is not None
        assert (outcome.verdict, outcome.published, ticks.published[D]) == (Verdict.PENDING, None, 2)
        assert outcome.detail.endswith("comes first")


def test_a_hand_over_either_way_begins_with_the_count_that_stands() -> None:
    """A timeline: ours at 3, handed over, the other makes 4, taken back at 4 and written by us again."""
    with staged(cluster=cluster(hpa(P)), pools=pools(P)) as stage:
        ticks = Ticks(stage)
        stage.policies.document = policy(mode="Auto", routing=dict(BY_LABEL), pools=pools())
        ticks.tick()
        assert ticks.published == {}
        stage.policies.document = policy(mode="Auto", routing=dict(BY_LABEL), pools=pools(P))
        ticks.tick()
        assert ticks.published == {P: 3}
        ticks.tick(up(P, 3, 4))
        ticks.look()
        ticks.tick()
        assert (ticks.published, ticks.counts[P], ticks.writes()) == ({P: 4}, 4, [])
        stage.cluster.lists(HPAS)  # it is deleted, and a new process looks
        after = Stage(stage.cluster, Policies(policy(mode="Auto", pools=pools())))
        ticks = Ticks(after)
        try:
            ticks.tick()
            assert (ticks.published, ticks.counts[P]) == ({}, 4)
            ticks.tick(up(P, 4, 3))
            assert (ticks.counts[P], len(ticks.writes())) == (3, 1)
        finally:
            after.fleets.stop()


def test_who_writes_the_count_changes_nothing_of_what_is_decided() -> None:
    """So memory, windows and cooldowns go on through a hand-over."""
    direct = Fleet(KEY, {role: pool(role, 2) for role in Role})
    given = replace(direct, pools={role: replace(one, handed=Handed(2, 2)) for role, one in direct.pools.items()})
    memory: dict[str, Memory] = {"direct": Memory(), "handed": Memory()}
    for tick in range(16):
        seen = direct, given if tick % 8 > 3 else direct
        plans = []
        for name, fleet in zip(memory, seen, strict=True):
            decision = decide(Observation(15.0 * tick, fleet, signals(fleet, 6.0 + tick % 7)), memory[name], core_policy())
            memory[name] = decision.memory
            plans.append((decision.plan.actions, decision.plan.targets, decision.plan.to_apply))
        assert plans[0] == plans[1]
    assert memory["direct"] == memory["handed"]


def able(stage: Stage) -> Condition:
    """The condition as a tick would tell it."""
    fleet = stage.fleet
    decision = decide(Observation(stage.clock.now(), fleet, signals(fleet, 1.0)), Memory(), core_policy())
    return conditions(fleet, decision, ())[0]


def test_gpus_that_another_was_told_to_take_are_nobody_elses_until_it_has_heard_that_they_are_not_its_own() -> None:
    """4 and 2 of 6 GPUs: prefill is told to have 4 and has 3; at the next tick it wants 3, and decode would like one more."""
    with handed(P, gpuBudget=6) as ticks:
        ticks.tick(up(P, 3, 4))
        ticks.stage.clock.at += TICK_S
        again, instead = (planned(ticks.stage, prefill, decode) for prefill, decode in ((4, 2), (3, 3)))
        assert (ticks.stage.fleet.gpus_held, again, instead) == (6, {P: 4, D: 2}, {P: 3, D: 2})
        ticks.tick()
        ticks.stage.clock.at += TICK_S
        assert (ticks.stage.fleet.gpus_held, planned(ticks.stage, 3, 3)) == (5, {P: 3, D: 3})


def planned(stage: Stage, prefill: int, decode: int) -> Mapping[Role, int]:
    """What is granted to roles that want so many, with 6 GPUs."""
    wanted = {P: prefill, D: decode}
    wishes = {role: Wish(Target(count, Reason.DEMAND_ROSE, count), float(count), sighted=True) for role, count in wanted.items()}
    return plan(stage.clock.now(), Mode.AUTO, stage.fleet, wishes, dict.fromkeys(Role, PoolLimits(1, 4)), 6).targets


def test_an_autoscaler_that_does_not_follow_is_told_after_a_while_and_nobody_writes_in_its_place() -> None:
    with handed(P) as ticks:
        for _ in range(6):
            assert able(ticks.stage).status is True
            ticks.tick(up(P, 3, 4))
            ticks.stage.clock.at += TICK_S
        told = able(ticks.stage)
        assert (told.status, told.reason, ticks.writes()) == (False, "HPANotFollowing", [])
        assert "HorizontalPodAutoscaler chat-prefill does not follow; see its bounds" in told.message
        ticks.look()
        assert able(ticks.stage).status is True


def test_where_nothing_reads_the_count_that_is_told() -> None:
    with handed(P, hpas=()) as ticks:
        for _ in range(7):
            ticks.tick(up(P, 3, 4))
            ticks.stage.clock.at += TICK_S
        assert "nothing that reads the published count scales it" in able(ticks.stage).message


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param((hpa(P, policy="other"),), "HorizontalPodAutoscaler chat-prefill scales it already", id="another's"),
        pytest.param((hpa(P, more=1),), "has another metric beside the published count", id="one more metric"),
        pytest.param((hpa(P, target={"type": "Value", "value": "1"}),), "must be AverageValue 1", id="Value"),
        pytest.param((hpa(P, target={"type": "AverageValue", "averageValue": "2"}),), "must be AverageValue 1", id="not 1"),
    ],
)
def test_any_autoscaler_but_one_of_our_count_alone_is_a_rival_and_told_nothing(found: tuple[Body, ...], words: str) -> None:
    with handed(P, hpas=found) as ticks:
        outcome = ticks.tick(up(P, 3, 4))
        assert outcome is not None
        assert (outcome.verdict, outcome.published, ticks.published) == (Verdict.REFUSED, None, {P: 3})
        assert words in outcome.detail
        assert words in ticks.stage.fleet.pools[P].note


def test_one_that_follows_is_refused_where_the_count_is_ours_to_write() -> None:
    with handed(hpas=(hpa(P),)) as ticks:
        outcome = ticks.tick(up(P, 3, 4))
        assert outcome is not None
        assert (outcome.verdict, ticks.counts[P]) == (Verdict.REFUSED, 3)
        assert "set the pool's actuation to hpa, or remove it" in outcome.detail


def test_a_policy_that_is_a_file_has_no_status_to_publish_in() -> None:
    with staged(cluster=cluster(hpa(P)), pools=pools(P)) as stage:
        alone = KubernetesFleet(stage.cluster, stage.policies)
        try:
            assert isinstance(alone.read(KEY, stage.clock.now()), Fleet)
            outcome = alone.apply(KEY, up(P, 3, 4), stage.clock.now(), 0)
        finally:
            alone.stop()
        assert outcome.verdict is Verdict.REFUSED
        assert "needs the policy as an object of the cluster" in outcome.detail


def test_the_status_tells_the_published_count_as_the_target_and_who_writes_it() -> None:
    fleet = Fleet(KEY, {role: replace(pool(role, 2), handed=Handed(2, 2)) for role in Role})
    observation = Observation(1000.0, fleet, signals(fleet, 22.0))
    decision = decide(observation, Memory(), core_policy())
    (action, *_) = (one for one in decision.plan.actions if one.role is P)
    held = pool_status(P, fleet.pools[P], observation, decision, core_policy())
    told = pool_status(P, fleet.pools[P], observation, decision, core_policy(), [Outcome(action, Verdict.PENDING, "", 4)])
    assert (held.published, told.published, told.target) == (2, 4, action.to_replicas)
    assert Reason.HANDED in {finding.reason for finding in decision.plan.findings if finding.role is P}


@dataclass
class Arrivals:
    """So many requests a second, and what every serving pod says of itself."""

    stage: Stage
    rps: float = 18.0

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
        yield {scope.key: signals(self.stage.fleet, self.rps) for scope in scopes}


SHORT = ForecastLimits(horizon_s=1.0, errors_kept=2, errors_needed=1)
AT_ONCE = Damping(Brakes(0.1, 0.0, 0.0, Step(4, 100.0, 15.0)), Brakes(0.05, 0.0, 0.0, Step(4, 100.0, 15.0)))


def test_a_whole_controller_steers_by_what_it_publishes_and_takes_no_replica_that_is_routed_to() -> None:
    """Load for 4 replicas of each role, then for 2: a tick every 15 s, and an autoscaler that looks 7 s after each."""
    with engaged(pools=pools(P, D)) as (stage, _):
        arrivals, sink = Arrivals(stage), FakeSink()
        fleet = replace(
            managed(stage.policies.document or policy()),
            policy=replace(core_policy(1, 4), damping=dict.fromkeys(Role, AT_ONCE), forecast=SHORT),
        )
        doors = (FakeRoster([fleet]), stage.clock, arrivals, stage.fleets, [sink], stage.terms)
        controller = Controller(*doors, pace=Pace(AtOnce()))
        seen: list[dict[Role, int]] = []
        steps: list[tuple[int, str]] = []
        stored: dict[str, Any] = {}
        for beat in range(150):
            arrivals.rps = 18.0 if beat < 45 else 9.0
            if beat % 15 == 0:
                controller.tick()
                stored = story(sink.reported[-1], stored, 1)
                seen.append({role: stored["pools"][role]["target"] for role in Role})
                steps.append((seen[-1][P], stage.step))
            stage.beat()
            if beat % 15 == 7:
                going = [pod for pod in stage.cluster.pods() if int(pod[-1]) >= seen[-1][Role(pod.split("-")[1])]]
                assert {stage.cluster.label(pod) for pod in going} <= {"draining"}
                follow(stage.cluster, seen[-1])
        assert seen[0] == {P: 4, D: 4}
        assert [step for step in steps if step[1]] == [(4, "leave"), (2, "shrink")]  # decided and not drained yet, then drained
        assert (seen[-1], stage.cluster.pods("chat-prefill")) == ({P: 2, D: 2}, ["chat-prefill-0", "chat-prefill-1"])
        assert [at for _, at in stage.cluster.writes if at.startswith(SETS)] == []
        assert {one.status for status in sink.reported for one in status.conditions if one.type == "AbleToScale"} == {True}


def follow(cluster: FakeCluster, published: Mapping[Role, int]) -> None:
    """What the autoscalers of both roles do."""
    for role, count in published.items():
        if cluster.count(f"chat-{role}") != count:
            cluster.scale(f"chat-{role}", count)

"""Does /metrics tell what happened, under the names that are documented, and nothing it cannot know?"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.adapters import own_metrics
from autoscaler.adapters.own_metrics import OwnMetrics
from autoscaler.core.action import Action, Mode, Outcome, Verdict
from autoscaler.core.decide import Memory, decide
from autoscaler.core.door import Door, Verdicts
from autoscaler.core.fleet import Ended, Fleet, Flipping, Lack, Phase, Role, Shortage
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.policy import Policy
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status, status_of, unreadable
from tests.fakes import KEY, fleet, policy, pool, signals

FLEET = fleet(pool(Role.PREFILL, 3, serving=2, starting=1, draining=1, gpus=4), pool(Role.DECODE, 2, gpus=2))
QUIET_RPS, BUSY_RPS = 9.0, 22.0
DRAINED = Ended("drain-1", "drain", Role.PREFILL, Role.PREFILL, True, "", 0, 30.0)
UNDER_WAY = Flipping("flip-1", Role.PREFILL, Role.DECODE, 1, 1, Phase.DRAINING, 950.0, 940.0)


@dataclass
class Clocks:
    """A wall clock and one that never steps back, both at hand."""

    wall_s: float = 1_700_000_000.0
    monotonic_s: float = 50.0


class Page:
    """OwnMetrics with clocks at hand, read through its own text."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.metrics = OwnMetrics(15.0, lambda: self.clocks.wall_s, lambda: self.clocks.monotonic_s)

    def report(self, *statuses: Status) -> Page:
        for status in statuses:
            self.metrics.report(status)
        return self

    def samples(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Value by labels by name of the sample, as a scraper reads them."""
        read: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.metrics.page()[0].decode()):
            for sample in family.samples:
                read.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return read

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, or None; `fleet` is the house fleet unless told otherwise."""
        return self.samples().get(f"pd_autoscaler_{name}", {}).get(tuple(sorted(labels.items())))

    def of(self, name: str, **labels: str) -> float | None:
        """One sample of the house fleet."""
        return self.value(name, fleet=KEY, **labels)


@pytest.fixture
def page() -> Page:
    return Page()


def tick(
    rps: float = QUIET_RPS,
    *,
    now: float = 1000.0,
    key: str = KEY,
    wanted: Policy | None = None,
    said: Signals | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Status:
    """One real tick without a past; its writes end as `verdicts` say, and the rest is not tried."""
    wanted, seen = wanted or policy(), Fleet(key, FLEET.pools)
    observation = Observation(now, seen, said or signals(seen, rps))
    decision = decide(observation, Memory(), wanted)
    outcomes = tuple(Outcome(*pair, "why") for pair in zip(decision.plan.to_apply, verdicts, strict=False))
    return status_of(observation, decision, outcomes, wanted)


def lacking(*shortages: Shortage, key: str = KEY) -> Status:
    """A real tick of a fleet that lacks decode replicas."""
    seen = Fleet(key, {**FLEET.pools, Role.DECODE: replace(FLEET.pools[Role.DECODE], shortages=shortages)})
    observation = Observation(1000.0, seen, signals(seen, QUIET_RPS))
    return status_of(observation, decide(observation, Memory(), policy()), (), policy())


def moved(role: Role, before: int, after: int, now: float, verdict: Verdict = Verdict.APPLIED) -> Status:
    """A quiet tick at which one role was moved."""
    outcome = Outcome(Action(role, before, after, Reason.SCALE_UP), verdict)
    return replace(tick(now=now), outcomes=(outcome,))


def crash(key: str = KEY) -> Status:
    return unreadable(key, 7.0, policy(), Finding(Stage.PLAN, Reason.INTERNAL_ERROR, "KeyError: 'x'"))


# What stands where


def test_a_pool_reads_as_its_status_says(page: Page) -> None:
    status = tick(BUSY_RPS, wanted=policy(1, 9, gpu_budget=64))
    page.report(status)
    prefill = status.pools[Role.PREFILL]
    expected = {
        "desired_replicas": 3,
        "target_replicas": 5,
        "min_replicas": 1,
        "max_replicas": 9,
        "demand_replicas": prefill.demand,
        "held_gpus": 16,
        "load_tokens_per_second": 22_000,
        "forecast_mean_tokens_per_second": 22_000,
        "forecast_upper_tokens_per_second": 22_000,
        "forecast_horizon_seconds": 140,
        "waiting_requests": 0,
        "running_requests": 0,
        "kv_usage_ratio": 0.5,
        "signal_age_seconds": 5,
    }
    assert {name: page.of(name, role="prefill") for name in expected} == expected
    assert page.of("demand_bound_info", role="prefill", bound=str(prefill.bound)) == 1
    assert page.of("forecast_model_info", role="prefill", model="last-value") == 1
    assert (page.of("offered_requests_per_second"), page.of("budget_gpus")) == (22, 64)


def test_every_phase_of_life_has_a_count_also_when_it_is_zero(page: Page) -> None:
    page.report(tick())
    counts = {phase: page.of("replicas", role="prefill", phase=phase) for phase in Phase}
    assert counts == dict.fromkeys(Phase, 0) | {Phase.SERVING: 2, Phase.STARTING: 1, Phase.DRAINING: 1}


def test_every_lack_has_a_count_also_when_nothing_is_missing(page: Page) -> None:
    page.report(lacking(Shortage(Lack.NOT_CREATED, 2, 990.0, "quota"), Shortage(Lack.NOT_CREATED, 1, 990.0, "webhook")))
    counts = {lack: page.of("missing_replicas", role="decode", lack=lack) for lack in Lack}
    assert counts == dict.fromkeys(Lack, 0) | {Lack.NOT_CREATED: 3}
    assert page.of("missing_replicas", role="prefill", lack="NotCreated") == 0


def test_a_start_up_time_is_told_once_one_was_seen(page: Page) -> None:
    status = tick()
    page.report(status)
    assert page.of("startup_seconds", role="decode") is None
    page.report(replace(status, pools={Role.DECODE: replace(status.pools[Role.DECODE], startup_s=72.5)}))
    assert page.of("startup_seconds", role="decode") == 72.5


def test_each_slo_is_told_as_its_users_and_its_engines_see_it(page: Page) -> None:
    status = tick()
    page.report(status)
    ttft = status.pools[Role.PREFILL].slo
    for slo, source in (("ttft", "gateway"), ("ttft", "prefill"), ("tpot", "decode")):
        assert page.of("latency_samples", slo=slo, source=source) == 100
        assert page.of("slo_attainment_ratio", slo=slo, source=source) is not None
    assert page.of("latency_seconds", slo="ttft", source="prefill") == pytest.approx(ttft.value_s)
    assert page.of("slo_threshold_seconds", slo="ttft") == pytest.approx(ttft.threshold_s)
    assert (page.of("slo_objective_ratio", slo="ttft"), page.of("slo_objective_ratio", slo="tpot")) == (0.95, 0.5)


def test_conditions_are_ones_and_zeros_with_their_reason_beside(page: Page) -> None:
    page.report(tick(40.0, wanted=policy(high=4)))
    assert (page.of("condition", condition="ScalingActive"), page.of("condition", condition="ScalingLimited")) == (1, 1)
    assert page.of("condition_info", condition="ScalingLimited", reason="TooManyReplicas") == 1
    page.report(tick())
    assert page.of("condition", condition="ScalingLimited") == 0
    assert page.of("condition_info", condition="ScalingLimited", reason="TooManyReplicas") is None
    assert page.of("condition", condition="Degraded") == 0


@pytest.mark.parametrize(
    ("mode", "target", "recommended"),
    [(Mode.AUTO, 5, None), (Mode.RECOMMEND, None, 5), (Mode.OFF, None, None)],
)
def test_a_recommendation_is_never_called_a_target(
    page: Page, mode: Mode, target: float | None, recommended: float | None
) -> None:
    """Law 13."""
    page.report(tick(BUSY_RPS, wanted=policy(mode=mode)))
    read = (page.of("target_replicas", role="prefill"), page.of("recommended_replicas", role="prefill"))
    assert read == (target, recommended)
    assert page.of("mode_info", mode=mode) == 1


def test_what_is_not_known_has_no_sample_and_is_never_zero(page: Page) -> None:
    page.report(tick(said=Signals.unknown(Gap.TIMEOUT, "dark")))
    unknown = ("waiting_requests", "running_requests", "kv_usage_ratio", "load_tokens_per_second", "demand_replicas")
    assert [page.of(name, role="prefill") for name in (*unknown, "signal_age_seconds")] == [None] * 6
    assert page.of("offered_requests_per_second") is None
    assert page.of("latency_seconds", slo="ttft", source="prefill") is None
    assert page.of("budget_gpus") is None
    assert page.of("desired_replicas", role="prefill") == 3


def test_what_is_no_finite_number_has_no_sample(page: Page) -> None:
    page.report(replace(tick(), offered_rps=math.nan), tick(math.inf, key="models/other"))
    assert page.samples().get("pd_autoscaler_offered_requests_per_second") is None


def test_words_of_clients_and_of_servers_never_become_labels(page: Page) -> None:
    gone = Signals.unknown(Gap.SERVER_ERROR, "HTTP 500: from-outside")
    status = tick(said=gone)
    failed = Outcome(Action(Role.DECODE, 2, 3, Reason.SCALE_UP), Verdict.FAILED, "from-outside")
    short = lacking(Shortage(Lack.FAILING, 1, 990.0, "from-outside"), key="models/short")
    page.report(replace(status, outcomes=(failed,), offered_source="from-outside"), short)
    assert page.value("condition_info", fleet="models/short", condition="Degraded", reason="Failing") == 1
    assert any("from-outside" in finding.text for finding in status.plan.findings)
    assert "from-outside" not in page.metrics.page()[0].decode()


# What happened


def test_actions_count_by_direction_and_by_how_they_ended(page: Page) -> None:
    page.report(tick())
    assert page.of("actions_total", role="decode", direction="down", verdict="Refused") == 0, "told before the first one"
    page.report(tick(BUSY_RPS, verdicts=[Verdict.APPLIED, Verdict.FAILED]), moved(Role.PREFILL, 3, 2, 1000.0))
    assert page.of("actions_total", role="prefill", direction="up", verdict="Applied") == 1
    assert page.of("actions_total", role="prefill", direction="down", verdict="Applied") == 1
    assert page.of("actions_total", role="decode", direction="up", verdict="Failed") == 1


@pytest.mark.parametrize(
    ("second", "reversals"),
    [
        pytest.param(moved(Role.DECODE, 3, 2, 700.0), 1, id="undone within ten minutes"),
        pytest.param(moved(Role.DECODE, 3, 2, 701.0), 0, id="undone later"),
        pytest.param(moved(Role.DECODE, 3, 4, 130.0), 0, id="the same way again"),
        pytest.param(moved(Role.PREFILL, 3, 2, 130.0), 0, id="another role"),
        pytest.param(moved(Role.DECODE, 3, 2, 130.0, Verdict.REFUSED), 0, id="tried and refused"),
    ],
)
def test_a_reversal_undoes_an_applied_change_of_the_same_role_soon_after(page: Page, second: Status, reversals: float) -> None:
    page.report(moved(Role.DECODE, 2, 3, 100.0), second)
    assert page.of("reversals_total", role="decode") == reversals


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(tick(9.9), "DesiredWithinRange", id="the load fits"),
        pytest.param(tick(said=Signals.unknown(Gap.TIMEOUT, "dark")), "SignalsTimeout", id="blind"),
        pytest.param(tick(BUSY_RPS, wanted=policy(gpu_budget=20)), "GpuBudget", id="no GPU left"),
        pytest.param(tick(BUSY_RPS, wanted=policy(high=2)), "TooManyReplicas", id="at its max"),
        pytest.param(tick(1.0), "FirstWindowNotSeen", id="too early to shrink"),
        pytest.param(tick(BUSY_RPS, wanted=policy(mode=Mode.RECOMMEND)), "ModeForbidsActing", id="only recommends"),
        pytest.param(tick(BUSY_RPS, wanted=policy(mode=Mode.OFF)), "ModeForbidsActing", id="off"),
        pytest.param(tick(BUSY_RPS, verdicts=[Verdict.CONFLICT]), "Conflict", id="after a conflict the rest waits"),
    ],
)
def test_a_role_without_a_change_counts_as_held_with_the_last_reason(page: Page, status: Status, reason: str) -> None:
    page.report(status)
    assert page.of("holds_total", role="decode", reason=reason) == 1


def test_a_role_that_was_moved_is_not_held(page: Page) -> None:
    page.report(tick(BUSY_RPS, verdicts=[Verdict.APPLIED, Verdict.REFUSED]))
    assert page.samples().get("pd_autoscaler_holds_total") is None


def test_a_fleet_that_cannot_be_read_is_held_as_a_whole(page: Page) -> None:
    page.report(unreadable(KEY, 7.0, policy(), Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "gone")))
    assert page.of("holds_total", role="", reason="FleetUnreadable") == 1
    assert (page.of("condition", condition="ScalingActive"), page.of("condition", condition="Degraded")) == (0, 1)


# Ticks


def test_a_tick_is_timed_counted_and_dated(page: Page) -> None:
    assert page.value("last_tick_timestamp_seconds") is None, "a tick that never was has no date"

    def slow() -> list[Status]:
        page.clocks.monotonic_s += 0.3
        return [tick()]

    statuses = page.metrics.timed(slow)()
    assert [status.key for status in statuses] == [KEY]
    assert [page.value("tick_duration_seconds_bucket", le=edge) for edge in ("0.25", "0.5", "+Inf")] == [0, 1, 1]
    assert page.value("tick_duration_seconds_sum") == pytest.approx(0.3)
    assert (page.value("ticks_total"), page.value("last_tick_timestamp_seconds")) == (1, 1_700_000_000)
    assert page.value("tick_interval_seconds") == 15


def test_a_tick_that_crashes_counts_as_our_fault_and_not_as_a_tick(page: Page) -> None:
    def broken() -> list[Status]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        page.metrics.timed(broken)()
    assert (page.value("internal_errors_total"), page.value("ticks_total")) == (1, 0)
    assert page.value("last_tick_timestamp_seconds") is None


def test_a_fleet_whose_tick_crashed_counts_as_our_fault(page: Page) -> None:
    page.report(crash(), tick(key="models/other"))
    assert page.value("internal_errors_total") == 1


def test_writes_are_asked_for_at_each_scrape_by_whether_they_were_taken(page: Page) -> None:
    assert page.value("status_writes_total", result="taken") == 0
    page.metrics.count_written(lambda: (7, 2))
    assert page.value("status_writes_total", result="taken") == 7
    assert page.value("status_writes_total", result="failed") == 2


def test_skipped_ticks_are_asked_for_at_each_scrape(page: Page) -> None:
    assert page.value("ticks_skipped_total") == 0
    skipped = [3]
    page.metrics.count_skipped(lambda: skipped[0])
    assert page.value("ticks_skipped_total") == 3
    skipped[0] = 5
    assert page.value("ticks_skipped_total") == 5


# Which fleets are there


def test_a_fleet_that_is_managed_no_more_vanishes_and_comes_back_from_zero(page: Page) -> None:
    page.report(tick(), tick(BUSY_RPS, key="models/goes", verdicts=[Verdict.APPLIED]))
    assert page.value("fleets") == 2
    page.metrics.forget("models/goes")
    page.metrics.forget("models/never-seen")
    assert page.value("fleets") == 1
    assert "models/goes" not in page.metrics.page()[0].decode()
    page.report(tick(key="models/goes"))
    assert page.value("actions_total", fleet="models/goes", role="prefill", direction="up", verdict="Applied") == 0


def test_a_controller_that_hangs_does_not_look_like_news(page: Page) -> None:
    page.metrics.timed(lambda: [tick()])()
    page.report(tick())
    page.clocks.monotonic_s += 300
    assert page.value("fleets") == 1
    page.clocks.monotonic_s += 1
    assert page.value("fleets") == 0
    assert KEY not in page.metrics.page()[0].decode()
    assert page.value("last_tick_timestamp_seconds") is not None, "that is how one sees that it hangs"


# What is documented


DOOR = Door(
    (Verdicts("shadow", True, "fits", "free", 40.0), Verdicts("shadow", False, "ttft", "free", 2.0)), {"missed": (0.0, 0.1)}
)


def test_whom_sidecars_turn_away_is_told_by_reason_and_class_and_nothing_where_there_is_none(page: Page) -> None:
    page.report(replace(tick(), rejected_rps=2.0, door=DOOR))
    assert page.of("rejected_requests_per_second") == 2
    assert page.of("verdicts_per_second", mode="shadow", decision="reject", reason="ttft", **{"class": "free"}) == 2
    ends = [page.of("hindsight_ratio", what="missed", end=end) for end in ("least", "most")]
    assert ends == [0, 0.1]
    page.report(tick())
    assert {"pd_autoscaler_verdicts_per_second", "pd_autoscaler_hindsight_ratio"}.isdisjoint(page.samples())


def full() -> OwnMetrics:
    """One that has something to tell under every name."""
    page = Page()
    learned = tick(BUSY_RPS, wanted=policy(gpu_budget=64), verdicts=[Verdict.APPLIED])
    pools = {
        role: replace(pool, forecast_error=120.0, forecast_coverage=0.9, startup_s=70.0, demand_soon=3.0, speed_measured=1.2)
        for role, pool in learned.pools.items()
    }
    traffic = learned.traffic and replace(learned.traffic, cached_ahead=learned.traffic.requests)
    statuses = [
        replace(learned, pools=pools, traffic=traffic, flips=(UNDER_WAY,), ended=(DRAINED,), rejected_rps=2.0, door=DOOR),
        tick(key="models/quiet", wanted=policy(mode=Mode.RECOMMEND)),
    ]
    page.report(*statuses)
    page.metrics.timed(lambda: statuses)()
    return page.metrics


def test_the_documented_table_is_what_is_exported() -> None:
    rows = re.findall(r"^    (pd_autoscaler_\w+) +(\w+) *(.*)$", own_metrics.__doc__ or "", re.MULTILINE)
    documented = {(name, kind, frozenset(labels.split())) for name, kind, labels in rows}
    assert len(documented) == len(rows)
    exported = set()
    for family in text_string_to_metric_families(full().page()[0].decode()):
        if family.name.startswith("pd_autoscaler_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert family.samples, f"{family.name} was not told"
            name = f"{family.name}_total" if family.type == "counter" else family.name
            exported.add((name, family.type, frozenset(labels)))
    assert exported == documented


def test_every_metric_has_its_help_and_one_place() -> None:
    families = list(full().collect())
    assert all(family.documentation for family in families)
    assert len({family.name for family in families}) == len(families)


def test_it_can_stand_in_a_registry_beside_others() -> None:
    registry = CollectorRegistry()
    registry.register(full())
    assert registry.get_sample_value("pd_autoscaler_fleets") == 2


def test_promtool_finds_nothing_to_complain_about() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH: the page was not linted (Debian: apt-get install prometheus)")
    done = subprocess.run([promtool, "check", "metrics"], input=full().page()[0], capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_drains_and_flips_count_when_they_are_over_with_what_they_cost(page: Page) -> None:
    ends = [
        DRAINED,
        Ended("drain-2", "drain", Role.PREFILL, Role.PREFILL, True, "3 requests given up", 3, 600.0),
        Ended("switch-1", "switch", Role.DECODE, Role.PREFILL, False, "refused", 0, 9.0),
    ]
    page.report(tick(), *(replace(tick(), ended=(one,)) for one in ends))
    assert page.of("transactions_total", kind="drain", result="done") == 2
    assert page.of("transactions_total", kind="switch", result="undone") == 1
    assert page.of("forced_requests_total", role="prefill") == 3
    assert page.of("forced_requests_total", role="decode") == 0

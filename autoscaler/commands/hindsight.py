"""What does a back-test say, in which order, and how sure is it of itself?

First what is different between the two runs, and both side by side. Then the check: the latencies of the replay as it was
beside those that were recorded, since a model that does not reproduce the past says nothing about another one. Then, one by
one, everything that nobody recorded and that was assumed instead, with the share of the past it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from autoscaler.adapters.prometheus.history import History
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.core.observation import Histogram
from autoscaler.simulator.backtest import LATENCIES, Side, Stage, recorded
from autoscaler.simulator.rebuilt import LEAST_STEPS, Arrivals, Basis, Rebuilt

# Figures of Score that are told, and how people read them.
FIGURES: Mapping[str, str] = {
    "offered": "requests",
    "met": "met in time",
    "open": "undecided at the end",
    "rejected": "turned away",
    "failed": "failed",
    "refused": "too long for any replica",
    "actions": "scalings",
    "flips": "flips",
    "reversals": "reversals",
}
LATENCY_NAMES: Mapping[str, str] = {
    "traffic.ttft": "TTFT for users",
    **{f"{role}.latency": f"{facts.binding_slo.upper()} at {role}" for role, facts in ROLE_FACTS.items()},
}
QUANTILES = (0.5, 0.95)
WHEN = {Arrivals.POISSON: "at random moments of their step (Poisson)", Arrivals.EVEN: "evenly over their step, without bursts"}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table for people: the first column names its rows."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Everything a back-test found. `unseen`: in which share of the played steps nobody saw a replica of the role."""

    history: History
    rebuilt: Rebuilt
    stage: Stage
    unseen: Mapping[Role, float]
    was: Side
    would: Side

    def document(self) -> dict[str, Any]:
        """For machines: shares 0..1, times in seconds, moments in seconds since 1970."""
        history = self.history
        return {
            "fleet": self.stage.managed.key,
            "from_s": history.start_s,
            "until_s": history.start_s + history.step_s * len(history.offered_rps),
            "step_s": history.step_s,
            "sides": [self._side(side) for side in (self.was, self.would)],
            "recorded": {name: seen for name, seen in self._latencies(None).items() if seen["samples"]},
            "off_by_share": self.off(),
            "rebuilt": {"requests": self.was.survey.requests, **asdict(self.was.survey.shape)},
            "assumed": self.assumed(),
            "assumptions": list(self.assumptions()),
        }

    def off(self) -> dict[str, float]:
        """By latency, how far the replay as it was lies from what was recorded: the share of requests within the promise, 0..1,
        as far as buckets can tell them apart. Those that were not recorded are left out.
        """
        was, seen = self._latencies(self.was), self._latencies(None)
        return {
            name: _apart(was[name]["within"], seen[name]["within"])
            for name in was
            if seen[name]["within"] and was[name]["within"]
        }

    def assumed(self) -> dict[str, Any]:
        """How much of the input nobody recorded, as shares of all steps, or of the played ones with requests."""
        rebuilt, steps = self.rebuilt, self.rebuilt.steps
        lengths = {
            name: {basis.value: rests[basis] / rests.total() for basis in Basis if rests[basis]}
            for name, rests in rebuilt.basis.items()
        }
        return {
            "not_played": 1 - rebuilt.played / steps,
            "without_load": rebuilt.silent / steps,
            "beside_holes": rebuilt.beside / steps,
            "in_short_pieces": rebuilt.scattered / steps,
            "holes": [[begin_s, end_s] for begin_s, end_s in self.holes()],
            "replicas_unseen": {role.value: share for role, share in self.unseen.items()},
            "lengths": lengths,
            "arrivals": self.stage.arrivals.value,
            "offered_source": self.history.source,
            "profile": self.stage.managed.policy.profile.name,
            "start_up_s": self.stage.start_up_s,
        }

    def holes(self) -> Iterator[tuple[int, int]]:
        """From when to when nobody tells any load."""
        history = self.history
        for silent, steps in groupby(enumerate(history.offered_rps), lambda step: step[1] is None):
            places = [place for place, _ in steps]
            if silent:
                yield history.start_s + places[0] * history.step_s, history.start_s + (places[-1] + 1) * history.step_s

    def assumptions(self) -> Iterator[str]:
        """The same in sentences, one for each thing that nobody recorded."""
        assumed, stage = self.assumed(), self.stage
        holes = list(self.holes())
        if self.rebuilt.played < self.rebuilt.steps:
            longest_s = max((end_s - begin_s for begin_s, end_s in holes), default=0)
            number = "1 hole" if len(holes) == 1 else f"{len(holes)} holes"
            yield (
                f"{assumed['not_played']:.1%} of the time is not played: {number} without data, the longest "
                f"{_long(longest_s)}, a step on either side, and pieces of less than {LEAST_STEPS} steps"
            )
        if holes and holes[0][0] == self.history.start_s:
            first = datetime.fromtimestamp(holes[0][1], UTC).strftime("%Y-%m-%d %H:%M")
            yield f"Prometheus knows of no load before {first} UTC: it keeps no more, or was not told of this fleet yet"
        yield f"arrivals: known from {assumed['offered_source']}, placed {WHEN[stage.arrivals]}; each try counts as a request"
        for name, shares in assumed["lengths"].items():
            told = ", ".join(f"{share:.1%} {_BASIS[Basis(basis)]}" for basis, share in shares.items())
            yield f"{name.replace('_', ' ')}: {told}"
        yield "prompts and answers are drawn apart from each other; the longest prompt has the longest uncached part"
        for role, share in assumed["replicas_unseen"].items():
            if share:
                yield f"{role}: nobody saw how many replicas there were for {share:.1%} of the time"
        yield "a replica is a pod that answered, and one that drains still answers"
        yield "no replica changes its role: what the cluster could flip is in no metric"
        yield f"profile {assumed['profile']} is how fast a replica is, and {stage.start_up_s:g} s how long one takes to start"

    def _side(self, side: Side) -> dict[str, Any]:
        hours = side.gpu_hours
        return {
            "name": side.name,
            "attainment": side.attainment,
            "gpus": sum(hours.values()) * 3600 / (self.rebuilt.played * self.history.step_s),
            "gpu_hours": sum(hours.values()),
            "gpu_hours_by_role": {role.value: spent for role, spent in hours.items()},
            **{name: int(side.total(name)) for name in FIGURES},
            "latencies": self._latencies(side),
        }

    def _latencies(self, side: Side | None) -> dict[str, dict[str, Any]]:
        """Of a replay, or as they were recorded."""
        slos, pieces = self.stage.managed.policy.slos, self.rebuilt.pieces
        found = {name: side.latency(name) if side else recorded(self.history, pieces, name) for name in LATENCIES}
        return {name: _latency(found[name], slos[kind]) for name, kind in LATENCIES.items()}


_BASIS = {
    Basis.HISTOGRAM: "of the steps as a distribution",
    Basis.MEAN: "by the mean alone",
    Basis.BORROWED: "from another step",
    Basis.POLICY: "from the policy's requestShape",
}


def told(hindsight: Hindsight) -> Iterator[Grid | str]:
    """For people, in the terminal and on a page: what would have been different, the check, and each assumption."""
    document = hindsight.document()
    was, would = document["sides"]
    begin, end = (datetime.fromtimestamp(document[at], UTC).strftime("%Y-%m-%d %H:%M") for at in ("from_s", "until_s"))
    title = f"{document['fleet']}, {begin} to {end} UTC, {document['rebuilt']['requests']:,} requests rebuilt"
    yield difference(was, would)
    yield _sides(title, was, would)
    yield _check(was, document["recorded"], document["off_by_share"])
    yield "Assumed, since nobody recorded it:\n" + "\n".join(f"  - {line}" for line in document["assumptions"])


def difference(was: Mapping[str, Any], would: Mapping[str, Any]) -> str:
    """What would have been different, in one sentence."""
    if was["attainment"] is None or would["attainment"] is None:
        return "Nobody sent a request, so there is nothing to tell apart."
    points, hours = 100 * (would["attainment"] - was["attainment"]), would["gpu_hours"] - was["gpu_hours"]
    share = f" ({hours / was['gpu_hours']:+.1%})" if was["gpu_hours"] else ""
    return (
        f"Under the policy {points:+.2f} points of the requests would have been met in time, for {hours:+.2f} GPU-hours{share}: "
        f"{would['gpus']:.1f} GPUs on average instead of {was['gpus']:.1f}, and {would['actions']} scalings instead of "
        f"{was['actions']}."
    )


def _sides(title: str, was: Mapping[str, Any], would: Mapping[str, Any]) -> Grid:
    sides = was, would
    rows = [
        ("attainment", *("-" if one["attainment"] is None else f"{one['attainment']:.2%}" for one in sides)),
        ("GPU-hours", *(f"{one['gpu_hours']:.2f}" for one in sides)),
        *((f"  {role}", *(f"{one['gpu_hours_by_role'][role]:.2f}" for one in sides)) for role in was["gpu_hours_by_role"]),
        ("GPUs on average", *(f"{one['gpus']:.2f}" for one in sides)),
        *((LATENCY_NAMES[name], *(_shown(one["latencies"][name]) for one in sides)) for name in was["latencies"]),
        *((words, *(f"{one[name]:,}" for one in sides)) for name, words in FIGURES.items()),
    ]
    return Grid(title, ("", was["name"], would["name"]), tuple(rows))


def _check(was: Mapping[str, Any], seen: Mapping[str, Any], off: Mapping[str, float]) -> Grid:
    """The replay as it was beside the record."""
    rows = tuple(
        (
            LATENCY_NAMES[name],
            _shown(replayed),
            _shown(seen[name]) if name in seen else "not recorded",
            f"{100 * off[name]:.2f} points" if name in off else "-",
        )
        for name, replayed in was["latencies"].items()
    )
    title = "How far to trust it: the replay as it was beside what was recorded"
    return Grid(title, ("latency", "replayed", "recorded", "off by"), rows)


def _latency(histogram: Histogram | None, slo: Slo) -> dict[str, Any]:
    within = histogram.share_within(slo.threshold_s) if histogram else None
    quantiles = {f"p{100 * q:g}_s": histogram.quantile(q) if histogram else None for q in QUANTILES}
    return {"samples": round(histogram.samples) if histogram else 0, **quantiles, "within": within, "slo_s": slo.threshold_s}


def _shown(latency: Mapping[str, Any]) -> str:
    """`p50 0.12, p95 0.8 s, 97.1 % within 2 s`; a range where the promise is no edge of a bucket."""
    if not latency["samples"]:
        return "-"
    low, high = latency["within"]
    share = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%}..{high:.1%}"
    return f"p50 {latency['p50_s']:.3g}, p95 {latency['p95_s']:.3g} s, {share} within {latency['slo_s']:g} s"


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    return max(0.0, one[0] - other[1], other[0] - one[1])


def _long(span_s: float) -> str:
    return f"{span_s / 3600:.1f} h" if span_s >= 5400 else f"{span_s / 60:.0f} min"

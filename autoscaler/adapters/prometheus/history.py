"""What did one fleet's users send over the last days, what stood there, and what did they see?

The metric profile's own queries, over windows of one step, asked as range queries (ranges.py): what the controller would
have read at the end of each step. Two things are different in hindsight. Nobody can say any more which pod had which role,
so a role's pods are those whose names match its pattern, and a replica is a pod that answered a scrape at the end of the
step. And how lengths are spread matters, so there are histograms of them beside the means (lengths.yaml).

A step about which nothing was recorded is None, never zero: no load and no data look alike only to who does not ask.
Counters that began anew are Prometheus' business (`increase`, `rate`). Whatever fails outside ends as a Refusal with one
line: half a history would be a wrong one.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from string import Template
from typing import Any, Generic, TypeVar

import yaml

from autoscaler.adapters.prometheus.answer import Answer
from autoscaler.adapters.prometheus.client import Row
from autoscaler.adapters.prometheus.profile import ROLE_PODS, load_profiles, offered_source, queries_for
from autoscaler.adapters.prometheus.promql import any_of, models_of, spellings
from autoscaler.adapters.prometheus.ranges import RangeClient, Span
from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role
from autoscaler.core.observation import Histogram, Unknown
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal

OFFERED, REJECTED, AGE = "traffic.offered_rps", "traffic.rejected_rps", "pods.age_s"
# The signal that tells each mean length, by the names of core/capacity.py's Shape.
MEANS: Mapping[str, str] = {
    "prompt_tokens": "traffic.prompt_tokens",
    **{facts.work.value: f"{role}.tokens_per_request" for role, facts in ROLE_FACTS.items()},
}
LATENCIES = ("traffic.ttft", *(f"{role}.latency" for role in Role))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class History:
    """One fleet's past, one entry per step in every sequence; `start_s` in seconds since 1970. None: nobody knows.

    `offered_rps`: requests per second, those turned away before the gateway too; `source` how they are had. `means` and
    `spreads` of lengths by the names of Shape's fields, and `latencies` by signal, over one step each; what nobody tells is not
    in them. `replicas`: pods that answered.
    """

    start_s: int
    step_s: int
    source: str
    offered_rps: Sequence[float | None]
    means: Mapping[str, Sequence[float | None]]
    spreads: Mapping[str, Sequence[Histogram | None]]
    replicas: Mapping[Role, Sequence[int | None]]
    latencies: Mapping[str, Sequence[Histogram | None]]


@dataclass(slots=True)
class _Question(Generic[T]):
    """What is asked, how a chunk's rows are read, and what they said so far, step by step."""

    name: str
    promql: str
    read: Callable[[Sequence[Row], Span], list[T]]
    told: list[T] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """All that is asked about one fleet's past. `pods`: for each role a regular expression of its pods' names (RE2)."""

    fleet: Managed
    pods: Mapping[Role, str]
    span: Span

    def queries(self) -> int:
        """How many queries `read` sends, for who wants to show how far it is. Refusal for what cannot be asked."""
        return sum(1 for _ in self.span.chunks()) * len(self._questions())

    def read(self, client: RangeClient, answered: Callable[[], object] = bool) -> History:
        """The past; `answered` is called after every query. Refusal for what was not answered or cannot be read, and where no
        load at all was recorded.
        """
        questions = self._questions()
        for first, chunk in self.span.chunks():
            for question in questions.values():
                rows = client.query_range(question.promql, chunk)
                if isinstance(rows, Unknown):
                    raise Refusal(f"{rows.detail} (asked for {question.name}, steps from {first + 1} of {self.span.steps})")
                question.told += _readable(question, rows, chunk)
                answered()
        if all(rate is None for rate in questions[OFFERED].told):
            fleet, ends = (
                self.fleet,
                (datetime.fromtimestamp(at_s, UTC).isoformat() for at_s in (self.span.start_s, self.span.end_s)),
            )
            raise Refusal(f"Prometheus has no {OFFERED} of {fleet.model} in {fleet.namespace} from {' to '.join(ends)}")
        return self._history({name: question.told for name, question in questions.items()})

    def _history(self, told: Mapping[str, list[Any]]) -> History:
        fleet, span = self.fleet, self.span
        source = offered_source(fleet.scope(Fleet(fleet.key, {}), 0.0), load_profiles())
        return History(
            span.start_s,
            span.step_s,
            source,
            _sums(told[OFFERED], told.get(REJECTED, [])),
            {length: told[signal] for length, signal in MEANS.items() if signal in told},
            {length: told[f"spread.{length}"] for length in MEANS if f"spread.{length}" in told},
            {role: told[f"{role}.pods"] for role in self.pods},
            {signal: told[signal] for signal in LATENCIES if signal in told},
        )

    def _questions(self) -> dict[str, _Question[Any]]:
        """By name: the profile's signals under their own, a role's pods and the spreads of lengths under ours."""
        fleet = self.fleet
        queries = queries_for(fleet.engine, fleet.gateway, fleet.queries, load_profiles())
        owner, window_s = (fleet.namespace, fleet.model), self.span.step_s
        rates, histograms = (partial(read, owner) for read in (numbers, _histograms))
        count = partial(_counts, fleet.namespace, fleet.policy.freshness.max_age_s)
        told = [name for name in (OFFERED, REJECTED, *MEANS.values(), *LATENCIES) if name in queries]
        readers: Mapping[bool, Any] = {True: histograms, False: rates}
        wanted = [(name, queries[name].promql, name, readers[name in LATENCIES]) for name in told]
        wanted += [(f"spread.{length}", promql, "", histograms) for length, promql in _spreads(fleet).items()]
        wanted += [(f"{role}.pods", queries[AGE].promql, f"{role}.pods", count) for role in self.pods]
        return {
            name: _Question(name, filled(promql, signal, owner, self.pods, window_s), read)
            for name, promql, signal, read in wanted
        }


def filled(promql: str, signal: str, owner: tuple[str, str], pods: Mapping[Role, str], window_s: float) -> str:
    """A template for one fleet, by namespace and model. `$pods` are those of the role that the signal is of, or all."""
    names = {role.value: json.dumps(pattern) for role, pattern in pods.items()}
    namespace, model = owner
    values = {
        "namespaces": any_of([namespace]),
        **models_of([model]),
        "window": f"{window_s:g}s" if window_s == int(window_s) else f"{round(window_s * 1000)}ms",
        "window_s": f"{window_s:g}",
        **{ROLE_PODS[role]: names[role] for role in pods},
    }
    of_role = names.get(signal.partition(".")[0], json.dumps("|".join(pods.values())))
    return Template(promql).safe_substitute(values, pods=of_role)


def _spreads(fleet: Managed) -> Mapping[str, str]:
    """The histograms of lengths that this fleet's engine tells; none of a length whose mean has a query of the fleet's own."""
    text = (resources.files("autoscaler.adapters.prometheus") / "lengths.yaml").read_text(encoding="utf-8")
    told: Mapping[str, str] = yaml.safe_load(text).get(fleet.engine, {})
    return {length: promql for length, promql in told.items() if MEANS[length] not in fleet.queries}


def _sums(offered_rps: Sequence[float | None], rejected_rps: Sequence[float | None]) -> list[float | None]:
    """Who was turned away at the door has arrived all the same; where nobody tells of such, there was no door."""
    doors = rejected_rps or [None] * len(offered_rps)
    return [None if rate is None else rate + (more or 0.0) for rate, more in zip(offered_rps, doors, strict=True)]


def _readable(question: _Question[T], rows: Sequence[Row], chunk: Span) -> list[T]:
    try:
        return question.read(rows, chunk)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Refusal(f"{question.name}: a row of the answer cannot be read: {type(error).__name__} {error}") from error


def _values(row: Row, chunk: Span) -> Iterator[tuple[int, float]]:
    """(step, value) of each point of a row. Raises for one that lies outside the chunk."""
    for at_s, text in row["values"]:
        step = round((float(at_s) - chunk.start_s) / chunk.step_s) - 1
        if not 0 <= step < chunk.steps:
            raise ValueError(f"a value of {at_s} s, beyond {chunk.end_s} s")
        yield step, float(text)


def _of(owner: tuple[str, str], rows: Sequence[Row]) -> Iterator[Row]:
    """The rows of one fleet: a pattern of pod names may reach further than its own pods."""
    namespace, model = owner
    names = spellings(model)
    return (row for row in rows if row["metric"].get("namespace") == namespace and row["metric"].get("model_name") in names)


def numbers(owner: tuple[str, str], rows: Sequence[Row], chunk: Span) -> list[float | None]:
    """One fleet's values, step by step. A mean is no number while nothing was finished; a rate estimated from a shrinking
    queue may be a little below zero.
    """
    told: list[float | None] = [None] * chunk.steps
    for row in _of(owner, rows):
        for step, value in _values(row, chunk):
            if told[step] is not None:
                raise ValueError("answered twice; the query must aggregate by namespace and model_name")
            told[step] = max(0.0, value) if math.isfinite(value) else None
    return told


def _histograms(owner: tuple[str, str], rows: Sequence[Row], chunk: Span) -> list[Histogram | None]:
    """Read as an instant answer is, step by step; None where no observation was made."""
    steps: dict[int, Answer] = defaultdict(Answer)
    for row in _of(owner, rows):
        edge = float(row["metric"]["le"]) if "le" in row["metric"] else None
        for step, value in _values(row, chunk):
            if edge is None:
                steps[step].numbers[""][owner] = value
            else:
                edges = steps[step].buckets[""].setdefault(owner, {})
                edges[edge] = edges.get(edge, 0.0) + value
    told: list[Histogram | None] = [None] * chunk.steps
    for step, answer in steps.items():
        read = answer.histogram("", owner)
        told[step] = None if isinstance(read, Unknown) or read.samples <= 0 else read
    return told


def _counts(namespace: str, max_age_s: float, rows: Sequence[Row], chunk: Span) -> list[int | None]:
    """Pods whose newest sample was young enough to be believed. None at all is not zero replicas: nobody was seen."""
    told: list[int | None] = [None] * chunk.steps
    for row in rows:
        if row["metric"].get("namespace") == namespace:
            for step, age_s in _values(row, chunk):
                if age_s <= max_age_s:
                    told[step] = (told[step] or 0) + 1
    return told

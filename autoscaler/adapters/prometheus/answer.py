"""What do the rows of an answer say, signal by signal?

This is the hot path: 1,000 fleets of 20 pods answer with some 150,000 rows. So one pass, plain dicts, no object per row.

Buckets are read by value, not by text: Prometheus 2 keeps the exporter's spelling of `le` ("1", "1.0", "1e-03"), 3 rewrites
it ("1.0", "0.001"), and while servers or engines are upgraded a window holds both. `sum by (le)` keeps those apart, each
with a part of the counts, so equal edges are added. Counts are then made to rise with the edges (as `histogram_quantile`
does), since pods of different versions may have different edges: at an edge only some of them have, the others count for
nothing, and the sum of the edge below is the better lower bound.

A histogram's row without `le` is the sum of what was observed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from autoscaler.adapters.prometheus.client import Row
from autoscaler.adapters.prometheus.profile import SHAPES
from autoscaler.core.observation import Gap, Histogram, Known, Reading, Unknown

Owner = tuple[str, str]  # (namespace, pod) or (namespace, model)
_NOTHING: Mapping[Owner, float] = {}


@dataclass(slots=True)
class Answer:
    """One shard's answer: numbers, bucket counts by upper edge, and numbers by what tells parts apart, per signal and owner."""

    numbers: dict[str, dict[Owner, float]] = field(default_factory=lambda: defaultdict(dict))
    buckets: dict[str, dict[Owner, dict[float, float]]] = field(default_factory=lambda: defaultdict(dict))
    parts: dict[str, dict[Owner, dict[tuple[str, ...], float]]] = field(default_factory=lambda: defaultdict(dict))

    def number(self, signal: str, owner: Owner) -> float | None:
        """One number, or None where the answer has none."""
        return self.numbers.get(signal, _NOTHING).get(owner)

    def tells(self, signal: str, owner: Owner) -> bool:
        """Whether there is a row of it, whatever that says."""
        told: tuple[Mapping[str, Mapping[Owner, object]], ...] = (self.numbers, self.buckets, self.parts)
        return any(owner in kind.get(signal, {}) for kind in told)

    def table(self, signal: str, owner: Owner) -> Mapping[tuple[str, ...], float]:
        """A number for each part, by its labels in the order of the signal's shape; empty where nobody tells it."""
        return self.parts.get(signal, {}).get(owner, {})

    def reading(self, signal: str, owner: Owner, age_s: float) -> Reading:
        """One number as a reading of that age."""
        value = self.number(signal, owner)
        if value is None:
            return self._missing(signal, owner, self.numbers)
        if not math.isfinite(value):
            return Unknown(Gap.NOT_A_NUMBER, f"{signal} is {value}; a mean is that while no request completes in the window")
        return Known(value, age_s)

    def histogram(self, signal: str, owner: Owner) -> Histogram | Unknown:
        """One histogram over the window."""
        buckets, total = self.buckets.get(signal, {}).get(owner), self.number(signal, owner)
        if buckets is not None:
            return _histogram(signal, buckets, total)
        if total is not None:
            return Unknown(Gap.MALFORMED, f"{signal} is answered without le; its query must aggregate by le too")
        return self._missing(signal, owner, self.buckets)

    def _missing(self, signal: str, owner: Owner, answered: Mapping[str, Mapping[Owner, object]]) -> Unknown:
        namespace, model = owner
        others = sorted({name for space, name in answered.get(signal, {}) if space == namespace})
        hint = f"; that namespace answers for {', '.join(others[:3])}" if others else ""
        return Unknown(Gap.MISSING, f"Prometheus answers, but has no {signal} of {model} in {namespace}{hint}")


def tabulate(rows: Iterable[Row]) -> Answer:
    """Sort the rows by signal and owner. KeyError, TypeError or ValueError for a row that cannot be read."""
    answer = Answer()
    numbers, buckets, parts = answer.numbers, answer.buckets, answer.parts
    for row in rows:
        metric = row["metric"]
        signal = metric["signal"]
        shape = SHAPES[signal]
        if "histogram" in row:
            raise ValueError(f"{signal} is answered by a native histogram; its query must return classic buckets or a number")
        _, text = row["value"]
        owner = (metric.get("namespace", ""), metric.get(shape.owner, ""))
        if shape.buckets and (bound := metric.get("le")) is not None:
            edges = buckets[signal].setdefault(owner, {})
            edge = float(bound)
            edges[edge] = edges.get(edge, 0.0) + float(text)
        elif shape.parts:
            part = tuple(metric.get(label, "") for label in shape.parts)
            parts[signal].setdefault(owner, {})[part] = float(text)
        elif owner in (column := numbers[signal]):
            raise ValueError(
                f"{signal} is answered twice for {owner[1]} in {owner[0]}; its query must aggregate by {shape.owner}"
            )
        else:
            column[owner] = float(text)
    return answer


def _histogram(signal: str, buckets: Mapping[float, float], total: float | None) -> Histogram | Unknown:
    edges = sorted(buckets)
    if any(map(math.isnan, edges)) or edges[-1] != math.inf:
        return Unknown(Gap.MALFORMED, f"{signal} has no +Inf bucket among its {len(edges)} edges, so nobody knows the total")
    counts = [buckets[edge] for edge in edges]
    if not all(map(math.isfinite, counts)):
        return Unknown(Gap.NOT_A_NUMBER, f"{signal} has a bucket count that is no number")
    known_total = total if total is not None and math.isfinite(total) else None
    return Histogram(tuple(edges), tuple(accumulate(counts, max)), known_total)

"""Which load does a batch object say that it brings?

It says so itself, in annotations:

    pdautoscaler.io/demand-fleet: NAMESPACE/NAME               the PDAutoscaler that it asks; NAME: in its own namespace
    pdautoscaler.io/demand-prefill-tokens-per-second: "20k"    cache-missed prompt tokens
    pdautoscaler.io/demand-decode-tokens-per-second: "4000"    answered tokens

On the object these are the load of the whole of it. On a pod template they are one pod's, and count as many times as pods run
at once: a Job's parallelism, but not more than its completions; in a JobSet that times the replicas of each of its jobs. What
stands on the object goes before what stands on its templates. A RayJob says it on itself.

Annotations of a template come with its pods. What a Job has been asked about is not asked of its pods again, nor of the jobs of
a JobSet or a RayJob: `spoken_for`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.companion.admission.review import annotated, listed, mapping
from autoscaler.companion.admission.strictness import PREFIX
from autoscaler.core.fleet import Role
from autoscaler.policy.fields import shown

FLEET = f"{PREFIX}demand-fleet"
AMOUNTS: Mapping[Role, str] = {role: f"{PREFIX}demand-{role}-tokens-per-second" for role in Role}
ASKED = frozenset({"Job", "JobSet", "RayJob"})  # kinds that answer for what they own
MOST = 1e12  # tokens per second; more than all that is served anywhere
_AMOUNT = re.compile(r"([0-9]{1,15}(?:[.][0-9]{1,9})?)([kM]?)")
_TIMES: Mapping[str, float] = {"": 1.0, "k": 1e3, "M": 1e6}


@dataclass(frozen=True, slots=True)
class Declared:
    """A load, in tokens per second of each role's own work, and whose it is: namespace/name."""

    fleet: str
    tokens_per_s: Mapping[Role, float]


@dataclass(frozen=True, slots=True)
class Misdeclared:
    """A declaration that cannot be read, and why."""

    text: str


Source = tuple[Mapping[str, Any], float]  # annotations, and how many times they count


def declared(kind: str, body: object, namespace: str) -> Declared | Misdeclared | None:
    """What an object of this kind declares; None: nothing. Never raises."""
    own = annotated(body)
    sources = [(own, 1.0)] if _speaks(own) else list(_TEMPLATES.get(kind, _none)(mapping(mapping(body).get("spec"))))
    fleets = {str(source.get(FLEET, own.get(FLEET, ""))) for source, _ in sources if _speaks(source)}
    if not fleets:
        return Misdeclared(f"{FLEET} is there, and no {' or '.join(AMOUNTS.values())}") if FLEET in own else None
    if len(fleets) > 1 or fleets == {""}:
        return Misdeclared(f"{FLEET} is {'missing' if fleets == {''} else 'not the same everywhere'} (allowed: NAMESPACE/NAME)")
    return _total(next(iter(fleets)), sources, namespace)


def spoken_for(body: object) -> bool:
    """Whether what controls this object has been asked about it already."""
    references = listed(mapping(mapping(body).get("metadata")).get("ownerReferences"))
    owners = (mapping(one) for one in references)
    return any(one.get("controller") is True and str(one.get("kind")) in ASKED for one in owners)


def suspended(body: object) -> bool:
    """Whether it runs nothing yet."""
    return mapping(mapping(body).get("spec")).get("suspend") is True


def _total(fleet: str, sources: list[Source], namespace: str) -> Declared | Misdeclared:
    total: dict[Role, float] = {}
    for source, times in sources:
        for role, name in AMOUNTS.items():
            if name not in source:
                continue
            amount = _amount(source[name])
            if amount is None:
                return Misdeclared(f"{name} is {shown(source[name])} (allowed: a number, as in 1500, 1.5k or 2M)")
            total[role] = min(MOST, total.get(role, 0.0) + amount * times)
    return Declared(fleet if "/" in fleet else f"{namespace}/{fleet}", total)


def _speaks(source: Mapping[str, Any]) -> bool:
    return any(name in source for name in AMOUNTS.values())


def _amount(written: object) -> float | None:
    found = _AMOUNT.fullmatch(written) if isinstance(written, str) else None
    return float(found[1]) * _TIMES[found[2]] if found else None


def _none(_: Mapping[str, Any]) -> Iterator[Source]:
    return iter(())


def _job(spec: Mapping[str, Any]) -> Iterator[Source]:
    template = mapping(spec.get("template"))
    pods = _whole(spec.get("parallelism"), 1.0)
    yield annotated(template), min(pods, _whole(spec.get("completions"), math.inf))


def _job_set(spec: Mapping[str, Any]) -> Iterator[Source]:
    for one in map(mapping, listed(spec.get("replicatedJobs"))):
        template, copies = mapping(one.get("template")), _whole(one.get("replicas"), 1.0)
        own = annotated(template)
        if _speaks(own):
            yield own, copies
            continue
        for source, pods in _job(mapping(template.get("spec"))):
            yield source, pods * copies


def _whole(count: object, default: float) -> float:
    return float(count) if isinstance(count, int) and 0 <= count < MOST else default


_TEMPLATES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Source]]] = {"Job": _job, "JobSet": _job_set}

"""How do the signals of many fleets become few queries?

Fleets that are asked about in the same words (same profiles, overrides and window) go into one query, up to 500 pods:

    label_replace(<signal a>, "signal", "a", "", "") or label_replace(<signal b>, "signal", "b", "", "") or ...

What a pod has counted since before it changed its role is in no role's sum until a whole window has passed: else the answers
of a decode replica that is prefill now would count as arrivals. Its gauges, which are of this moment, are asked all the time.

A selector matches namespaces and pods independently, not in pairs. So a pod name that is prefill in one namespace and
decode in another would be counted for both roles of both fleets (one chart installed twice, then a flip in one of them):
such fleets are asked about in separate queries. What remains: a pod that is in no pool just now (starting, stuck) is counted
if another namespace of the same query has a pod of its name; it has next to no traffic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Template

from autoscaler.adapters.prometheus.profile import ROLE_PODS, Query
from autoscaler.core.fleet import Role
from autoscaler.ports import FleetScope

# What RE2 would not take literally. Python's re.escape also escapes "-", which keeps Prometheus from seeing a plain list
# of names, and that list is what it looks up in its index instead of trying 2,000 alternatives on every series.
_RE2_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_NOBODY = "/"  # a name that no pod, namespace or model has; an empty alternative would match series without the label


@dataclass(slots=True)
class Shard:
    """Fleets that share one query; filled while the fleets are dealt out."""

    queries: Mapping[str, Query]
    window_s: float
    scopes: list[FleetScope] = field(default_factory=list)
    roles: dict[str, Role] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    pods: int = 0

    def takes(self, pods: Mapping[str, Role], limit: int) -> bool:
        """Whether a fleet with these pods fits in, by number and without a pod name in two roles."""
        if self.scopes and self.pods + len(pods) > limit:
            return False
        return all(self.roles.get(pod, role) is role for pod, role in pods.items())

    def add(self, scope: FleetScope, pods: Mapping[str, Role]) -> None:
        """Take a fleet in."""
        self.scopes.append(scope)
        self.roles.update(pods)
        self.moved |= scope.moved
        self.pods += len(pods)


def deal(scopes: Iterable[tuple[FleetScope, Mapping[str, Query]]], limit: int) -> Iterator[Shard]:
    """Fleets with their queries, dealt into as few shards of at most `limit` pods as first-fit finds.

    One fleet is never split: with more than `limit` pods it is a shard of its own.
    """
    groups: dict[tuple[object, ...], list[Shard]] = {}
    for scope, queries in scopes:
        group = groups.setdefault((scope.engine, scope.gateway, scope.window_s, tuple(sorted(scope.queries.items()))), [])
        pods = {pod: role for role, names in scope.pods.items() for pod in names}
        shard = next((shard for shard in group if shard.takes(pods, limit)), None)
        if shard is None:
            shard = Shard(queries, scope.window_s)
            group.append(shard)
        shard.add(scope, pods)
    for group in groups.values():
        yield from group


def render(shard: Shard) -> str:
    """The shard's one query."""
    settled = {pod: role for pod, role in shard.roles.items() if pod not in shard.moved}
    by_role = {role: any_of(pod for pod, held in settled.items() if held is role) for role in Role}
    values = {
        "namespaces": any_of(scope.namespace for scope in shard.scopes),
        **models_of(scope.model for scope in shard.scopes),
        "window": _duration(shard.window_s),
        "window_s": f"{shard.window_s:g}",
        **{ROLE_PODS[role]: names for role, names in by_role.items()},
    }
    pods_of: dict[str, str] = {"pods": any_of(shard.roles)} | by_role  # by section, whose names are "pods" and the roles
    return "\nor\n".join(
        named(name, Template(query.promql).safe_substitute(values, pods=pods_of.get(name.partition(".")[0], "")))
        for name, query in shard.queries.items()
    )


def models_of(names: Iterable[str]) -> Mapping[str, str]:
    """The placeholders that stand for models."""
    names = list(names)
    return {"models": any_of(names), "any_case_models": any_of(one for name in names for one in spellings(name))}


def spellings(model: str) -> tuple[str, str]:
    """A model's name as it is, and as a gateway may write it: Dynamo's frontend has it in lower case."""
    return model, model.lower()


def any_of(names: Iterable[str]) -> str:
    """A quoted PromQL regular expression that matches exactly these names, whatever characters they hold.

    JSON's string escapes are a subset of PromQL's, which are Go's.
    """
    return json.dumps("|".join(_RE2_SPECIAL.sub(r"\\\g<0>", name) for name in sorted(set(names))) or _NOBODY, ensure_ascii=False)


def named(signal: str, promql: str) -> str:
    """The same query, its rows told apart from those of other signals."""
    return f'label_replace(\n{promql.strip()}\n, "signal", "{signal}", "", "")'


def _duration(window_s: float) -> str:
    """PromQL durations are whole numbers of a unit."""
    return f"{int(window_s)}s" if window_s == int(window_s) else f"{round(window_s * 1000)}ms"

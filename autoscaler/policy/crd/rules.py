"""What do two fields forbid together, in words that an API server can check?

The same checks as the validators of sections.py and document.py, in CEL, with the same limits and in the same words;
only the numbers are missing in the messages: the server's cost estimate has no bound for a number turned into text and
would refuse the schema. A rule sits on the class that sees both fields and names the one to change.

Durations are doubles to CEL (`4.0 *`), counts are integers. `has(x)` is false for null as well as for a missing field.
Every part of `Spec` with a default is there when rules run; a pool's `behaviour` has none and may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from autoscaler.core.fleet import Role
from autoscaler.core.hysteresis import Damping
from autoscaler.policy.actuation import NEVER_WOKEN, NO_SCALE, Actuation
from autoscaler.policy.behaviour import ORDERED, FlipOrder
from autoscaler.policy.crd.structural import Additions, one_of
from autoscaler.policy.document import FORGETFUL, FORGETS, SCRAPES_PER_AGE, TICKS_PER_GAP, Spec
from autoscaler.policy.drivers import NEEDS, SWITCHING, Need
from autoscaler.policy.profiles import metric_profiles, replica_profiles, signals
from autoscaler.policy.rejection import STATUSES, Rejection
from autoscaler.policy.routing import HAS_API, OTHERS, TELLS_ROLES, RoutingKind
from autoscaler.policy.sections import LWS, SCRAPES_PER_WINDOW, WITH_ROLES, Target

Rule = dict[str, str]


def additions() -> Additions:
    """What the model checks beyond the schema of single fields, by its class names."""
    return Additions(rules=_rules(), fields=_fields(), names={"ProfileSpec": replica_profiles()})


def _rule(path: str, rule: str, message: str) -> Rule:
    """`path` is that of the field to change, from the rule's place on; empty for the place itself."""
    return {"rule": rule, "message": message, **({"fieldPath": path} if path else {})}


def _rules() -> dict[str, list[Rule]]:
    window = f"self.windowSeconds >= {SCRAPES_PER_WINDOW}.0 * self.scrapeIntervalSeconds"
    uncached = "!has(self.uncachedTokens) || self.uncachedTokens <= self.promptTokens"
    floors = "!has(self.floors) || self.floors.all(one, one.min <= self.max)"
    return {
        "Metrics": [_rule(".windowSeconds", window, f"below {SCRAPES_PER_WINDOW} x scrapeIntervalSeconds")],
        "Pool": [
            _rule(".max", "self.max >= self.min", "below min"),
            _rule(".floors", floors, "a floor's min is above max"),
            _rule(".actuation", f"self.actuation == '{Actuation.DIRECT}' || !has(self.target.role)", NO_SCALE),
        ],
        "Target": [_version_belongs_to_kind(), *_role_belongs_to_kind()],
        "RequestShape": [_rule(".uncachedTokens", uncached, "above promptTokens")],
        "ForecastSpec": [_rule(".errorsNeeded", "self.errorsNeeded <= self.errorsKept", "above errorsKept")],
        "Routing": [*_fields_of_a_kind(), *_values_tell_apart()],
        "Flip": [_order_of_halves()],
        "ClassSlo": _around_the_promise(),
        "Rejection": _classes_told_apart(),
        "Spec": [
            *_one_role_per_target(),
            _pays_for_the_smallest_fleet(),
            _outlives_a_scrape(),
            *_ticks_are_no_gaps(),
            *_somebody_wakes_it(),
            _stays_awake_for_others(),
            _drains_longer_than_it_settles(),
            *_drivers_have_what_they_need(),
        ],
    }


def _fields() -> dict[tuple[str, str], dict[str, object]]:
    """Names of files that ship with the product are unknown to the model's schema, and so is what YAML makes of Off."""
    known = ", ".join(f"'{name}'" for name in signals())
    unknown = _rule("", f"self.all(name, name in [{known}])", f"not a signal (allowed: {', '.join(signals())})")
    return {
        ("Spec", "mode"): {"description": f'{Spec.model_fields["mode"].description} "Off" needs its quotes here.'},
        ("Spec", "engine"): {"enum": list(metric_profiles("engine"))},
        ("Spec", "gateway"): {"pattern": one_of(metric_profiles("gateway"))},
        ("Rejection", "mode"): {"description": f'{Rejection.model_fields["mode"].description} "off" needs its quotes here.'},
        ("Rejection", "status"): {"enum": list(STATUSES)},
        ("Metrics", "queries"): {"maxProperties": len(signals()), "x-kubernetes-validations": [unknown]},
    }


def _version_belongs_to_kind() -> Rule:
    """The default version is there by the time the rule runs, so a missing one and this one look the same."""
    version = Target.model_fields["api_version"].default
    rule = f"self.kind == '{LWS}' || self.apiVersion != '{version}'"
    return _rule(".apiVersion", rule, f"missing; the default {version} has no other kind than {LWS}")


def _role_belongs_to_kind() -> Iterator[Rule]:
    has_roles, kinds = f"self.kind in {list(WITH_ROLES)}", " or ".join(WITH_ROLES)
    yield _rule(".role", f"!({has_roles}) || has(self.role)", f"missing; a {kinds} has a count for each of its roles")
    yield _rule(".role", f"{has_roles} || !has(self.role)", f"not allowed; only a {kinds} has roles inside")


def _names(values: Iterable[str]) -> list[str]:
    """CEL's list of an enum's values."""
    return [str(value) for value in values]


def _fields_of_a_kind() -> Iterator[Rule]:
    has_label, gate = f"self.kind in {_names(TELLS_ROLES)}", RoutingKind.READINESS_GATE
    yield _rule(".label", f"!({has_label}) || has(self.label)", "needs the pod label that tells the router the role")
    yield _rule(".label", f"self.kind != '{gate}' || !has(self.label)", f"not allowed; kind {gate} has no label")
    others = " || ".join(f"self.label.startsWith('{domain}/')" for domain in OTHERS)
    yield _rule(".label", f"!has(self.label) || !({others})", "not allowed; the objects that made the pods find them by it")
    has_api, kinds = f"self.kind in {_names(HAS_API)}", " or ".join(HAS_API)
    yield _rule(".url", f"!({has_api}) || has(self.url)", f"missing; kind {kinds} needs its API")
    yield _rule(".url", f"{has_api} || !has(self.url)", f"not allowed; only kind {kinds} has an API")


def _values_tell_apart() -> Iterator[Rule]:
    for owner, role in combinations(Role, 2):
        yield _rule(f".values.{role}", f"self.values.{owner} != self.values.{role}", f"the value of {owner} already")
    for role in Role:
        yield _rule(".away", f"self.away != self.values.{role}", f"the value of {role} already")


def _order_of_halves() -> Rule:
    rule = f"self.order == '{FlipOrder.AUTO}' || self.driver in {_names(ORDERED)}"
    return _rule(".order", rule, "which changes roles in place")


def _around_the_promise() -> list[Rule]:
    return [
        _rule(".leastSeconds", "!has(self.leastSeconds) || self.leastSeconds <= self.seconds", "above seconds"),
        _rule(".mostSeconds", "!has(self.mostSeconds) || self.mostSeconds >= self.seconds", "below seconds"),
    ]


def _classes_told_apart() -> list[Rule]:
    known = "has(self.classes) && self.classes.exists(one, one.name == self.default)"
    lower = "self.classes.exists(other, other.name == one.degradesTo && other.priority < one.priority)"
    degraded = f"!has(self.classes) || self.classes.all(one, !has(one.degradesTo) || {lower})"
    return [
        _rule(".default", f"!has(self.default) || ({known})", "is no class"),
        _rule(".classes", degraded, "degradesTo is no class of a lower priority"),
    ]


def _somebody_wakes_it() -> Iterator[Rule]:
    path = ".behaviour.zeroAfterSeconds"
    yield _rule(
        path, f"!has(self{path}) || has(self.gateway)", "needs a spec.gateway: without engines nothing else sees arrivals"
    )
    remembers = f"!has(self.gateway) || !(self.gateway in {list(FORGETFUL)})"
    yield _rule(path, f"!has(self{path}) || {remembers}", f"spec.gateway {' or '.join(FORGETFUL)} {FORGETS}")


def _stays_awake_for_others() -> Rule:
    path, direct = ".behaviour.zeroAfterSeconds", _all_direct()
    return _rule(path, f"!has(self{path}) || ({direct})", NEVER_WOKEN)


def _all_direct() -> str:
    return " && ".join(f"self.pools.{role}.actuation == '{Actuation.DIRECT}'" for role in Role)


def _drains_longer_than_it_settles() -> Rule:
    path = ".behaviour.drain.deadlineSeconds"
    rule = f"!has(self.routing) || self{path} >= self.routing.settleSeconds"
    return _rule(path, rule, "below spec.routing.settleSeconds")


def _drivers_have_what_they_need() -> Iterator[Rule]:
    pairs = [(f"self.pools.{one}", f"self.pools.{other}") for one, other in combinations(Role, 2)]
    shared = [f"has({one}.capacityPool) && has({other}.capacityPool)" for one, other in pairs]
    met = {
        Need.SWITCH: f"self.engine in {list(SWITCHING)}",
        Need.TELLING: f"has(self.routing) && self.routing.kind in {_names(TELLS_ROLES)}",
        Need.ONE_SIZE: " && ".join(f"{one}.gpusPerReplica == {other}.gpusPerReplica" for one, other in pairs),
        Need.OWN_COUNTS: _all_direct(),
        Need.ONE_STOCK: " && ".join([*shared, *(f"{one}.capacityPool == {other}.capacityPool" for one, other in pairs)]),
    }
    path = ".behaviour.flip.driver"
    for driver, needs in NEEDS.items():
        yield from (_rule(path, f"self{path} != '{driver}' || ({met[need]})", f"{driver} needs {need}") for need in needs)


def _one_role_per_target() -> Iterator[Rule]:
    for owner, role in combinations(Role, 2):
        one, other = f"self.pools.{owner}.target", f"self.pools.{role}.target"
        same = f"{one}.name == {other}.name && {one}.kind == {other}.kind && {_group(one)} == {_group(other)}"
        same += f" && {_inside(one)} == {_inside(other)}"
        yield _rule(f".pools.{role}.target.name", f"!({same})", f"the target of {owner} already")


def _group(target: str) -> str:
    """The API group; "" for the core's, whose versions have no slash."""
    version = f"{target}.apiVersion"
    return f"({version}.contains('/') ? {version}.substring(0, {version}.lastIndexOf('/')) : '')"


def _inside(target: str) -> str:
    """The role inside the object; "" where there is none."""
    return f"(has({target}.role) ? {target}.role : '')"


def _pays_for_the_smallest_fleet() -> Rule:
    needed = " + ".join(f"self.pools.{role}.min * self.pools.{role}.gpusPerReplica" for role in Role)
    terms = " + ".join(f"{role} min x gpusPerReplica" for role in Role)
    rule = f"!has(self.gpuBudget) || self.gpuBudget >= {needed}"
    return _rule(".gpuBudget", rule, f"below the GPUs of the smallest fleet: {terms}")


def _outlives_a_scrape() -> Rule:
    rule = f"self.freshness.maxAgeSeconds >= {SCRAPES_PER_AGE}.0 * self.metrics.scrapeIntervalSeconds"
    return _rule(".freshness.maxAgeSeconds", rule, f"below {SCRAPES_PER_AGE} x spec.metrics.scrapeIntervalSeconds")


def _ticks_are_no_gaps() -> Iterator[Rule]:
    """A gap that is not written is the core's; a pool without one has the policy's, which has its own rule."""
    own, path = "self.behaviour.gapSeconds", ".behaviour.tickSeconds"
    gaps = {"behaviour": f"(has({own}) ? {own} : {float(Damping().gap_s)})", "forecast": "self.forecast.gapSeconds"}
    for part, gap in gaps.items():
        yield _rule(path, f"{TICKS_PER_GAP}.0 * self{path} <= {gap}", f"above 1/{TICKS_PER_GAP} of spec.{part}.gapSeconds")
    for role in Role:
        part = f"pools.{role}.behaviour"
        unset = f"!has(self.{part}) || !has(self.{part}.gapSeconds)"
        rule = f"{unset} || {TICKS_PER_GAP}.0 * self{path} <= self.{part}.gapSeconds"
        yield _rule(path, rule, f"above 1/{TICKS_PER_GAP} of spec.{part}.gapSeconds")

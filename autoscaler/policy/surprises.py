"""What in a valid policy will surprise its owner?

Nothing here stops anything: the document means what it says, but its owner may have meant something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from autoscaler.core.action import Mode
from autoscaler.core.capacity import KV_USABLE, Bound, Shape, capacity
from autoscaler.core.fleet import ROLE_FACTS, Role, SloKind
from autoscaler.core.policy import Policy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy.behaviour import DampingSpec, FlipDriver
from autoscaler.policy.document import Document, Spec
from autoscaler.policy.drivers import AUTOMATIC, obstacles
from autoscaler.policy.fields import Objection
from autoscaler.policy.routing import RoutingKind


def warnings(document: Document) -> list[str]:
    """One line per surprise, beginning with the field's path; empty if there is none."""
    spec, policy = document.spec, document.core()
    return [
        str(found)
        for look in (_flips, _cut_off, _still_on_its_way, _out_of_reach, _short_windows)
        for found in look(spec, policy)
    ]


def _to_first_token_s(profile: ReplicaProfile, shape: Shape) -> float:
    """Prefill, KV hand-off and the first decode step; the mean over prompts, since some are longer."""
    prefill_s = profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    return prefill_s + profile.transfer_time_s(shape.prompt_tokens) + profile.step_time_s(1, shape.prompt_tokens)


def _per_token_s(profile: ReplicaProfile, shape: Shape) -> float:
    return profile.step_time_s(1, shape.resident_tokens)


# What a request takes on a fleet that serves nobody else, in seconds: no size of a pool meets a tighter SLO.
ALONE_S: Mapping[SloKind, Callable[[ReplicaProfile, Shape], float]] = {
    SloKind.TTFT: _to_first_token_s,
    SloKind.TPOT: _per_token_s,
}


def impossible(policy: Policy) -> dict[Role, Objection]:
    """Promises that no size of a pool keeps: the mean request alone takes longer than the SLO."""
    missed: dict[Role, Objection] = {}
    shape = policy.shape
    if shape is None:
        return missed
    for role, facts in ROLE_FACTS.items():
        slo = policy.slos[facts.binding_slo]
        alone_s = ALONE_S[slo.kind](policy.profile, shape)
        if slo.threshold_s <= alone_s:
            text = f"{slo.threshold_s:g} cannot be met by any number of {role} replicas"
            told = f"{text}: spec.requestShape alone takes {alone_s:.4g}"
            missed[role] = Objection(("spec", "slo", slo.kind, "seconds"), told)
    return missed


def _flips(spec: Spec, _: Policy) -> Iterator[Objection]:
    """A driver that is written has what it needs, or the document is refused; `auto` may find none. Each says why not, once."""
    flip = spec.behaviour.flip
    lacking = [obstacles(driver, spec.ground) for driver in AUTOMATIC]
    if flip.enabled and flip.driver is FlipDriver.AUTO and all(lacking):
        text = f"driver auto finds no way to flip on Kubernetes: {'; '.join(found[0] for found in lacking)}"
        yield Objection(("spec", "behaviour", "flip", "enabled"), text)


def _cut_off(spec: Spec, policy: Policy) -> Iterator[Objection]:
    shrinks = policy.zero_after_s is not None or any(pool.max > pool.min for pool in spec.pools.values())
    if spec.routing is None and policy.mode is Mode.AUTO and shrinks:
        text = "missing, so replicas are removed without being drained: what they still serve then is cut off"
        yield Objection(("spec", "routing"), text)


def _still_on_its_way(spec: Spec, _: Policy) -> Iterator[Objection]:
    """Between vLLM engines a request comes to its decode engine after its prefill; SGLang's have it at once, both of them."""
    routing, ttft_s = spec.routing, spec.slo[SloKind.TTFT].seconds
    if routing is not None and routing.kind is not RoutingKind.SGLANG_GATEWAY and routing.settle_seconds < ttft_s:
        text = (
            f"{routing.settle_seconds:g} is shorter than spec.slo.ttft.seconds {ttft_s:g}, for which a request may be in prefill"
        )
        yield Objection(("spec", "routing", "settleSeconds"), f"{text} and come to a decode replica that looked idle")


def _out_of_reach(_: Spec, policy: Policy) -> Iterator[Objection]:
    """Where the mean request alone is too much: for the SLO, or for the memory."""
    shape, profile = policy.shape, policy.profile
    if shape is None:
        return
    missed = impossible(policy)
    for role, facts in ROLE_FACTS.items():
        carried = capacity(facts.sizing, profile, policy.slos[facts.binding_slo], shape)
        if role in missed:
            yield missed[role]
        elif carried.bound is Bound.KV and not carried.feasible:
            text = f"a request holds {shape.resident_tokens:g} tokens, more than a {role} replica of {profile.name} has room for"
            yield Objection(("spec", "requestShape"), f"{text} ({KV_USABLE * profile.kv_tokens:.0f})")


def _short_windows(spec: Spec, _: Policy) -> Iterator[Objection]:
    """A window of 0 is none, on purpose; one below a tick is meant to steady something and never sees two looks."""
    behaviours: dict[tuple[str, ...], DampingSpec] = {("spec", "behaviour"): spec.behaviour}
    behaviours |= {("spec", "pools", role, "behaviour"): pool.behaviour for role, pool in spec.pools.items()}
    for path, behaviour in behaviours.items():
        for direction, brakes in (("scaleUp", behaviour.scale_up), ("scaleDown", behaviour.scale_down)):
            window_s, tick_s = brakes.stabilization_seconds, spec.behaviour.tick_seconds
            if window_s and window_s < tick_s:
                text = f"{window_s:g} is shorter than tickSeconds {tick_s:g}, so the window holds one look and steadies nothing"
                yield Objection((*path, direction, "stabilizationSeconds"), text)

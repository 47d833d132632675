"""What is lost without a signal, or without what else preflight looks for?

One line for each, in the words of what the controller then does. `NEEDED` are those without which it does nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.adapters.prometheus.profile import NEEDED_OF_PODS
from autoscaler.core.fleet import ROLE_FACTS, Role

# What the gateway tells is as old as its own samples: arrivals of unknown age are believed as little as none.
NEEDED = frozenset({*(f"pods.{name}" for name in NEEDED_OF_PODS), "traffic.offered_rps", "traffic.age_s"})

OF_PODS: Mapping[str, str] = {
    "waiting": "its pods count as silent, and the fleet is held as it is",
    "running": "its pods count as silent, and the fleet is held as it is",
    "kv_usage": "its pods count as silent, and the fleet is held as it is",
    "age_s": "nobody knows how old the gauges are, so none is believed and the fleet is held",
    "deferred": "a wait for the other role or the transfer counts as the waiting pod's own backlog",
}
OF_ROLES: Mapping[str, str] = {
    "latency": "{slo} is not watched on its pods; {role} is sized by arrivals, queue and profile alone",
    "tokens_per_request": "the {work} tokens of a request are those of the policy's requestShape; without one nothing is sized",
    "service": "the replica profile's speed is never corrected by what is measured",
}
OF_TRAFFIC: Mapping[str, str] = {
    "offered_rps": "nobody knows how much arrives: no pool is ever made smaller, and nothing is forecast",
    "rejected_rps": "requests that are turned away before they are counted are no load",
    "held": "requests that the gateway holds back are no prefill backlog",
    "direct_share": "requests that skip the prefill pods are sized on prefill all the same",
    "prompt_tokens": "the memory that a request takes in decode is that of the policy's requestShape",
    "ttft": "users' time to first token is not watched",
    "age_s": "nobody knows how old the arrivals are, so they are not believed: no pool is made smaller",
}
OF_DOOR: Mapping[str, str] = {
    "verdicts": "nobody sees here whom a sidecar turns away, and why",
    "hindsight": "nobody sees here what a sidecar in shadow mode would have done wrongly",
}
LOST: Mapping[str, str] = {
    **{f"pods.{name}": text for name, text in OF_PODS.items()},
    **{
        f"{role}.{name}": text.format(role=role, slo=facts.binding_slo.upper(), work=facts.work.removesuffix("_tokens"))
        for role, facts in ((role, ROLE_FACTS[role]) for role in Role)
        for name, text in OF_ROLES.items()
    },
    **{f"traffic.{name}": text for name, text in OF_TRAFFIC.items()},
    **{f"door.{name}": text for name, text in OF_DOOR.items()},
}
UNWITNESSED = "an engine that hangs and says it works is found by nobody"
UNFINISHED = "what a pod still serves is cut off when it goes undrained: by eviction, rollout, or a drain that is forced"
STAYS = "its replicas cannot be taken out of routing, so no drain or flip of them ever begins"

"""Which fleets are managed, and how does a policy become one of them?

With `--policy` the fleets are those of the files, from start to end: a `FixedRoster`. The roster that follows the objects
of a cluster is adapters/kubernetes/policies.py; both make a fleet of a policy here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoscaler.core.action import Mode
from autoscaler.core.published import Judged
from autoscaler.core.rejection import RejectionMode
from autoscaler.policy import Document
from autoscaler.ports import Managed


class FixedRoster:
    """The `Roster` of fleets that neither come nor go."""

    def __init__(self, fleets: Sequence[Managed]) -> None:
        self._fleets = tuple(fleets)

    def managed(self) -> Sequence[Managed]:
        """The same at every tick."""
        return self._fleets


def managed(
    document: Document, *, recommend_only: bool = False, uid: str = "", state: Mapping[str, Any] | None = None
) -> Managed:
    """A policy as the controller manages it; `recommend_only` keeps mode Auto from acting. `uid` and `state` as in `Managed`.

    Outside mode Auto nothing outside changes, so nobody is turned away either: rejection then is in shadow mode at most.
    """
    core, spec = document.core(), document.spec
    if recommend_only and core.mode is Mode.AUTO:
        core = replace(core, mode=Mode.RECOMMEND)
    rules = spec.rejection.core(spec.slo)
    if rules.mode is RejectionMode.ENFORCE and core.mode is not Mode.AUTO:
        rules = replace(rules, mode=RejectionMode.SHADOW)
    return Managed(
        key=document.key,
        namespace=document.metadata.namespace,
        model=spec.model,
        policy=core,
        engine=spec.engine,
        gateway=spec.gateway,
        window_s=spec.metrics.window_seconds,
        queries=spec.metrics.queries,
        tick_s=spec.behaviour.tick_seconds,
        uid=uid,
        state=state,
        judged=Judged(rules, spec.rejection.status, spec.model),
        engine_port=spec.engine_port,
    )

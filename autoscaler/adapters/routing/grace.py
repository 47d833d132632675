"""How long may a pod that is deleted while it works go on, and is that enough?

A replica of ours is idle before it goes. But pods also go by eviction, by a rollout, and by a drain that its owner has
forced: then the kubelet runs preStop, sends SIGTERM, and SIGKILL at the end of the grace period, which preStop counts
against. What is left, grace - preStop, is used differently (reference/engines.md B.3):

    vLLM      aborts what is in flight at SIGTERM, or lets it finish for --shutdown-timeout seconds if that is given
    SGLang    finishes what is in flight, until SIGKILL
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GRACE_S = 30.0  # Kubernetes' own default
SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)")
SHUTDOWN = re.compile(r"--shutdown[-_]timeout[=\s]+(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a pod's spec says about its end, in seconds. `shutdown_s` is vLLM's --shutdown-timeout, 0 if it is not given."""

    grace_s: float = GRACE_S
    pre_stop_s: float = 0.0
    shutdown_s: float = 0.0

    @property
    def left_s(self) -> float:
        """From SIGTERM to SIGKILL."""
        return max(0.0, self.grace_s - self.pre_stop_s)


def stopping(spec: Mapping[str, Any]) -> Stopping:
    """Of the spec of a pod or a pod template. A preStop that is no plain sleep counts as none."""
    containers = spec.get("containers") or ()
    commands = " ".join(str(word) for one in containers for word in [*(one.get("command") or ()), *(one.get("args") or ())])
    grace_s = spec.get("terminationGracePeriodSeconds")
    return Stopping(
        GRACE_S if grace_s is None else float(grace_s),
        max((_pre_stop_s(one) for one in containers), default=0.0),
        max((float(found) for found in SHUTDOWN.findall(commands)), default=0.0),
    )


def complaints(pool: str, engine: str, found: Stopping, deadline_s: float) -> Iterator[str]:
    """What a pool's pods lose when they are deleted while they work, one line each. `deadline_s`: how long the owner lets a
    replica drain (behaviour.drain.deadlineSeconds), and so how long a request may take.
    """
    where = f"{pool}: terminationGracePeriodSeconds {found.grace_s:g}, preStop {found.pre_stop_s:g} s"
    if engine == "vllm" and found.shutdown_s == 0:
        yield f"{pool}: vLLM aborts requests in flight when its pod is deleted; give it --shutdown-timeout"
    elif engine == "vllm" and found.shutdown_s >= found.left_s:
        yield f"{where}: vLLM is killed before its --shutdown-timeout of {found.shutdown_s:g} s is over"
    if found.left_s < deadline_s:
        yield f"{where}: a deleted pod has {found.left_s:g} s for requests that may take {deadline_s:g} s (behaviour.drain)"


def _pre_stop_s(container: Mapping[str, Any]) -> float:
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    slept = (hook.get("sleep") or {}).get("seconds")
    if slept is not None:
        return float(slept)
    found = SLEEP.search(" ".join(map(str, (hook.get("exec") or {}).get("command") or ())))
    return float(found[1]) if found else 0.0

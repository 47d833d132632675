"""Who gets new requests? A router as llm-d's filters decide: by the label llm-d.ai/role of each ready pod.

A pod without the label counts as a decode pod, so removing it drains nothing; a value that no filter knows (`draining`)
takes the pod out (reference/engines.md B.2). `lag_s`: how long a change of labels takes to reach the router.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from autoscaler.core.fleet import Role
from tests.engines.engine import StubEngine

LABEL = "llm-d.ai/role"
BOTH = frozenset({"both", "prefill-decode", "encode-prefill-decode"})
ACCEPTED: Mapping[Role, frozenset[str | None]] = {
    Role.PREFILL: BOTH | {"prefill", "encode-prefill"},
    Role.DECODE: BOTH | {"decode", None},
}


class Router(Protocol):
    """Who may be sent a new request."""

    def routable(self, role: Role) -> Sequence[StubEngine]:
        """The engines that take this role's part of a new request."""
        ...


class LabelRouter:
    """`labels` gives the label of each ready pod, None where it has none; `engine` the engine behind a pod, if any."""

    def __init__(self, labels: Callable[[], Mapping[str, str | None]], engine: Callable[[str], StubEngine | None]) -> None:
        self.lag_s = 0.0
        self._labels, self._engine = labels, engine
        self._seen: deque[tuple[float, dict[str, str | None]]] = deque()

    def routable(self, role: Role) -> list[StubEngine]:
        """The engines behind the pods whose label, `lag_s` ago, was one of this role's."""
        now = time.monotonic()
        self._seen.append((now, dict(self._labels())))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.lag_s:
            self._seen.popleft()
        known = self._seen[0][1]
        engines = [self._engine(pod) for pod, label in known.items() if label in ACCEPTED[role]]
        return [engine for engine in engines if engine is not None]

"""How are the counts of a pool published that somebody else writes?

The one place where a decision, or a step of a transaction, becomes a published count instead of a patch (publishing.py says
which count, and when). What comes of it is `Pending` for a decision: how it ended shows in the target's own count.
"""

from __future__ import annotations

from autoscaler.adapters.kubernetes.memories import Memories
from autoscaler.adapters.kubernetes.objections import Handing
from autoscaler.adapters.kubernetes.publishing import patience_s
from autoscaler.adapters.kubernetes.standing import Standings
from autoscaler.adapters.kubernetes.transactions.beginning import Write
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.core.action import Action, Outcome, Verdict
from autoscaler.core.fleet import Handed, Role
from autoscaler.core.transaction import Step

COUNTING = frozenset({Step.SHRINK, Step.GROW, Step.UNGROW, Step.REGROW})
UNPUBLISHED = "actuation hpa needs the policy as an object of the cluster: its status is where the count is published"


class Handings:
    """What is published of many fleets; `stored`: there is a status that tells it. For one fleet by one thread at a time."""

    def __init__(self, standings: Standings, memories: Memories, *, stored: bool) -> None:
        self._standings, self._memories, self._stored = standings, memories, stored

    def stands(self, key: str, ground: Ground, role: Role, now: float) -> Handed | None:
        """How it stands before anything new is decided; None where the count is ours to write."""
        if not ground.handed(role):
            return None
        published, count = self._memories.of(key, role).published, ground.standings[role].desired
        tick_s, target = ground.spec.behaviour.tick_seconds, ground.spec.pools[role].target
        reader = self._standings.follower(ground.namespace, target, handing(ground, role))
        waits_s = published.waits_s(count, now, tick_s)
        asks = any(one.step in COUNTING and one.counted[0] is role for one in ground.under_way)
        told = published.at(count, now) if asks else count
        return Handed(count, told, published.promised(count, now, tick_s), reader, waits_s, patience_s(tick_s))

    def decided(self, key: str, action: Action, write: Write, now: float) -> Outcome:
        """Publish what a tick decided. A count that transactions would have to count along with waits until they are over: they
        have counts of their own to publish.
        """
        if not self._stored:
            return Outcome(action, Verdict.REFUSED, UNPUBLISHED)
        if write.moved:
            return Outcome(action, Verdict.PENDING, f"{write.moved[0].key} comes first")
        self._memories.of(key, action.role).published.tell(write.seen, write.wanted, now)
        return Outcome(action, Verdict.PENDING, f"{write.wanted} is published for whoever writes it", write.wanted)

    def asked(self, key: str, action: Action, found: int, now: float) -> Outcome:
        """Publish what a transaction wants, unless the target has left the count that it was begun on."""
        if found != action.from_replicas:
            return Outcome(action, Verdict.CONFLICT, f"it asks for {found} by now, not {action.from_replicas}")
        self._memories.of(key, action.role).published.ask(found, action.to_replicas, now)
        return Outcome(action, Verdict.APPLIED, f"{action.to_replicas} is published for whoever writes it", action.to_replicas)


def handing(ground: Ground, role: Role) -> Handing:
    """The pool as other autoscalers are held against it."""
    return Handing(ground.document.metadata.name, role, ground.handed(role))

"""When has a phase got so far behind that nobody need be judged one by one?

A phase that is TRIP times as full as the loosest promise of all allows trips, and stays so until it is back within. A promise
that is judged at its own edge lets in again as soon as one more fits; a breaker lets a phase that was overrun empty first. What
a tripped phase stops is core/judge.py's to say.
"""

from __future__ import annotations

from autoscaler.core.arrivals import Arrival, Own
from autoscaler.core.expected import Expected, expected
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.core.judge import LEAST_ROOM, look
from autoscaler.core.outlook import Standing
from autoscaler.core.rejection import Rules, Why

TRIP = 2.0


def breakers(before: frozenset[Role], standing: Standing, rules: Rules, now: float) -> frozenset[Role]:
    """The phases whose breaker is open with this picture, given those that were open with the one before: for whoever gets the
    picture, to put into its `tripped`.
    """
    moment = look(standing, Own(), rules, now)
    found = moment.ahead
    if isinstance(found, Why):
        return frozenset()
    seen = expected(Arrival(), found, moment.wait_s)
    beyond = {role: _beyond(role, seen, rules) for role in standing.crowds if role not in found.idle}
    return frozenset(role for role, times in beyond.items() if times > (1.0 if role in before else TRIP))


def _beyond(role: Role, seen: Expected, rules: Rules) -> float:
    """How full a phase is by the loosest promise of all; 0 where the strategy does not look."""
    kind = ROLE_FACTS[role].binding_slo
    if kind not in seen.times_s:
        return 0.0
    loosest_s = max(one.promises[kind].most_s for one in rules.classes.values())
    return (seen.times_s[kind] - seen.floor_s[kind]) / max(loosest_s - seen.floor_s[kind], LEAST_ROOM * loosest_s)

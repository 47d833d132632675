"""What happened to one fleet since the process started, counted?

An *action* scales one pool and a *flip* moves replicas from one role to another; both count when they are tried, whatever
became of them. A *transaction* is a drain or a flip that was begun, counted when it is over; requests that were given up for
one, by the owner's word, are counted beside it. A *hold* is a role at a tick that tried none, with the
reason that held it: the last of the stages that had something to say, so a pool that wants more and has no GPU left
counts as GpuBudget, one whose load fits as DesiredWithinRange.

A *reversal* is an applied action that undoes the one before it on the same role within 600 s. A model that takes 5
minutes to load has hardly served by then: more than one an hour is money for nothing. Flips are no part of it: one that
takes seconds may well go back within minutes, and their own counter tells how often they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations, product

from prometheus_client.core import CounterMetricFamily, Metric

from autoscaler.core.action import Action, Flip, Mode, Verdict
from autoscaler.core.fleet import Role
from autoscaler.core.reason import Reason, Stage
from autoscaler.core.status import Status

REVERSAL_WITHIN_S = 600.0
DIRECTIONS = ("up", "down")
# What is said at every tick and holds nothing.
QUIET = frozenset({Reason.SIGNALS_OK, Reason.HOLD, Reason.SCALE_UP, Reason.SCALE_DOWN, Reason.CALENDAR_FLOOR})
HOLDING = frozenset({Stage.OBSERVE, Stage.TARGET, Stage.PLAN})

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "pd_autoscaler_actions": ("Changes tried, and how they ended.", ("role", "direction", "verdict")),
    "pd_autoscaler_flips": ("Flips tried, and how they ended.", ("from_role", "to_role", "verdict")),
    "pd_autoscaler_reversals": ("Applied changes that undid the one before within 600 s.", ("role",)),
    "pd_autoscaler_transactions": ("Drains and flips that came to their end.", ("kind", "result")),
    "pd_autoscaler_forced_requests": ("Requests given up because a drain's deadline came.", ("role",)),
    "pd_autoscaler_holds": ("Ticks without a change, and what held it.", ("role", "reason")),
}


class Tally:
    """The counts of one fleet, by name of the counter and values of its labels."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}
        self._last_move: dict[Role, tuple[str, float]] = {}

    def add(self, status: Status) -> None:
        """Count one tick."""
        actions, flips, reversals, over, forced, holds = self.counts.values()
        for role in status.pools:
            if (role,) not in reversals:  # from 0, or `increase()` would not see the first
                reversals[role,] = forced[role,] = 0
                actions.update(dict.fromkeys(product((role.value,), DIRECTIONS, Verdict), 0))
        for pair in permutations(status.pools, 2):
            flips.setdefault((*pair, Verdict.APPLIED), 0)  # those that end otherwise are rare, and lines of a page are not free
        for outcome in status.outcomes:
            action = outcome.action
            if isinstance(action, Flip):
                flips[(*action.roles, outcome.verdict)] += 1
                continue
            actions[action.role, _direction(action), outcome.verdict] += 1
            if outcome.verdict is Verdict.APPLIED:
                reversals[action.role,] += self._undoes(action, status.now)
        for ended in status.ended:
            over[ended.kind, "done" if ended.done else "undone"] += 1
            forced[ended.from_role,] += ended.forced_requests
        holds.update(held(status))

    def copy(self) -> dict[str, dict[tuple[str, ...], int]]:
        """A picture that later ticks do not change."""
        return {name: dict(counter) for name, counter in self.counts.items()}

    def _undoes(self, action: Action, now: float) -> bool:
        before, at_s = self._last_move.get(action.role, ("", now))
        self._last_move[action.role] = (_direction(action), now)
        return before not in ("", _direction(action)) and 0 <= now - at_s <= REVERSAL_WITHIN_S


def counters(tallies: Mapping[str, Mapping[str, Mapping[tuple[str, ...], int]]]) -> Iterator[Metric]:
    """Every counter over these fleets; the family adds `_total` to the name of each sample."""
    for name, (text, labels) in COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=("fleet", *labels))
        for fleet, counts in tallies.items():
            for values, count in counts[name].items():
                family.add_metric((fleet, *values), count)
        yield family


def held(status: Status) -> Iterator[tuple[str, str]]:
    """(role, reason) of every role without a change at this tick; the role is empty where the fleet could not be read."""
    if not status.pools:
        yield from (("", finding.reason) for finding in status.plan.findings)
    acted = {role for outcome in status.outcomes for role in outcome.action.roles}
    wanted: tuple[Flip | Action, ...] = (*status.plan.flips, *status.plan.actions)
    planned = {role for one in wanted for role in one.roles}
    for role in status.pools.keys() - acted:
        if role not in planned:
            yield role, _last_word(role, status)
        elif status.mode == Mode.AUTO:
            yield role, Verdict.CONFLICT  # the write before it met another fleet than was decided on
        else:
            yield role, Reason.MODE


def _last_word(role: Role, status: Status) -> Reason:
    """What held it last: sleep, which is of the whole fleet, or a stage's word about this role."""
    if any(finding.reason is Reason.IDLE for finding in status.plan.findings):
        return Reason.IDLE
    said = [
        finding.reason
        for finding in status.plan.findings
        if finding.role is role and finding.stage in HOLDING and finding.reason not in QUIET
    ]
    return said[-1] if said else Reason.HOLD


def _direction(action: Action) -> str:
    return "up" if action.to_replicas > action.from_replicas else "down"

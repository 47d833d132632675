"""Which Events does a fleet leave on its PDAutoscaler, so that `kubectl describe pda` tells what happened?

One for every action, by how it ended, and one for every condition that turns bad or good again. Recommendations and
holds are in the status; an Event is for what happened. AbleToScale has none of its own: it turns by a write, and that
write has one.

No floods: the same thing is told once in FOLD_S, and the next telling says how often it happened meanwhile; and a fleet
may tell BURST things at once, then one per REFILL_S. An Event is never patched to count: two writes where one tells as
much, and the counters of /metrics count exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.story import conditions_of, deed
from autoscaler.core.action import Outcome, Verdict
from autoscaler.core.conditions import Condition
from autoscaler.core.fleet import Ended
from autoscaler.core.status import Status
from autoscaler.policy.crd.definition import GROUP, KIND, VERSION

CONTROLLER = f"{GROUP}/controller"
FOLD_S = 600.0
BURST = 10
REFILL_S = 60.0
NOTE_BYTES = 1024  # the API server's limit
# The status at which a condition is bad news.
BAD: Mapping[str, bool] = {"ScalingActive": False, "ScalingLimited": True, "Degraded": True}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something worth an Event. `topic`: what happens again under another wording has the same one."""

    warning: bool
    reason: str
    action: str
    note: str
    topic: str


def happenings(status: Status, stored: Mapping[str, Any]) -> Iterator[Happening]:
    """What happened in this tick, after `stored` was the status of the object."""
    for outcome in status.outcomes:
        if outcome.verdict is not Verdict.PENDING:  # how it ended is told when it has
            yield _acted(outcome)
    yield from map(_over, status.ended)
    yield from _turned(status.conditions, conditions_of(stored))


def _acted(outcome: Outcome) -> Happening:
    action = outcome.action
    note = f"{action.subject}: {action.change} ({action.reason})"
    if outcome.verdict is Verdict.APPLIED:
        return Happening(False, deed(outcome), "Scale", note, note)
    return Happening(True, deed(outcome), "Scale", f"{note}: {outcome.detail}", action.subject)


def _over(ended: Ended) -> Happening:
    """A drain or a flip that came to its end. What was undone, or lost requests by the owner's word, is a warning, and the same
    matter as the next of its kind: whatever stood in the way may do so at every tick.
    """
    what = "Drain" if ended.from_role is ended.to_role else "Flip"
    word = "Drained" if what == "Drain" else "Flipped"
    note = f"{ended.name}: {'done' if ended.done else 'undone'} after {ended.took_s:.0f} s{': ' * bool(ended.why)}{ended.why}"
    reason = word if ended.done else f"{what}Undone"
    warning = not ended.done or ended.forced_requests > 0
    return Happening(warning, reason, what, note, f"{ended.from_role} to {ended.to_role}" if warning else ended.name)


def _turned(conditions: Iterable[Condition], before: Mapping[str, Mapping[str, Any]]) -> Iterator[Happening]:
    """Conditions that turned, in one telling where they did for one reason: a fleet that cannot be read turns several."""
    together: dict[tuple[bool, str, str], list[str]] = {}
    for one in conditions:
        bad = BAD.get(one.type)
        was_bad = before.get(one.type, {}).get("status") == str(bad)
        if bad is not None and was_bad != (one.status is bad):
            together.setdefault((not was_bad, str(one.reason), one.message), []).append(f"{one.type} is {one.status}")
    for (warning, reason, message), turned in together.items():
        yield Happening(warning, reason, "Judge", f"{', '.join(turned)}: {message}", " ".join(turned))


class Restraint:
    """Keeps one fleet from telling the same again and again, and from telling too much. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._rested_s = 0.0  # when the whole burst may be told again
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # (reason, topic) -> (when told, how often since)

    def admit(self, happening: Happening, now_s: float) -> Happening | None:
        """The happening as it shall be told now, or None."""
        what = (happening.reason, happening.topic)
        told_s, since = self._told.get(what, (float("-inf"), 0))
        if now_s - told_s < FOLD_S:
            self._told[what] = (told_s, since + 1)
            return None
        if self._rested_s > now_s + (BURST - 1) * REFILL_S:
            return None
        self._rested_s = max(self._rested_s, now_s) + REFILL_S
        # The counts of a pool make a new topic each time that it is scaled: what was told long ago is forgotten.
        self._told = {key: (at_s, n) for key, (at_s, n) in self._told.items() if now_s - at_s < 2 * FOLD_S}
        self._told[what] = (now_s, 0)
        return replace(happening, note=f"{happening.note} ({since} times more since last told)") if since else happening


def collection(namespace: str) -> str:
    """Where Events are made."""
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"


def event(happening: Happening, kept: Kept, instance: str, now: float, number: int) -> Body:
    """The Event, of the `number`th happening at `now` (seconds since 1970), as told by `instance` of the controller.

    Its name follows from that, so one that was sent twice, because no answer came, is stored once.
    """
    when = datetime.fromtimestamp(now, UTC)
    name = f"{kept.name}.{int(now * 1e6):x}-{number}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": kept.namespace},
        "eventTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": happening.action,
        "reason": happening.reason,
        "type": "Warning" if happening.warning else "Normal",
        "note": _cut(happening.note),
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": kept.namespace,
            "name": kept.name,
            "uid": kept.uid,
        },
    }


def _cut(note: str) -> str:
    """At most NOTE_BYTES of UTF-8, no character cut in two."""
    raw = note.encode()
    return note if len(raw) <= NOTE_BYTES else f"{raw[: NOTE_BYTES - 3].decode(errors='ignore')}..."

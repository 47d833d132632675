"""How is a transaction written down, so that the next leader can go on with it?

    {"key": "drain-llama-decode-4-1800000000", "epoch": 7, "kind": "drain", "from": "decode", "to": "decode",
     "victims": [["llama-decode-4", UID]], "step": "idle", "since_s": 1800000004.25, "started_s": 1800000000.0,
     "away_s": 1800000004.25, "before": {"decode": 5}, "after": {"decode": 4}}

and "why" and "forced" where there is something to tell; "back", the steps still to come of a way back, tells that it is on one.
All of a fleet's are one list, in a status of 8 KiB at most: one with a victim is about 300 bytes, 64 for each further one, and
`why` is cut at `LONGEST_WHY` characters. Times are to the millisecond.

What cannot be read raises: half of a transaction is nothing that one could go on with. A kind, a step or a role that is not
known here is of a newer release, and its leader wants it back as it is. A time to come counts as now: clocks of two leaders
differ. That makes a settling time and a deadline longer, never shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from autoscaler.core.fleet import Role
from autoscaler.core.reading import MOST_REPLICAS, Refused, mapping, past, sequence, shown, text, whole
from autoscaler.core.transaction import IN_PLACE, PATHS, UNDO, Change, Kind, Step, Transaction, Victim

Word = TypeVar("Word", bound=StrEnum)

LONGEST_WHY = 120
LONGEST_NAME = 253  # of a Kubernetes object
LONGEST_KEY = 400  # kind, name and a time, and a letter for each part that was split off

# The steps that a way back of each kind may have.
BACK: Mapping[Kind, frozenset[Step]] = {
    kind: frozenset(step for (of, _), way in UNDO.items() if of is kind for step in way) for kind in Kind
}


def record(transactions: Iterable[Transaction]) -> list[dict[str, Any]]:
    """As JSON, in their order."""
    return [_told(one) for one in transactions]


def restored(raw: object, now: float) -> tuple[Transaction, ...]:
    """What `record` made a list of; `ValueError`, with one line of where and what, for anything else."""
    told = sequence(raw, "it")
    found = tuple(_transaction(one, f"[{at}]", now) for at, one in enumerate(told))
    keys = [one.key for one in found]
    for at, key in enumerate(keys):
        if key in keys[:at]:
            raise Refused(f"[{at}].key: {shown(key)} is there twice")
    return found


def _told(one: Transaction) -> dict[str, Any]:
    change = one.change
    kept: dict[str, Any] = {
        "key": one.key,
        "epoch": one.epoch,
        "kind": change.kind.value,
        "from": change.from_role.value,
        "to": change.to_role.value,
        "victims": [[victim.name, victim.uid] for victim in change.victims],
        "step": one.step.value,
        "since_s": round(one.since_s, 3),
        "started_s": round(one.started_s, 3),
    }
    if one.away_s is not None:
        kept["away_s"] = round(one.away_s, 3)
    if one.undoing:
        kept["back"] = [step.value for step in one.back]
    told = {
        "before": _by_name(change.before),
        "after": _by_name(change.after),
        "why": one.why[:LONGEST_WHY],
        "forced": one.forced,
    }
    return kept | {name: value for name, value in told.items() if value}


def _by_name(counts: Mapping[Role, int]) -> dict[str, int]:
    return {role.value: count for role, count in counts.items()}


def _transaction(told: object, where: str, now: float) -> Transaction:
    raw = mapping(told, where)
    change = _change(raw, where)
    undoing = "back" in raw
    back = tuple(_known(Step, one, f"{where}.back") for one in sequence(raw.get("back", ()), f"{where}.back"))
    step = _known(Step, raw.get("step"), f"{where}.step")
    _fits(change.kind, step, back, undoing, where)
    return Transaction(
        text(raw.get("key"), f"{where}.key", LONGEST_KEY),
        whole(raw.get("epoch"), f"{where}.epoch", 0, MOST_REPLICAS),
        change,
        step,
        since_s=past(raw.get("since_s"), f"{where}.since_s", now),
        started_s=past(raw.get("started_s"), f"{where}.started_s", now),
        undoing=undoing,
        back=back,
        why=text(raw.get("why", ""), f"{where}.why", LONGEST_WHY),
        forced=whole(raw.get("forced", 0), f"{where}.forced", 0, MOST_REPLICAS),
        away_s=past(raw["away_s"], f"{where}.away_s", now) if "away_s" in raw else None,
    )


def _change(raw: Mapping[str, Any], where: str) -> Change:
    kind = _known(Kind, raw.get("kind"), f"{where}.kind")
    of, to = (_known(Role, raw.get(name), f"{where}.{name}") for name in ("from", "to"))
    if (of is to) is not (kind is Kind.DRAIN):
        raise Refused(f"{where}.to: {shown(to.value)} is not what {kind} from {of} leads to")
    victims = tuple(_victim(one, f"{where}.victims") for one in sequence(raw.get("victims"), f"{where}.victims"))
    if kind in IN_PLACE and len(victims) != 1:
        raise Refused(f"{where}.victims: {len(victims)} of them, a {kind} has one")
    before, after = (_counts(raw.get(name, {}), f"{where}.{name}") for name in ("before", "after"))
    parted = kind is Kind.DRAIN and "back" in raw and not before  # what `split` let in again
    needed = set() if kind in IN_PLACE or parted else {of, to}
    for name, counts in (("before", before), ("after", after)):
        if set(counts) != needed:
            wanted = ", ".join(sorted(needed)) or "no role"
            raise Refused(f"{where}.{name}: {', '.join(sorted(counts)) or 'no role'} is counted, {wanted} must be")
    return Change(kind, of, to, victims, before, after)


def _fits(kind: Kind, step: Step, back: tuple[Step, ...], undoing: bool, where: str) -> None:
    """A step that its kind never comes to has nothing after it."""
    ahead = BACK[kind] if undoing else frozenset(PATHS[kind])
    ends = Step.UNDONE if undoing else Step.DONE
    if step not in ahead | {ends}:
        raise Refused(f"{where}.step: {shown(step.value)} is no step of {kind}{' on its way back' if undoing else ''}")
    for one in back:
        if one not in BACK[kind]:
            raise Refused(f"{where}.back: {shown(one.value)} is no step of {kind} on its way back")


def _victim(told: object, where: str) -> Victim:
    pair = sequence(told, where)
    if len(pair) != 2:
        raise Refused(f"{where}: {len(pair)} values, name and uid are needed")
    name, uid = (text(one, where, LONGEST_NAME) for one in pair)
    return Victim(name, uid)


def _counts(told: object, where: str) -> dict[Role, int]:
    counts = mapping(told, where)
    return {_known(Role, role, where): whole(count, f"{where}.{role}", 0, MOST_REPLICAS) for role, count in counts.items()}


def _known(words: type[Word], raw: object, where: str) -> Word:
    """One of these words. Another word is none of this release's; anything else is of none."""
    word = text(raw, where, LONGEST_NAME)
    if word not in set(words):
        raise Refused(f"{where}: {shown(word)} is of a newer release, this one knows {', '.join(words)}")
    return words(word)

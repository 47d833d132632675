"""Do transactions keep their laws whatever happens in any order: faults, deaths, and somebody else who acts too?

One or two transactions in one fleet, and meanwhile, in any order: processes die between beats or at a write; somebody else
scales, deletes a pod, sets a label; engines crash into their launch's role, refuse, break, lie or fall silent; pods do not
start, do not go; work has no end; parts of what can be seen are hidden; the owner calls off. At every second no request is
lost through an act of ours but forced and counted ones, none of our writes takes GPUs beyond the budget, and no role loses
its last serving replica by one. And when all faults have ended, everything ends, or is told with what a human may do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY
from autoscaler.core.transaction import Kind, Transaction, split
from autoscaler.core.transit import called_off
from tests.core.transaction_life import PATIENCE, Life, Mode, change
from tests.core.transaction_world import NEVER, Answer, Script, World
from tests.examples import examples

PREFILL, DECODE = Role
FACTS = (
    "counts", "ready", "standing", "bystanders", "came", "others",
    "victims", "same", "stands", "routed", "role", "idle", "requests",
)  # fmt: skip
LABELS = (PREFILL, DECODE, AWAY)

FIRST: Mapping[str, tuple[Kind, tuple[int, ...], int]] = {
    "drain": (Kind.DRAIN, (3,), 0),
    "drain of two": (Kind.DRAIN, (2, 3), 0),
    "relabel": (Kind.RELABEL, (0,), 0),
    "switch": (Kind.SWITCH, (0,), 0),
    "drain first 1:1": (Kind.DRAIN_FIRST, (3,), 1),
    "drain first 2:1": (Kind.DRAIN_FIRST, (2, 3), 1),
    "drain first 1:2": (Kind.DRAIN_FIRST, (3,), 2),
    "surge first 1:2": (Kind.SURGE_FIRST, (3,), 2),
}


def life(first: str, second: str, *, forces: bool, flipped: bool) -> Life:
    """Four decode and two prefill replicas, every GPU in use but a surge's. `flipped`: decode-0 does prefill already."""
    kind, leave, grow = FIRST[first]
    counts = {PREFILL: 2, DECODE: 4}
    gpus = {PREFILL: 2 if first.endswith("2:1") else 1, DECODE: 2 if first.endswith("1:2") else 1}
    surge = grow * gpus[PREFILL] if kind is Kind.SURGE_FIRST else 0
    budget = sum(counts[role] * gpus[role] for role in Role) + surge
    world = World(counts, gpus, budget, Script(engines_do_both=kind is Kind.RELABEL))
    if flipped:
        world.pods[DECODE][0].routed = world.pods[DECODE][0].engine = PREFILL
    one = Life(world, patience=replace(PATIENCE, forces=forces))
    one.begin("one", change(world, kind, leave, grow))
    if second == "switch" and kind is not Kind.RELABEL:
        one.begin("two", change(world, Kind.SWITCH, (1,)))
    if second == "drain" and not grow:
        one.begin("two", change(world, Kind.DRAIN, (1,), of=PREFILL))
    return one


Event = Callable[[Life, int], None]


def _scale(role: Role, by: int) -> Event:
    return lambda life, _: life.world.scale(role, max(1, life.world.counts[role] + by))


def _hide(life: Life, number: int) -> None:
    life.world.hidden = life.world.hidden | {FACTS[number % len(FACTS)]}


def _reveal(life: Life, _: int) -> None:
    life.world.hidden = frozenset()


def _break_the_next_write(life: Life, number: int) -> None:
    life.fault.at[life.fault.writes] = list(Mode)[number % len(Mode)]


def _answer(life: Life, number: int) -> None:
    life.world.script.answer = list(Answer)[number % len(Answer)]


def _nobody_starts(life: Life, number: int) -> None:
    life.world.script.newcomers_ready = number % 2


def _nobody_goes(life: Life, _: int) -> None:
    life.world.script.going_s = NEVER


def _work_without_end(life: Life, _: int) -> None:
    life.world.script.works_for_ever = True


def _deaf(life: Life, number: int) -> None:
    life.world.script.router_is_deaf = bool(number % 2)


def _wanted_again(life: Life, number: int) -> None:
    """All of it, or one of its victims."""
    for one in life.under_way():
        if back := called_off(one, "wanted again", life.world.now):
            parts: tuple[Transaction, ...] = (back,)
            if one.change.kind is Kind.DRAIN and number % 2:
                parts = split(one, 1, "wanted again", life.world.now)
            life.stored.put(life.world.now, *parts)
            life.reread()


EVENTS: Mapping[str, Event] = {
    "the process dies": lambda life, _: life.kill(),
    "a write breaks": _break_the_next_write,
    "a pod is deleted": lambda life, number: life.world.delete(f"{DECODE}-{number % 5}"),
    "a newcomer is deleted": lambda life, number: life.world.delete(f"{PREFILL}-{number % 4}"),
    "a label is set": lambda life, number: life.world.relabel(f"{DECODE}-{number % 4}", LABELS[number // 4 % 3]),
    "an engine crashes": lambda life, number: life.world.restart(f"{DECODE}-{number % 4}"),
    "more decode": _scale(DECODE, 1),
    "less decode": _scale(DECODE, -1),
    "more prefill": _scale(PREFILL, 1),
    "less prefill": _scale(PREFILL, -1),
    "hide": _hide,
    "reveal": _reveal,
    "engines answer": _answer,
    "nobody starts": _nobody_starts,
    "nobody goes": _nobody_goes,
    "work without end": _work_without_end,
    "deaf router": _deaf,
    "wanted again": _wanted_again,
}


def _heal(life: Life) -> None:
    world = life.world
    world.hidden, life.fault.at = frozenset(), {}
    world.script = Script(load=world.script.load, engines_do_both=world.script.engines_do_both)
    for pods in world.pods.values():
        for pod in pods.values():
            pod.ready_s = min(pod.ready_s, world.now + world.script.start_s)
            if pod.going_until_s is not None:
                pod.going_until_s = min(pod.going_until_s, world.now + world.script.going_s)


schedules = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(sorted(EVENTS)), st.integers(0, 11)), max_size=12)


@examples(400)
@given(
    st.sampled_from(sorted(FIRST)),
    st.sampled_from(("", "switch", "drain")),
    schedules,
    st.booleans(),
    st.booleans(),
)
def test_whatever_happens_every_law_holds_and_every_transaction_ends_or_is_told_stuck(
    first: str, second: str, schedule: list[tuple[int, str, int]], forces: bool, flipped: bool
) -> None:
    one = life(first, second, forces=forces, flipped=flipped)
    for gap, event, number in schedule:
        for _ in range(gap):
            one.beat()
            _keeps_the_laws(one)
        EVENTS[event](one, number)
    _heal(one)
    one.run(160)
    _keeps_the_laws(one)
    waiting = one.under_way()
    assert len(one.stuck()) == len(waiting), [(left.step, left.why) for left in waiting]


def _keeps_the_laws(life: Life) -> None:
    world = life.world
    forced = sum(one.forced for one in (*life.stored.ended.values(), *life.under_way()))
    assert world.lost <= forced
    assert world.over == 0
    assert world.bared == []

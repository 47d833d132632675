"""Is what one leader says newer than what all before it said, and does nobody speak who does not lead?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from autoscaler.apps import states as room
from autoscaler.apps.states import Published, States
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.state import Heard, read
from tests.sidecar.states import STATE

CONTENT = {key: value for key, value in STATE.items() if key not in ("epoch", "sequence", "issued_at")}
FLEET = STATE["fleet"]


def newest(states: States, after: str = "", wait_s: float = 0.0) -> Published | None:
    return asyncio.run(states.newer(FLEET, after, wait_s))


def told(states: States) -> dict[str, Any]:
    found = newest(states)
    assert found is not None
    content: dict[str, Any] = json.loads(found.text)
    return content


def heard(states: States) -> Heard:
    found = read(json.dumps(told(states)).encode())
    assert isinstance(found, Heard), found
    return found


@pytest.mark.parametrize("behind_s", [-5.0, 0.0, 5.0, 3600.0])
def test_a_later_leader_is_believed_however_its_clock_differs(behind_s: float) -> None:
    old, new = States(wall=lambda: 1e9), States(wall=lambda: 1e9 - behind_s)
    old.lead(6)
    for _ in range(100):
        old.publish(CONTENT)
    new.lead(7)
    new.publish(CONTENT)
    board = Board()
    assert board.offer(heard(old), 10.0, 0.0, trusted=True)
    assert board.offer(heard(new), 10.5, 0.0, trusted=True)


def test_a_later_process_without_a_lease_is_believed() -> None:
    old, new = States(wall=lambda: 1e9), States(wall=lambda: 1e9 + 1)
    for one in (old, new):
        one.lead(0)
        one.publish(CONTENT)
    assert heard(new).place > heard(old).place


def test_a_leadership_that_is_held_on_keeps_its_epoch_and_one_that_came_back_has_a_new_one() -> None:
    states = States(wall=lambda: 1e9)
    places = []
    for term in (1, 1, None, 3):
        states.lead(term)
        states.publish(CONTENT)
        if term is not None:
            places.append(heard(states).place)
    assert places[0][0] == places[1][0] < places[2][0]
    assert [sequence for _, sequence in places] == [1, 2, 1]


def test_who_leads_no_more_tells_nothing_and_forgets_what_it_told() -> None:
    states = States()
    states.lead(1)
    states.publish(CONTENT)
    states.lead(None)
    assert (states.leading, newest(states)) == (False, None)
    states.publish(CONTENT)
    states.lead(2)
    assert newest(states) is None


def test_a_leader_that_was_stopped_for_long_says_nothing_before_it_knows_who_leads() -> None:
    states = States(leads=lambda: False)
    states.publish(CONTENT)
    assert newest(states) is None


def test_who_waits_is_let_go_when_the_leadership_ends() -> None:
    states = States()
    states.lead(1)

    async def losing() -> Published | None:
        waiting = asyncio.create_task(states.newer(FLEET, "", 30.0))
        await asyncio.sleep(0.01)
        states.lead(None)
        async with asyncio.timeout(5):
            return await waiting

    assert asyncio.run(losing()) is None


def test_a_fleet_is_asked_for_while_somebody_waits_and_for_a_while_after() -> None:
    now_s = 100.0
    states = States(monotonic=lambda: now_s)
    assert not states.asked(FLEET, 30.0)

    async def waiting() -> bool:
        nonlocal now_s
        task = asyncio.create_task(states.newer(FLEET, "", 30.0))
        await asyncio.sleep(0.01)
        now_s += 60
        asked = states.asked(FLEET, 30.0)
        states.let_go()
        await task
        return asked

    assert asyncio.run(waiting())
    now_s += 29
    assert states.asked(FLEET, 30.0)
    now_s += 2
    assert not states.asked(FLEET, 30.0)


def test_a_document_wakes_only_those_who_wait_for_its_fleet() -> None:
    states = States()

    async def two() -> tuple[bool, bool]:
        own = asyncio.create_task(states.newer(FLEET, "", 30.0))
        other = asyncio.create_task(states.newer("other/fleet", "", 30.0))
        await asyncio.sleep(0.01)
        states.publish(CONTENT)
        async with asyncio.timeout(5):
            found = await own
        still = not other.done()
        other.cancel()
        return found is not None, still

    assert asyncio.run(two()) == (True, True)


def test_names_that_are_asked_for_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_ASKED", 3)
    states = States()

    async def many() -> None:
        for number in range(5):
            await states.newer(f"a/{number}", "", 0.0)

    asyncio.run(many())
    assert [states.asked(f"a/{number}", 30.0) for number in range(5)] == [False, False, True, True, True]

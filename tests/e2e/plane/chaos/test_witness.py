"""Would it be seen if a law were broken? A careless controller breaks every one, and so does the silence of one that has gone."""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Role
from tests.e2e.plane.chaos.arena import LWS, Arena, Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.trials import laws

pytestmark = [pytest.mark.plane, pytest.mark.slow]


def careless(arena: Arena, role: Role, count: int) -> None:
    """Write a count and ask nobody."""
    path = f"{LWS}/namespaces/{arena.namespace}/leaderworkersets/{role}"
    done = arena.api.patch(path, [{"op": "replace", "path": "/spec/replicas", "value": count}])
    assert isinstance(done, dict), done


def test_a_careless_controller_is_seen_to_break_every_law(stage: Stage) -> None:
    with Arena(stage, COURSES["a drain"]) as arena:
        for engine in arena.fleet.engines.values():
            engine.takes_s = 1.0
        arena.until(lambda: arena.traffic.sent >= 10, "users are served")
        careless(arena, Role.PREFILL, 4)
        arena.until(lambda: arena.shape().get((Role.PREFILL, str(Role.PREFILL))) == 4, "two more than there are GPUs for")
        careless(arena, Role.DECODE, 0)
        arena.until(lambda: Role.DECODE in arena.witness.bared, "nobody decodes")
        arena.end()
        told = "\n".join(laws(arena))
    assert "7 GPUs held, and the budget is 5" in told
    assert "nobody served decode for a moment" in told
    assert "lost through an act of the controller" in told
    assert "it did not stay as it was" in told


def test_users_whom_nobody_serves_are_seen(stage: Stage) -> None:
    with Arena(stage, COURSES["a drain"]) as arena:
        arena.traffic.patience_s = 0.5
        careless(arena, Role.PREFILL, 0)
        arena.until(lambda: Role.PREFILL in arena.witness.bared, "nobody prefills")
        sent = arena.traffic.sent
        arena.until(lambda: arena.traffic.sent > sent + 10, "users ask all the same")
        arena.end()
        told = laws(arena, settles=False)
    assert any(len(request) < 6 and request.startswith("r") for request in told), told

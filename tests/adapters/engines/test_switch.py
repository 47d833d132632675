"""What comes of a role switch: it is done, or surely not, or the engine is broken, or nobody knows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from autoscaler.adapters.engines.client import Engine, FaultKind
from autoscaler.adapters.engines.roles import Roles, roles
from autoscaler.adapters.engines.switch import Failed, Outcome, Refused, Switched, Unanswered, switch
from autoscaler.core.fleet import Role
from tests.adapters.engines.conftest import Serve
from tests.engines.contract import Flag, Launch, Switching
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.loopback import DROPS, GARBAGE, HANGS, Answer, Fault, Request, told
from tests.engines.sglang import Sglang


@pytest.fixture
def stub(fleet: StubFleet) -> StubEngine:
    return fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)


def engine_of(stub: StubEngine) -> Engine:
    return Engine("sglang", "127.0.0.1", stub.port)


def test_a_switched_engine_has_its_new_role(stub: StubEngine) -> None:
    assert switch(engine_of(stub), Role.DECODE) == Switched("prefill")
    assert roles(engine_of(stub)) == Roles(Role.DECODE, Role.PREFILL)


def test_an_order_may_be_repeated(stub: StubEngine) -> None:
    switch(engine_of(stub), Role.DECODE)
    assert switch(engine_of(stub), Role.DECODE) == Switched("decode")


def test_one_that_is_not_idle_refuses_and_stays(stub: StubEngine) -> None:
    stub.switching = Switching.REFUSES
    assert isinstance(switch(engine_of(stub), Role.DECODE), Refused)
    assert roles(engine_of(stub)) == Roles(Role.PREFILL, Role.PREFILL)
    stub.tells_restore = False
    assert isinstance(switch(engine_of(stub), Role.DECODE), Refused)


def test_one_that_breaks_has_failed_and_so_has_every_later_order(stub: StubEngine) -> None:
    stub.switching = Switching.BREAKS
    for tells_restore in (True, False):
        stub.tells_restore = tells_restore
        failed = switch(engine_of(stub), Role.DECODE)
        assert isinstance(failed, Failed)
        assert "restart required" in failed.why


def test_one_that_lies_says_success_and_its_live_role_tells(stub: StubEngine) -> None:
    stub.switching = Switching.PRETENDS
    assert switch(engine_of(stub), Role.DECODE) == Switched("prefill")
    assert roles(engine_of(stub)) == Roles(Role.PREFILL, Role.PREFILL)


def test_an_answer_that_is_cut_off_leaves_it_open_and_the_live_role_tells(stub: StubEngine, serve: Serve) -> None:
    def does_it_and_hangs_up(request: Request) -> None:
        stub._answer(request)

    unanswered = switch(Engine("sglang", "127.0.0.1", serve(does_it_and_hangs_up).port), Role.DECODE)
    assert isinstance(unanswered, Unanswered)
    assert unanswered.fault.kind is FaultKind.CUT_OFF
    assert roles(engine_of(stub)) == Roles(Role.DECODE, Role.PREFILL)


def test_so_does_one_that_does_not_come_in_time(stub: StubEngine) -> None:
    stub.http.faults["/pd_role_switch"] = HANGS
    unanswered = switch(engine_of(stub), Role.DECODE, within_s=0.02)
    assert isinstance(unanswered, Unanswered)
    assert unanswered.fault.kind is FaultKind.TIMEOUT


@pytest.mark.parametrize("fault", [DROPS, GARBAGE, Fault(answer=told({}, 500)), Fault(answer=told({"success": "yes"}))])
def test_an_answer_that_means_nothing_leaves_it_open(stub: StubEngine, fault: Fault) -> None:
    stub.http.faults["/pd_role_switch"] = fault
    assert isinstance(switch(engine_of(stub), Role.DECODE), Unanswered)


@pytest.mark.parametrize("flag", [Flag.OFF, Flag.UNKNOWN])
def test_one_launched_without_a_switch_refuses(fleet: StubFleet, flag: Flag) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL, role_switch=flag), Sglang)
    assert isinstance(switch(engine_of(stub), Role.DECODE), Refused)


@pytest.mark.parametrize("profile", ["vllm", "trtllm"])
def test_engines_without_a_switch_are_not_asked(profile: str) -> None:
    assert switch(Engine(profile, "127.0.0.1", 1), Role.DECODE) == Refused(f"{profile} engines have no switch")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"success": True}, Switched("")),
        ({"success": True, "new_role": "prefill", "old_role": "prefill"}, Failed("is 'prefill' now")),
        ({"success": False, "message": "no headroom", "safe_to_restore": True}, Refused("no headroom")),
        ({"success": False, "message": "no headroom"}, Failed("no headroom")),
        ({"success": False, "safe_to_restore": "true"}, Failed("without a reason")),
        ({"success": False, "message": "rebuild failed\n\x1b[2J"}, Failed("rebuild failed [2J")),
    ],
)
def test_an_old_role_is_safe_only_where_the_engine_says_so(serve: Serve, answer: dict[str, object], expected: Outcome) -> None:
    server = serve(lambda _: told(answer, 200 if answer["success"] else 400))
    assert switch(Engine("sglang", "127.0.0.1", server.port), Role.DECODE) == expected


@pytest.mark.parametrize("safe", [True, False])
def test_an_earlier_order_that_is_being_carried_out_is_waited_for(serve: Serve, safe: bool) -> None:
    """Neither put back into its old role, which it is about to lose, nor made anew."""
    answer = {"success": False, "message": "another role switch is already in progress", "safe_to_restore": safe}
    server = serve(lambda _: told(answer, 400))
    assert isinstance(switch(Engine("sglang", "127.0.0.1", server.port), Role.DECODE), Unanswered)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([{"decode_cuda_graph_memory_gb": 1.25}, {"decode_cuda_graph_memory_gb": 1}], {"decode_cuda_graph_memory_gb": 1.25}),
        ([{"decode_cuda_graph_memory_gb": 0}], {"decode_cuda_graph_memory_gb": 0.0}),
        ([{"decode_cuda_graph_memory_gb": float("inf")}, {"decode_cuda_graph_memory_gb": "much"}], {}),
        ([{}], {}),
        (None, {}),
    ],
)
def test_one_like_it_tells_how_much_memory_its_graphs_may_take(
    serve: Serve, states: object, expected: Mapping[str, float]
) -> None:
    like = serve(lambda _: told({"internal_states": states}))
    bodies: list[object] = []

    def answer(request: Request) -> Answer:
        bodies.append(request.body)
        return told({"success": True})

    engine, other = (Engine("sglang", "127.0.0.1", port) for port in (serve(answer).port, like.port))
    switch(engine, Role.DECODE, like=other)
    assert bodies == [{"new_role": "decode", **expected}]
    like.faults["*"] = DROPS
    switch(engine, Role.DECODE, like=other)
    switch(engine, Role.DECODE)
    assert bodies[1:] == [{"new_role": "decode"}] * 2

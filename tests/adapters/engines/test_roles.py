"""The role an engine really has: asked of it, whatever its label and its launch say."""

from __future__ import annotations

import json

import pytest

from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.roles import Roles, roles
from autoscaler.core.fleet import Role
from tests.engines.contract import Launch
from tests.engines.fleet import StubFleet
from tests.engines.loopback import ABSENT, GARBAGE, HANGS, Answer, Fault, told
from tests.engines.sglang import Sglang
from tests.engines.vllm import Vllm


def test_a_switched_engine_tells_its_live_role_and_keeps_its_launch(fleet: StubFleet) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
    engine = Engine("sglang", "127.0.0.1", stub.port)
    assert roles(engine) == Roles(Role.PREFILL, Role.PREFILL)
    stub.role = Role.DECODE
    assert roles(engine) == Roles(Role.DECODE, Role.PREFILL)
    stub.restart()
    assert roles(engine) == Roles(Role.PREFILL, Role.PREFILL)


def test_older_servers_are_asked_where_they_answer(fleet: StubFleet) -> None:
    stub = fleet.start("decode-0", Launch(Role.DECODE), Sglang)
    stub.http.faults["/server_info"] = ABSENT
    assert roles(Engine("sglang", "127.0.0.1", stub.port)) == Roles(Role.DECODE, Role.DECODE)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"disaggregation_mode": "decode"}, Roles(None, Role.DECODE)),
        ({"internal_states": []}, Roles()),
        ({"internal_states": "prefill"}, Roles()),
        ({"internal_states": [None, 7]}, Roles()),
        ({"internal_states": [{"disaggregation_mode": "null"}], "disaggregation_mode": "null"}, Roles()),
        ({"internal_states": [{"disaggregation_mode": ["prefill"]}]}, Roles()),
        ({"internal_states": [{"disaggregation_mode": "decode"}] * 2}, Roles(Role.DECODE)),
    ],
)
def test_what_is_not_told_is_no_role(fleet: StubFleet, info: object, expected: Roles) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
    stub.http.faults["/server_info"] = Fault(answer=told(info))
    assert roles(Engine("sglang", "127.0.0.1", stub.port)) == expected


def test_ranks_in_different_roles_are_a_fault(fleet: StubFleet) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
    states = [{"disaggregation_mode": "prefill"}, {"disaggregation_mode": "decode"}]
    stub.http.faults["/server_info"] = Fault(answer=told({"internal_states": states}))
    fault = roles(Engine("sglang", "127.0.0.1", stub.port))
    assert isinstance(fault, EngineFault)
    assert "its ranks are in different roles" in fault.detail


@pytest.mark.parametrize(("fault", "kind"), [(GARBAGE, FaultKind.MALFORMED), (HANGS, FaultKind.TIMEOUT)])
@pytest.mark.parametrize(("profile", "path"), [("sglang", "/server_info"), ("vllm", "/v1/pd_role")])
def test_an_engine_that_cannot_be_asked_has_no_known_role(
    fleet: StubFleet, profile: str, path: str, fault: Fault, kind: FaultKind
) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
    stub.http.faults[path] = fault
    found = roles(Engine(profile, "127.0.0.1", stub.port), 0.02 if fault is HANGS else 2.0)
    assert isinstance(found, EngineFault)
    assert found.kind is kind


def test_vllm_has_no_role_to_tell_but_where_it_has(fleet: StubFleet) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Vllm)
    engine = Engine("vllm", "127.0.0.1", stub.port)
    assert roles(engine) == Roles()
    answers = ({"role": "decode", "phase": "ready"}, {"role": "decode", "phase": "draining"})
    for answer, expected in zip(answers, (Roles(Role.DECODE), Roles()), strict=True):
        stub.http.faults["/v1/pd_role"] = Fault(answer=Answer(200, json.dumps(answer).encode()))
        assert roles(engine) == expected


def test_an_engine_that_cannot_tell_is_not_asked() -> None:
    assert roles(Engine("trtllm", "127.0.0.1", 1)) == Roles()

"""Whether two pools can be flipped in place: every reason against it is told, and nothing untold is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from autoscaler.adapters.engines.capability import ALIKE, EACH, Flippability, flippability, obstacles
from autoscaler.adapters.engines.client import Engine
from autoscaler.adapters.engines.switch import SWITCHABLE
from autoscaler.core.fleet import Role
from autoscaler.policy.drivers import SWITCHING
from tests.adapters.engines.conftest import Serve
from tests.engines.loopback import GARBAGE, Loopback, told

ABLE: Mapping[str, Any] = {
    "enable_pd_role_switch": True,
    "enable_dp_attention": False,
    "dp_size": 1,
    "ep_size": 1,
    "moe_a2a_backend": "none",
    "pp_size": 1,
    "disaggregation_transfer_backend": "mooncake",
    "tp_size": 4,
    "disable_radix_cache": False,
    "mem_fraction_static": 0.85,
    "api_key": "never told to anybody",
}


def infos(**prefill: object) -> dict[Role, dict[str, Any]]:
    """Two servers that can change places, but for what `prefill` has otherwise."""
    each = {role: {**ABLE, "disaggregation_mode": role.value} for role in Role}
    each[Role.PREFILL] |= prefill
    return each


def test_servers_launched_alike_can_change_places() -> None:
    assert obstacles(infos()) == ()
    assert obstacles(infos(disaggregation_mode="decode")) == (), "a flipped engine keeps its launch's arguments"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("disaggregation_mode", "null"),
        ("enable_pd_role_switch", False),
        ("enable_dp_attention", True),
        ("dp_size", 2),
        ("ep_size", 8),
        ("moe_a2a_backend", "deepep"),
        ("pp_size", 2),
        ("disaggregation_transfer_backend", "nixl"),
    ],
)
def test_what_sglang_would_refuse_is_told_before(argument: str, value: object) -> None:
    (reason,) = obstacles(infos(**{argument: value}))
    assert reason.startswith(f"prefill: {argument} is {value}; ")


@pytest.mark.parametrize(("argument", "value"), [("tp_size", 2), ("disable_radix_cache", True), ("mem_fraction_static", 0.9)])
def test_settings_that_differ_are_told_with_both_values(argument: str, value: object) -> None:
    assert obstacles(infos(**{argument: value})) == (f"{argument} must be alike: prefill {value}, decode {ABLE[argument]}",)


@pytest.mark.parametrize("argument", [*(needed.argument for needed in EACH), *ALIKE])
def test_what_a_server_does_not_tell_is_a_reason(argument: str) -> None:
    servers = infos()
    del servers[Role.DECODE][argument]
    (reason,) = obstacles(servers)
    assert reason.startswith(f"decode: does not tell {argument}")


def test_every_reason_is_told_and_no_other_argument() -> None:
    told = obstacles(infos(pp_size="2\n\x1b[2J", dp_size=2, tp_size=1))
    assert len(told) == 3
    assert all(line.isprintable() and "never told" not in line for line in told)


def test_both_engines_are_asked_and_one_that_does_not_answer_leaves_it_unsure(serve: Serve) -> None:
    def says(role: Role) -> Loopback:
        return serve(lambda _: told(infos()[role]))

    servers = {role: says(role) for role in Role}
    engines = {role: Engine("sglang", "127.0.0.1", server.port) for role, server in servers.items()}
    assert flippability(engines) == Flippability()
    servers[Role.DECODE].faults["*"] = GARBAGE
    reason = f"decode: 127.0.0.1:{engines[Role.DECODE].port}: /server_info answers no JSON object"
    assert flippability(engines) == Flippability((reason,), sure=False)


@pytest.mark.parametrize("profile", ["vllm", "trtllm", "mystery"])
def test_engines_without_a_switch_are_told_what_there_is_instead(profile: str) -> None:
    (reason,) = flippability({role: Engine(profile, "127.0.0.1", 1) for role in Role}).why_not
    assert "has no switch" in reason or reason == "mystery engines have no switch"


def test_policies_and_engines_agree_on_who_can_switch() -> None:
    assert set(SWITCHING) == SWITCHABLE

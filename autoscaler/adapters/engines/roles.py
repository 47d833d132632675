"""Which role does this engine really have?

Its pod's label is what we wrote, and its template's is what it was launched as; neither is what it does. An engine that was
switched keeps its launch's arguments, one whose container was restarted is back in its launch's role under the label of the
other, and one that answered "success" may have done nothing. So whoever depends on a role asks for the live one.

    sglang   GET /server_info (older: /get_server_info): internal_states[*].disaggregation_mode is live, the field of that
             name among the server's arguments is the launch's. Every rank must say the same
    vllm     GET /v1/pd_role, where an engine has it (it is not in any release yet); else nobody can tell: with kv_role
             kv_both an engine does both roles, and its label is its role
    trtllm   cannot be asked
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.adapters.engines.client import ASK_S, Engine, EngineFault, FaultKind, fetch_fields
from autoscaler.core.fleet import Role

Info = Mapping[str, Any]  # what SGLang's /server_info answers: its arguments, and `internal_states` of its ranks


@dataclass(frozen=True, slots=True)
class Roles:
    """What an engine says of itself: the role it has now, the one it was launched in. None: it does not say, or neither."""

    live: Role | None = None
    launched: Role | None = None


def roles(engine: Engine, within_s: float = ASK_S) -> Roles | EngineFault:
    """The roles of one engine. Takes `within_s` seconds at most, per path asked."""
    asked = ASKED.get(engine.profile)
    return Roles() if asked is None else asked(engine, within_s)


def server_info(engine: Engine, within_s: float = ASK_S) -> Info | EngineFault:
    """What an SGLang server says of its arguments and its ranks."""
    info = fetch_fields(engine, "/server_info", within_s)
    if isinstance(info, EngineFault) and info.kind is FaultKind.ABSENT:
        return fetch_fields(engine, "/get_server_info", within_s)
    return info


def ranks(info: Info) -> list[Mapping[str, Any]]:
    """What each data-parallel rank says of itself now; none where that cannot be read."""
    states = info.get("internal_states")
    return [state for state in states if isinstance(state, dict)] if isinstance(states, list) else []


def _sglang(engine: Engine, within_s: float) -> Roles | EngineFault:
    info = server_info(engine, within_s)
    if isinstance(info, EngineFault):
        return info
    live = {_role(state.get("disaggregation_mode")) for state in ranks(info)}
    if len(live) > 1:
        return engine.fault(FaultKind.MALFORMED, "/server_info: its ranks are in different roles")
    return Roles(next(iter(live), None), _role(info.get("disaggregation_mode")))


def _vllm(engine: Engine, within_s: float) -> Roles | EngineFault:
    answer = fetch_fields(engine, "/v1/pd_role", within_s)
    if isinstance(answer, EngineFault):
        return Roles() if answer.kind is FaultKind.ABSENT else answer
    return Roles(_role(answer.get("role")) if answer.get("phase") == "ready" else None)


def _role(told: object) -> Role | None:
    return next((role for role in Role if told == role.value), None)


ASKED: Mapping[str, Callable[[Engine, float], Roles | EngineFault]] = {"sglang": _sglang, "vllm": _vllm}

"""What came of telling an engine to do the other role?

SGLang's `POST /pd_role_switch` (launched with --enable-pd-role-switch) tears down what belongs to the old role and builds
what belongs to the new one; weights and KV memory stay, the prefix cache goes. It takes seconds, and on the first time to
decode it captures CUDA graphs: up to three minutes are waited for an answer. Afterwards there are four cases.

    Switched     it says so. Some say so and have done nothing: the caller asks for the live role (roles.py)
    Refused      it did nothing, and is in its old role as before: not idle after all, no memory for the graphs
    Failed       it is neither the one nor the other, or says that its old role is not safe: to be made anew
    Unanswered   nobody knows: late, cut off, an answer that means nothing, or an earlier order is being carried out, as for
                 the successor of a controller that died meanwhile. The live role tells, later

To be told its present role is a success of which nothing comes, so an order may be repeated. An engine that is to capture
graphs must be told how much memory they may take: new versions refuse without it, older ones would rather run out of memory
than refuse. An engine of its like, in that role already, knows from its own (/server_info).

`safe_to_restore` is missing from the answers of older versions. Only "not idle" is sure to have come before anything was
torn down, so all else counts as failed there: a group made anew costs minutes, requests sent to a broken engine are lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind, ask, fields, not_ok, one_line
from autoscaler.adapters.engines.roles import ranks, server_info
from autoscaler.core.fleet import Role

SWITCH_S = 180.0
SWITCHABLE = frozenset({"sglang"})


@dataclass(frozen=True, slots=True)
class Switched:
    """The engine says that it has the new role; `was` as it tells it."""

    was: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done: the engine serves in its old role as before."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine may be in no role at all, and must be made anew."""

    why: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Whether anything was done is not known."""

    fault: EngineFault


Outcome = Switched | Refused | Failed | Unanswered


def switch(engine: Engine, to: Role, like: Engine | None = None, within_s: float = SWITCH_S) -> Outcome:
    """Tell an engine to do `to`, as `like` does already, and wait for its answer: `within_s` seconds at most, and a moment for
    asking `like`. The engine must be idle.
    """
    if engine.profile not in SWITCHABLE:
        return Refused(f"{engine.profile} engines have no switch")
    graphs_gb = None if like is None else graph_memory_gb(like)
    order = {"new_role": to.value} | ({} if graphs_gb is None else {"decode_cuda_graph_memory_gb": graphs_gb})
    answer = ask(engine, "/pd_role_switch", within_s, send=order)
    if isinstance(answer, EngineFault):
        return Unanswered(answer)
    told = fields(answer.body) or {}
    if isinstance(told.get("success"), bool):
        return _outcome(engine, told, to)
    fault = not_ok(engine, "/pd_role_switch", answer)
    if 400 <= answer.status < 500:  # refused at the door: no such path, no key, a body it does not take
        return Refused(fault.detail)
    return Unanswered(fault if answer.status != 200 else engine.fault(FaultKind.MALFORMED, "/pd_role_switch: no known answer"))


def graph_memory_gb(engine: Engine) -> float | None:
    """What the CUDA graphs of decode take at most in any rank of an engine: 0 if it has none, None if it does not tell."""
    info = server_info(engine)
    told = () if isinstance(info, EngineFault) else tuple(state.get("decode_cuda_graph_memory_gb") for state in ranks(info))
    return max((float(gb) for gb in told if isinstance(gb, int | float) and 0 <= gb < math.inf), default=None)


def _outcome(engine: Engine, told: Mapping[str, Any], to: Role) -> Outcome:
    message = one_line(str(told.get("message") or "without a reason"))
    if told["success"]:
        now = told.get("new_role", to.value)
        return Switched(one_line(str(told.get("old_role", "")))) if now == to.value else Failed(one_line(f"is {now!r} now"))
    if "in progress" in message:
        return Unanswered(engine.fault(FaultKind.REFUSED, message))
    return Refused(message) if told.get("safe_to_restore", "not idle" in message) is True else Failed(message)

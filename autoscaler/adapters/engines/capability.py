"""Can replicas of these pools change their role in place, and if not, why?

Asked of one engine of each role, whose server's arguments tell. What SGLang refuses at startup or at the switch is found out
here, before a replica is drained for nothing (reference/engines.md B.1):

    each     launched for prefill or decode with --enable-pd-role-switch; no data, expert or pipeline parallelism; KV
             transfer by mori or mooncake, whose connections can be torn down
    alike    tensor parallel size, radix cache, share of memory: a flip does not derive again what depends on the role, so
             an engine with the other role's settings would serve it badly, or not fit the peers that it exchanges KV with

An argument that an engine does not tell is a reason like any other: a version that does not know one cannot switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.adapters.engines.client import ASK_S, Engine, EngineFault, one_line
from autoscaler.adapters.engines.roles import Info, server_info
from autoscaler.adapters.engines.switch import SWITCHABLE
from autoscaler.core.fleet import Role


@dataclass(frozen=True, slots=True)
class Needed:
    """A server argument, the values with which a switch works, and what a person is told otherwise."""

    argument: str
    values: tuple[Any, ...]
    otherwise: str


EACH = (
    Needed("disaggregation_mode", tuple(role.value for role in Role), "it must be launched for prefill or decode"),
    Needed("enable_pd_role_switch", (True,), "launch it with --enable-pd-role-switch"),
    Needed("enable_dp_attention", (False,), "a switch does not work with data-parallel attention"),
    Needed("dp_size", (1,), "a switch does not work with data parallelism"),
    Needed("ep_size", (1,), "a switch does not work with expert parallelism"),
    Needed("moe_a2a_backend", ("none", None), "a switch does not work with an all-to-all backend"),
    Needed("pp_size", (1,), "a switch does not work with pipeline parallelism"),
    Needed("disaggregation_transfer_backend", ("mori", "mooncake"), "only mori and mooncake can change sides"),
)
ALIKE = ("tp_size", "disable_radix_cache", "mem_fraction_static")

INSTEAD: Mapping[str, str] = {
    "vllm": "vLLM has no switch; where kv_role is kv_both, behaviour.flip.driver: relabel makes a label enough",
    "trtllm": "TensorRT-LLM has no switch; its roles change by removing and starting replicas",
}


@dataclass(frozen=True, slots=True)
class Flippability:
    """`why_not`: one line per reason, none where replicas can be flipped in place. `sure`: all engines have answered; if not, the
    question is worth asking again soon.
    """

    why_not: tuple[str, ...] = ()
    sure: bool = True


def flippability(engines: Mapping[Role, Engine], within_s: float = ASK_S) -> Flippability:
    """Ask one engine of each role. Takes `within_s` seconds at most per engine and path."""
    profiles = {engine.profile for engine in engines.values()}
    if unable := profiles - SWITCHABLE:
        return Flippability(tuple(INSTEAD.get(name, f"{name} engines have no switch") for name in sorted(unable)))
    infos: dict[Role, Info] = {}
    faults: list[str] = []
    for role, engine in engines.items():
        info = server_info(engine, within_s)
        if isinstance(info, EngineFault):
            faults.append(f"{role}: {info.detail}")
        else:
            infos[role] = info
    return Flippability((*faults, *obstacles(infos)), sure=not faults)


def obstacles(infos: Mapping[Role, Info]) -> tuple[str, ...]:
    """What keeps these servers from changing places, one line each."""
    return (*(line for role, info in infos.items() for line in _amiss(role, info)), *_unlike(infos))


def _amiss(role: Role, info: Info) -> Iterator[str]:
    for needed in EACH:
        if needed.argument not in info:
            yield f"{role}: does not tell {needed.argument}; {needed.otherwise}"
        elif (value := info[needed.argument]) not in needed.values:
            yield one_line(f"{role}: {needed.argument} is {value}; {needed.otherwise}")


def _unlike(infos: Mapping[Role, Info]) -> Iterator[str]:
    for argument in ALIKE:
        told = {role: info.get(argument) for role, info in infos.items()}
        if None in told.values():
            yield from (f"{role}: does not tell {argument}, which must be alike" for role, value in told.items() if value is None)
        elif len(set(map(str, told.values()))) > 1:
            values = ", ".join(f"{role} {value}" for role, value in told.items())
            yield one_line(f"{argument} must be alike: {values}")

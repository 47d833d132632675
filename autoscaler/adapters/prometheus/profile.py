"""Which PromQL gives each signal, for this engine behind this gateway?

A metric profile is a data file (autoscaler/metric_profiles/*.yaml): one for every engine, one for every gateway, one for our own
sidecar. A fleet has an engine profile, perhaps a gateway profile whose traffic signals then win, the sidecar's whether or not it
has one, and may override any signal by name:

    pods.<signal>      a number per (namespace, pod):           waiting, running, kv_usage, age_s, deferred
    <role>.<signal>    one per (namespace, model_name):         latency, service (both by le), tokens_per_request
    traffic.<signal>   one per (namespace, model_name):         offered_rps, rejected_rps, held, direct_share, prompt_tokens,
                                                                ttft (by le), age_s
    door.<signal>      the same, in parts by further labels:    verdicts (mode, decision, reason, class), hindsight (what, end)

A histogram's query may answer its sum too, in a row without `le`: that is where means come from. Every engine must tell the
first four of `pods`; what it does not defer, or does not say, counts as none deferred.

Which histogram belongs to which role stands in the file, so a new role or engine is new data. Queries are templates with
`$placeholders` (`string.Template`; `$$` is a plain dollar): braces belong to PromQL. `$any_case_models` are the models' names
and the same in lower case, for a gateway that writes them so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from autoscaler.core.fleet import Role
from autoscaler.ports import FleetScope
from autoscaler.refusal import Refusal

PodSignal = Literal["waiting", "running", "kv_usage", "age_s", "deferred"]
RoleSignal = Literal["latency", "tokens_per_request", "service"]
TrafficSignal = Literal["offered_rps", "rejected_rps", "held", "direct_share", "prompt_tokens", "ttft", "age_s"]
DoorSignal = Literal["verdicts", "hindsight"]
Scope = Literal["engine", "gateway", "sidecar"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a signal's answer looks: the label that tells its owner beside `namespace`, whether it comes in buckets, and the labels
    that tell its `parts` apart, if it has any.
    """

    owner: str
    buckets: bool = False
    parts: tuple[str, ...] = ()


HISTOGRAMS = frozenset({"latency", "service", "ttft"})
PARTS: Mapping[DoorSignal, tuple[str, ...]] = {"verdicts": ("mode", "decision", "reason", "class"), "hindsight": ("what", "end")}
NEEDED_OF_PODS: tuple[PodSignal, ...] = ("waiting", "running", "kv_usage", "age_s")
SHAPES: Mapping[str, Shape] = {
    **{f"pods.{name}": Shape("pod") for name in get_args(PodSignal)},
    **{f"{role}.{name}": Shape("model_name", name in HISTOGRAMS) for role in Role for name in get_args(RoleSignal)},
    **{f"traffic.{name}": Shape("model_name", name in HISTOGRAMS) for name in get_args(TrafficSignal)},
    **{f"door.{name}": Shape("model_name", parts=parts) for name, parts in PARTS.items()},
}
ROLE_PODS: Mapping[Role, str] = {role: f"{role}_pods" for role in Role}
PLACEHOLDERS = ("namespaces", "models", "any_case_models", "window", "window_s", *ROLE_PODS.values())


@dataclass(frozen=True, slots=True)
class Query:
    """One signal's PromQL template, and who answers it: that one's age is the reading's age."""

    promql: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class MetricProfile:
    """One engine's, gateway's or sidecar's queries by signal name; `source` says how its offered load is had."""

    scope: Scope
    source: str
    queries: Mapping[str, Query]


class ProfileFile(BaseModel):
    """A profile as it is written. Errors carry the path of the field, for example `roles.decode.latency`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Scope
    pods: dict[PodSignal, str] = Field(default_factory=dict)
    roles: dict[Role, dict[RoleSignal, str]] = Field(default_factory=dict)
    traffic: dict[TrafficSignal | Literal["source"], str] = Field(default_factory=dict)
    door: dict[DoorSignal, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Every fault at once: what its scope must and must not say, and each template's placeholders."""
        faults = []
        if self.scope != "sidecar":
            faults += [f"traffic.{name}: must be there" for name in ("source", "offered_rps") if name not in self.traffic]
            faults += ["door: only the sidecar's profile has it"] if self.door else []
        elif self.traffic or not self.door:
            faults.append("traffic, door: the sidecar's profile has only door")
        if self.scope == "engine":
            faults += [f"pods.{name}: an engine profile must have it" for name in NEEDED_OF_PODS if name not in self.pods]
        elif self.pods or self.roles:
            faults.append(f"pods, roles: a {self.scope} profile has only {'traffic' if self.scope == 'gateway' else 'door'}")
        faults += [fault for name, promql in self.templates().items() if (fault := _placeholder_fault(name, promql))]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def templates(self) -> dict[str, str]:
        """Every query by its signal's name."""
        sections: dict[str, Mapping[Any, str]] = {"pods": self.pods, "traffic": self.traffic, "door": self.door}
        sections |= {role.value: queries for role, queries in self.roles.items()}
        named = {f"{section}.{name}": promql for section, queries in sections.items() for name, promql in queries.items()}
        return {name: promql for name, promql in named.items() if name != "traffic.source"}


def parse_profile(text: str, where: str) -> MetricProfile:
    """Read a profile; Refusal with one line per fault: `where`, the field's path, what is wrong."""
    try:
        file = ProfileFile.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Refusal(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        lines = [line for fault in error.errors() for line in _lines(fault)]
        raise Refusal("\n".join(f"{where}: {line}" for line in lines)) from error
    queries = {name: Query(promql, file.scope) for name, promql in file.templates().items()}
    return MetricProfile(file.scope, file.traffic.get("source", ""), queries)


def load_profiles() -> Mapping[str, MetricProfile]:
    """The profiles that come with the project, by name."""
    files = (resources.files("autoscaler") / "metric_profiles").iterdir()
    return {
        file.name.removesuffix(".yaml"): parse_profile(file.read_text(encoding="utf-8"), file.name)
        for file in files
        if file.name.endswith(".yaml")
    }


def queries_for(
    engine: str, gateway: str | None, own: Mapping[str, str], profiles: Mapping[str, MetricProfile]
) -> Mapping[str, Query]:
    """A fleet's queries by signal: the sidecar's, the engine's, then the gateway's, then its own. Refusal, one line per fault."""
    queries = {name: query for one in profiles.values() if one.scope == "sidecar" for name, query in one.queries.items()}
    faults = []
    for scope, name in (("engine", engine), ("gateway", gateway)):
        fitting = {key: profile for key, profile in profiles.items() if profile.scope == scope}
        if name in fitting:
            queries |= fitting[name].queries
        elif name is not None:
            faults.append(f"{scope}: {_unknown(name, fitting)}")
    for name, promql in own.items():
        fault = _placeholder_fault(name, promql) if name in SHAPES else _unknown(name, SHAPES)
        faults += [f"queries: {fault}"] if fault else []
        queries[name] = Query(promql, queries[name].scope if name in queries else "engine")
    if faults:
        raise Refusal("\n".join(faults))
    return queries


def offered_source(scope: FleetScope, profiles: Mapping[str, MetricProfile]) -> str:
    """How this fleet's offered load is had, for people."""
    if "traffic.offered_rps" in scope.queries:
        return "the fleet's own query"
    return profiles[scope.gateway or scope.engine].source


def _placeholder_fault(name: str, promql: str) -> str | None:
    """What is wrong with a template, in one line: empty, or a placeholder nobody fills."""
    known = PLACEHOLDERS if name.startswith(("traffic.", "door.")) else (*PLACEHOLDERS, "pods")
    if not promql.strip():
        return f"{name}: empty query"
    strange = [found for found in Template(promql).get_identifiers() if found not in known]
    return f"{name}: placeholder ${_unknown(strange[0], known, '$')}" if strange else None


def _lines(fault: ErrorDetails) -> list[str]:
    """One pydantic error as lines with the field's path; ours come several at once and carry their own."""
    path = ".".join(map(str, fault["loc"])).removesuffix(".[key]")
    messages = fault["msg"].removeprefix("Value error, ").split("\n")
    return [f"{path}: {message}" if path else message for message in messages]


def _unknown(name: str, known: Iterable[str], sign: str = "") -> str:
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f"did you mean {sign}{nearest[0]}? " if nearest else ""
    return f"{name} is unknown; {hint}known: {', '.join(sign + each for each in known)}"

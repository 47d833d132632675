"""Which profiles ship with the product, and what does a replica profile look like when people write it?

A *replica profile* says how fast one replica is (core/capacity.py has the formulas). Those in replica_profiles/*.yaml
are known by name; `ProfileSpec` is their form, and the form of one written inside a policy.

A *metric profile* (metric_profiles/*.yaml) says in PromQL what an engine or a gateway tells. Only their names and the
names of their signals are read here, so that a misspelt one is told while the policy is read, with its line; what they
mean is the Prometheus adapter's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy.fields import ALLOWED, Objection, Section, default_of, nearest, refuse, shown
from autoscaler.refusal import Refusal

# A replica that takes no time at all would carry infinite load, so the constant part is at least a microsecond.
Constant = Annotated[float, Field(ge=1e-6, le=60.0)]
Coefficient = Annotated[float, Field(ge=0.0, le=1.0)]
Affine = Annotated[tuple[Constant, Coefficient, Coefficient], Field(strict=False)]  # YAML has lists, not tuples


class DecodeBeyond(Section):
    """The second piece of a decode step: from so many requests on it takes these coefficients' time."""

    requests: float = Field(ge=1.0, le=65_536.0)
    """Where it begins."""
    seconds: Affine
    """[b0, b1, b2] as of decodeSeconds."""


class ProfileSpec(Section):
    """How fast one replica is: seconds and tokens."""

    name: str = Field("inline", min_length=1, max_length=63, json_schema_extra={ALLOWED: "text of 1 to 63 characters"})
    """What to call it in messages."""
    prefill_seconds: Affine
    """[a0, a1, a2]: prefill of n uncached tokens takes a0 + a1 n + a2 n^2."""
    decode_seconds: Affine
    """[b0, b1, b2]: a decode step of B requests takes b0 + b1 B + b2 (tokens they hold)."""
    decode_beyond: DecodeBeyond | None = None
    """Where large batches cost more than that."""
    kv_tokens: int = Field(ge=1, le=10**9)
    """Tokens whose KV one replica can hold."""
    max_seqs: int = Field(default_of(ReplicaProfile, "max_seqs"), ge=1, le=65_536)
    """The most requests one replica decodes at once."""
    kv_bytes_per_token: int = Field(default_of(ReplicaProfile, "kv_bytes_per_token"), ge=1, le=10**8)
    """KV bytes of one token, all GPUs of the replica together."""
    link_bytes_per_second: float = Field(default_of(ReplicaProfile, "link_bytes_per_s"), ge=1e6, le=1e13)
    """Speed at which KV travels from prefill to decode."""
    link_base_seconds: float = Field(default_of(ReplicaProfile, "link_base_s"), ge=0.0, le=10.0)
    """What every transfer takes on top."""

    @model_validator(mode="after")
    def _load_costs_time(self) -> Self:
        """With b1 = b2 = 0 a step would take as long for any batch, and no batch would be too large for a TPOT."""
        pieces: dict[tuple[str, ...], tuple[float, float, float]] = {("decodeSeconds",): self.decode_seconds}
        if self.decode_beyond is not None:
            pieces["decodeBeyond", "seconds"] = self.decode_beyond.seconds
        text = "b1 and b2 are both 0: a decode step must take longer the more it carries (allowed: one of them above 0)"
        refuse(Objection(path, text) for path, (_, b1, b2) in pieces.items() if b1 + b2 == 0)
        return self

    @model_validator(mode="after")
    def _never_shorter(self) -> Self:
        """A step that took less with one request more would have no largest batch within a TPOT."""
        shorter, beyond = self.core().shorter_beyond, self.decode_beyond
        if shorter is not None and beyond is not None:
            text = f"{shorter[1]:.4g} s for {beyond.requests:g} requests is shorter than the {shorter[0]:.4g} s of decodeSeconds"
            refuse([Objection(("decodeBeyond", "seconds"), f"{text} (allowed: at least that)")])
        return self

    def core(self) -> ReplicaProfile:
        """The same as the core sizes with."""
        beyond = self.decode_beyond
        piece = None if beyond is None else (beyond.requests, beyond.seconds)
        return ReplicaProfile(**{**self.for_core(), "decode_beyond": piece})


def replica_profile(name: str) -> ReplicaProfile:
    """The built-in replica profile of that name. Refusal, with the nearest name, if there is none."""
    known = replica_profiles()
    if name not in known:
        raise Refusal(_unknown(name, "a built-in replica profile", known))
    return known[name].core()


def known_profile(written: object) -> object:
    """A policy's `profile`; the built-in replica profile where only a name is written. Refuses an unknown one."""
    if not isinstance(written, str):
        return written
    return replica_profiles()[_known(written, "a built-in replica profile", replica_profiles())]


def known_engine(name: str) -> str:
    """The name of an engine's metric profile. Refuses an unknown one."""
    return _known(name, "an engine with a metric profile", metric_profiles("engine"))


def known_gateway(name: str) -> str:
    """The name of a gateway's metric profile. Refuses an unknown one."""
    return _known(name, "a gateway with a metric profile", metric_profiles("gateway"))


def known_signal(name: str) -> str:
    """The name of a signal, as `spec.metrics.queries` has it. Refuses an unknown one."""
    return _known(name, "a signal", signals())


def _known(name: str, what: str, names: Iterable[str]) -> str:
    if name not in names:
        refuse([Objection((), _unknown(name, what, names))])
    return name


def _unknown(name: str, what: str, names: Iterable[str]) -> str:
    return f"{shown(name)} is not {what}{nearest(name, names)} (allowed: {', '.join(names)})"


@cache
def replica_profiles() -> Mapping[str, ProfileSpec]:
    """Every built-in replica profile by name, in the order of their files."""
    rows = [(name, row) for _, file in _shipped("replica_profiles") for name, row in file.items()]
    names = [name for name, _ in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"a replica profile is in two files: {sorted(names)}")
    return {name: ProfileSpec.model_validate({"name": name, **row}) for name, row in rows}


@cache
def metric_profiles(scope: str) -> tuple[str, ...]:
    """Names of the metric profiles of a scope, "engine" or "gateway"."""
    return tuple(name for name, file in _shipped("metric_profiles") if file["scope"] == scope)


@cache
def signals() -> tuple[str, ...]:
    """Every signal any metric profile tells, as a policy names it: pods.waiting, prefill.latency, traffic.offered_rps."""
    names: dict[str, None] = {}
    for _, file in _shipped("metric_profiles"):
        sections = {"pods": file.get("pods", {}), **file.get("roles", {}), "traffic": file.get("traffic", {})}
        names |= {f"{section}.{signal}": None for section, queries in sections.items() for signal in queries}
    return tuple(name for name in names if name != "traffic.source")


def _shipped(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The YAML files of a folder of this package, by the name they have without their ending."""
    files = sorted((resources.files("autoscaler") / folder).iterdir(), key=lambda file: file.name)
    for file in files:
        if file.name.endswith(".yaml"):
            yield file.name.removesuffix(".yaml"), yaml.safe_load(file.read_text(encoding="utf-8"))

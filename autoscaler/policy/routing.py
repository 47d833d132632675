"""How do requests find the replicas of a fleet, and how is one of them taken out before it goes or changes its role?

    routing: {kind: label, label: llm-d.ai/role}

    label           the router chooses pods by a label whose value is the role. Leaving writes `away`, a value that no role
                    accepts. The label is never removed: to llm-d's router a pod without it is a decode pod like any other
    readinessGate   a condition of ours keeps the pod from being Ready: Services and most routers leave it out. It tells
                    nobody a role, so it is enough to drain and not to flip in place
    sglangGateway   SGLang's model gateway finds workers by their label, and keeps them whether Ready or not. So the label
                    leads, as above, and the API at `url` tells when the gateway has really let go

Nobody outside a router sees a request that it has just handed over: `settleSeconds` after leaving it must have arrived,
and from then on an idle replica is one. (reference/engines.md B.2 and B.3)
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from autoscaler.core.fleet import Role
from autoscaler.policy.fields import ALLOWED, Objection, Section, complete, refuse, shown


class RoutingKind(StrEnum):
    """What tells the router which replicas may be chosen."""

    LABEL = "label"
    READINESS_GATE = "readinessGate"
    SGLANG_GATEWAY = "sglangGateway"


TELLS_ROLES = (RoutingKind.LABEL, RoutingKind.SGLANG_GATEWAY)  # kinds that can tell a router a new role
HAS_API = (RoutingKind.SGLANG_GATEWAY,)  # kinds whose router is asked itself
# Label prefixes by whose labels objects find their own pods: with another value the pod would be nobody's.
OTHERS = ("leaderworkerset.sigs.k8s.io", "disaggregatedset.x-k8s.io")

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
NAMES = "1 to 63 of a-z, A-Z, 0-9, -, _ and ., a letter or digit at both ends"

LabelKey = Annotated[
    str,
    Field(
        pattern=f"^({_SUBDOMAIN}/)?{_LABEL}$",
        max_length=253,
        json_schema_extra={ALLOWED: f"[DOMAIN/]NAME, at most 253 characters; NAME is {NAMES}"},
    ),
]
LabelValue = Annotated[str, Field(pattern=f"^{_LABEL}$", max_length=63, json_schema_extra={ALLOWED: NAMES})]
RoleValue = Annotated[LabelValue, Field(description="The label's value on replicas of this role.")]
Values = Annotated[dict[Annotated[Role, Field(strict=False)], RoleValue], AfterValidator(partial(complete, Role))]
Url = Annotated[
    str,
    Field(
        pattern=f"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:{_PORT})?$",
        max_length=253,
        json_schema_extra={ALLOWED: "http(s)://HOST[:PORT]"},
    ),
]


class Routing(Section):
    """How requests find replicas, and how one is taken out before it is removed or flipped. Absent: none is."""

    kind: Annotated[RoutingKind, Field(strict=False)]
    """What tells the router which replicas may be chosen."""
    label: LabelKey | None = None
    """The pod label that tells the router the role; of kinds label and sglangGateway."""
    values: Values = Field({role: role.value for role in Role})
    """The label's value on replicas of each role."""
    away: LabelValue = "draining"
    """The label's value on a replica that has left: one that no role accepts."""
    url: Url | None = None
    """Where the gateway's API is; of kind sglangGateway."""
    settle_seconds: float = Field(5.0, ge=0.0, le=600.0)
    """How long after leaving a request that was handed over before may still arrive."""

    @field_validator("label")
    @classmethod
    def _where_a_label_leads(cls, label: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if label is None and kind in TELLS_ROLES:
            refuse([Objection((), f"missing; kind {kind} needs the pod label that tells the router the role")])
        if label is not None and kind is RoutingKind.READINESS_GATE:
            refuse([Objection((), f"{shown(label)} is not allowed; kind {kind} has no label")])
        return label

    @field_validator("label")
    @classmethod
    def _left_to_others(cls, label: str | None) -> str | None:
        if label is not None and label.partition("/")[0] in OTHERS:
            refuse([Objection((), f"{shown(label)} is not allowed; the objects that made the pods find them by it")])
        return label

    @field_validator("values")
    @classmethod
    def _one_value_per_role(cls, values: dict[Role, str]) -> dict[Role, str]:
        owners: dict[str, Role] = {}
        for role, value in values.items():
            owners.setdefault(value, role)
        clashes = [(role, value) for role, value in values.items() if owners[value] is not role]
        refuse(Objection((role,), f"{shown(value)} is the value of {owners[value]} already") for role, value in clashes)
        return values

    @field_validator("away")
    @classmethod
    def _away_is_no_role(cls, away: str, info: ValidationInfo) -> str:
        values: dict[Role, str] = info.data.get("values", {})
        refuse(Objection((), f"{shown(away)} is the value of {role} already") for role, value in values.items() if value == away)
        return away

    @field_validator("url")
    @classmethod
    def _where_there_is_an_api(cls, url: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if url is None and kind in HAS_API:
            refuse([Objection((), f"missing; kind {kind} needs its API (allowed: http(s)://HOST[:PORT])")])
        if url is not None and kind is not None and kind not in HAS_API:
            refuse([Objection((), f"{shown(url)} is not allowed; only kind {' or '.join(HAS_API)} has an API")])
        return url

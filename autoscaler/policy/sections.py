"""What may stand in each part of a policy?

A field has its range; a field that a neighbour in the same part can forbid is checked against it here, what concerns
several parts in document.py. Defaults of what the core knows are the core's.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from autoscaler.core.capacity import Shape
from autoscaler.core.demand import DemandLimits
from autoscaler.core.foreseen import ForecastLimits
from autoscaler.core.observation import Freshness
from autoscaler.policy.actuation import NO_SCALE, Actuation
from autoscaler.policy.behaviour import DampingSpec
from autoscaler.policy.calendar import FloorSpec
from autoscaler.policy.fields import ALLOWED, Objection, Section, at_least, at_most, default_of, refuse, shown
from autoscaler.policy.profiles import known_signal

MAX_REPLICAS = 1000
SCRAPES_PER_WINDOW = 4  # a rate over fewer scrapes loses its value to a single late one (reference/engines.md C.0)
LWS = "LeaderWorkerSet"
WITH_ROLES = ("DisaggregatedSet",)  # kinds that keep a count for each of several roles inside, and none of their own

Name = Annotated[
    str,
    Field(
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        max_length=63,
        json_schema_extra={ALLOWED: "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"},
    ),
]
Word = Annotated[str, Field(pattern=r"^\S+$", max_length=253, json_schema_extra={ALLOWED: "1 to 253 characters without spaces"})]
Query = Annotated[str, Field(pattern=r"\S", json_schema_extra={ALLOWED: "a PromQL expression"})]


class Metadata(Section):
    """The document's identity, as Kubernetes has it."""

    name: Name
    namespace: Name = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Metrics(Section):
    """How signals are read from Prometheus."""

    scrape_interval_seconds: float = Field(15.0, ge=0.1, le=300.0)
    """How often Prometheus scrapes the engines."""
    window_seconds: float = Field(60.0, ge=0.4, le=3600.0)
    """Over what time rates and percentiles are taken."""
    queries: dict[Annotated[str, AfterValidator(known_signal)], Query] = Field(default_factory=dict)
    """PromQL of one's own by signal name, instead of the metric profile's."""

    @field_validator("window_seconds")
    @classmethod
    def _window_holds_scrapes(cls, window_s: float, info: ValidationInfo) -> float:
        scrape_s = info.data.get("scrape_interval_seconds", 0.0)
        least_s = SCRAPES_PER_WINDOW * scrape_s
        at_least(window_s, least_s, f"{SCRAPES_PER_WINDOW} x scrapeIntervalSeconds {scrape_s:g}", 3600)
        return window_s


class Target(Section):
    """The Kubernetes object whose replicas are the pool."""

    kind: Word = LWS
    """Kind of the object."""
    api_version: Word = "leaderworkerset.x-k8s.io/v1"
    """API version of the object; another kind than the default needs its own."""
    name: Name
    """Name of the object, in the policy's namespace."""
    role: Name | None = None
    """Name of the role inside the object that is the pool; a DisaggregatedSet has several, other kinds have none."""

    @field_validator("role")
    @classmethod
    def _only_where_there_are_roles(cls, role: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind in WITH_ROLES and role is None:
            refuse([Objection((), f"missing; a {kind} has a count for each of its roles")])
        if kind is not None and kind not in WITH_ROLES and role is not None:
            refuse([Objection((), f"{shown(role)} is not allowed; only a {' or '.join(WITH_ROLES)} has roles inside")])
        return role

    @model_validator(mode="after")
    def _version_belongs_to_kind(self) -> Self:
        if self.kind != LWS and self.api_version == type(self).model_fields["api_version"].default:
            written = "api_version" in self.model_fields_set
            refuse(
                [Objection(("apiVersion",), f"{'' if written else 'missing; the default '}{self.api_version} has no {self.kind}")]
            )
        return self

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two targets the same within a namespace: API group, kind and name, and the role if there is one."""
        inside = () if self.role is None else (self.role,)
        return (self.api_version.rpartition("/")[0], self.kind, self.name, *inside)

    def called(self, namespace: str = "") -> str:
        """The target in a message: DisaggregatedSet default/llama role prefill."""
        place, inside = f"{namespace}/" if namespace else "", f" role {self.role}" if self.role else ""
        return f"{self.kind} {place}{self.name}{inside}"


class Pool(Section):
    """One role: what is scaled, and between which bounds."""

    target: Target
    min: int = Field(1, ge=1, le=MAX_REPLICAS)
    """The fewest replicas the pool may have."""
    max: int = Field(ge=1, le=MAX_REPLICAS)
    """The most replicas the pool may have."""
    gpus_per_replica: int = Field(1, ge=1, le=1024)
    """GPUs that one replica takes, all its pods together."""
    capacity_pool: Name | None = None
    """Name of the GPUs that the pool draws from: what one pool gives up, another with the same name here can take."""
    actuation: Annotated[Actuation, Field(strict=False)] = Actuation.DIRECT
    """Who writes the count: direct is this controller, hpa a HorizontalPodAutoscaler that reads what it publishes."""
    floors: list[FloorSpec] = Field(default_factory=list, max_length=50)
    """Hours of the week at which the pool has more replicas than `min`, whatever the load."""
    behaviour: DampingSpec = DampingSpec()
    """What this role does differently from `spec.behaviour`."""

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, most: int, info: ValidationInfo) -> int:
        least = info.data.get("min", 1)
        at_least(most, least, f"min {least}", MAX_REPLICAS)
        return most

    @field_validator("floors")
    @classmethod
    def _within_max(cls, floors: list[FloorSpec], info: ValidationInfo) -> list[FloorSpec]:
        most = info.data.get("max", MAX_REPLICAS)
        high = [(at, one.min) for at, one in enumerate(floors) if one.min > most]
        refuse(Objection((at, "min"), f"{least} is above max {most} (allowed: 1..{most})") for at, least in high)
        return floors

    @field_validator("actuation")
    @classmethod
    def _where_others_can_write(cls, actuation: Actuation, info: ValidationInfo) -> Actuation:
        target: Target | None = info.data.get("target")
        if actuation is Actuation.HPA and target is not None and target.role is not None:
            refuse([Objection((), f"{actuation} {NO_SCALE} (allowed: {Actuation.DIRECT})")])
        return actuation

    @property
    def most_on_purpose(self) -> int:
        """The most replicas that `min` and the floors ever ask for."""
        return max([self.min, *(one.min for one in self.floors)])


class SloSpec(Section):
    """A promise: this percentile of requests sees at most so many seconds."""

    seconds: float = Field(ge=0.0001, le=3600.0)
    """How long it may take."""
    percentile: float = Field(95.0, ge=50.0, le=99.9)
    """For how many of a hundred requests."""


class RequestShape(Section):
    """The mean request, used until requests have completed and can be measured."""

    prompt_tokens: float = Field(ge=1.0, le=1e7)
    """Tokens of the prompt, cached ones included."""
    uncached_tokens: float | None = Field(None, ge=1.0, le=1e7)
    """The part of the prompt that no cache holds; the whole prompt if not given."""
    output_tokens: float = Field(ge=1.0, le=1e6)
    """Tokens of the answer."""
    prefill_variation: float = Field(default_of(Shape, "cv2"), ge=0.0, le=100.0)
    """Squared coefficient of variation of the uncached part: 0 if all are alike, 1 if they are spread exponentially."""

    @field_validator("uncached_tokens")
    @classmethod
    def _part_of_the_prompt(cls, uncached: float | None, info: ValidationInfo) -> float | None:
        prompt = info.data.get("prompt_tokens")
        if uncached is not None and prompt is not None:
            at_most(uncached, prompt, f"promptTokens {prompt:g}", 1)
        return uncached

    def core(self) -> Shape:
        """The same as the core sizes with."""
        uncached = self.prompt_tokens if self.uncached_tokens is None else self.uncached_tokens
        return Shape(self.prompt_tokens, uncached, self.output_tokens, self.prefill_variation)


class FreshnessSpec(Section):
    """Which readings are believed."""

    max_age_seconds: float = Field(default_of(Freshness, "max_age_s"), ge=0.2, le=600.0)
    """An older reading counts as missing."""
    grace_seconds: float = Field(default_of(Freshness, "grace_s"), ge=0.0, le=3600.0)
    """How long a new replica may be silent."""
    min_samples: int = Field(default_of(Freshness, "min_samples"), ge=1, le=100_000)
    """Fewer requests in a window than this make no percentile."""


class ForecastSpec(Section):
    """How far and how carefully to look ahead; core/forecast.py tells what each does."""

    horizon_seconds: float = Field(default_of(ForecastLimits, "horizon_s"), ge=1.0, le=7200.0)
    """The time a change takes to act, until it has been learned: from the decision until a new replica serves."""
    aim: float = Field(default_of(ForecastLimits, "aim"), ge=0.5, le=0.999)
    """The quantile of its own past errors to provision for."""
    errors_kept: int = Field(default_of(ForecastLimits, "errors_kept"), ge=1, le=10_000)
    """How many of its past errors are remembered."""
    errors_needed: int = Field(default_of(ForecastLimits, "errors_needed"), ge=1, le=10_000)
    """With fewer of them the forecast counts as unproven."""
    margin: float = Field(default_of(ForecastLimits, "margin"), ge=0.0, le=0.9)
    """By what share another model must be better to take over."""
    gap_seconds: float = Field(default_of(ForecastLimits, "gap_s"), ge=1.0, le=3600.0)
    """A silence longer than this begins the series anew."""

    @field_validator("errors_needed")
    @classmethod
    def _no_more_than_are_kept(cls, needed: int, info: ValidationInfo) -> int:
        kept = info.data.get("errors_kept", needed)
        at_most(needed, kept, f"errorsKept {kept}", 1)
        return needed


class Sizing(Section):
    """How generously demand becomes replicas."""

    headroom: float = Field(default_of(DemandLimits, "headroom"), ge=0.0, le=2.0)
    """Extra share on top of what is needed."""
    drain_seconds: float = Field(default_of(DemandLimits, "drain_s"), ge=1.0, le=3600.0)
    """In what time a present backlog shall be gone, counted from when a change takes effect."""
    spare_up_to: int = Field(default_of(DemandLimits, "spare_up_to"), ge=0, le=100)
    """One replica more than needed where no more than so many are needed; 0 for never."""
    pooling: float = Field(default_of(DemandLimits, "pooling"), ge=0.0, le=1.0)
    """How near routing comes to one queue for all replicas: 0.9 where the least loaded is chosen, 0.2 for round robin."""

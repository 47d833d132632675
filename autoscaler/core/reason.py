"""Why is this number what it is? The vocabulary in which every stage explains itself.

Each stage of the tick returns its value together with `Finding`s; `explain` prints them in order. This room comes
before all others in core/ (the design lists reasons under plan.py) because every stage speaks it and core files
import only what stands before them.

Words are those of the Horizontal Pod Autoscaler where it has one (ScaleDownStabilized, TooManyReplicas ...), since
that is what operators already grep for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.fleet import Role


class Stage(StrEnum):
    """The stages of a tick, in order."""

    OBSERVE = "observe"
    FORECAST = "forecast"
    CAPACITY = "capacity"
    DEMAND = "demand"
    TARGET = "target"
    PLAN = "plan"
    ACT = "act"


class Reason(StrEnum):
    """Why a stage said what it said."""

    # observe: what is not known (one per Gap)
    SIGNALS_OK = "SignalsOk"
    SIGNALS_MISSING = "SignalsMissing"
    SIGNALS_STALE = "SignalsStale"
    SIGNALS_NOT_A_NUMBER = "SignalsNotANumber"
    SIGNALS_UNREACHABLE = "SignalsUnreachable"
    SIGNALS_TIMEOUT = "SignalsTimeout"
    SIGNALS_SERVER_ERROR = "SignalsServerError"
    SIGNALS_MALFORMED = "SignalsMalformed"
    SIGNALS_INCOMPLETE = "SignalsIncomplete"
    SIGNALS_AMBIGUOUS = "SignalsAmbiguous"
    LATE_UNEXPLAINED = "LateUnexplained"
    LINK_BOUND = "LinkBound"
    FLEET_UNREADABLE = "FleetUnreadable"
    INVALID_POLICY = "InvalidPolicy"
    CLASHING_POLICY = "ClashingPolicy"
    STATE_UNREADABLE = "StateUnreadable"
    # forecast
    MODEL_EARNED = "ModelEarned"
    MODEL_UNPROVEN = "ModelUnproven"
    NO_FORECAST = "NoForecast"
    # capacity
    CAPACITY_WITHIN_SLO = "CapacityWithinSlo"
    SLO_INFEASIBLE = "SloInfeasible"
    SHAPE_UNKNOWN = "RequestShapeUnknown"
    SPEED_BY_PROFILE = "SpeedByProfile"
    SPEED_MEASURED = "SpeedMeasured"
    UNCALIBRATED = "Uncalibrated"
    CACHE_MEASURED = "CacheShareMeasured"
    CACHE_QUARANTINED = "CacheShareQuarantined"
    # demand
    DEMAND_BOUND = "DemandBound"
    # target
    WITHIN_TOLERANCE = "DesiredWithinRange"
    DEMAND_ROSE = "DemandRose"
    DEMAND_FELL = "DemandFell"
    SCALE_UP_STABILIZED = "ScaleUpStabilized"
    SCALE_DOWN_STABILIZED = "ScaleDownStabilized"
    FIRST_WINDOW = "FirstWindowNotSeen"
    COOLDOWN = "Cooldown"
    STEP_LIMITED = "StepLimited"
    BACKLOG = "BacklogDraining"
    KNOWN_PART_ONLY = "KnownPartMayOnlyGrow"
    # plan
    TOO_FEW_REPLICAS = "TooFewReplicas"
    TOO_MANY_REPLICAS = "TooManyReplicas"
    LAST_SERVING = "LastServingReplica"
    GPU_BUDGET = "GpuBudget"
    NOT_CREATED = "NotCreated"
    NODES_REFUSED = "NodesRefused"
    IDLE = "Idle"
    CALENDAR_FLOOR = "CalendarFloor"
    MODE = "ModeForbidsActing"
    FLIP = "Flip"
    FLIP_RELIEF = "FlipForRelief"
    FLIP_IN_FLIGHT = "FlipInFlight"
    FLIP_NO_FASTER = "FlipNoFaster"
    FLIP_NOTHING_TO_SPARE = "NothingToSpare"
    SCALE_UP = "ScaleUp"
    SCALE_DOWN = "ScaleDown"
    HOLD = "Hold"
    HANDED = "WrittenByAutoscaler"
    # act
    STANDING_BY = "StandingBy"
    WRITE_PENDING = "WritePending"
    STUCK = "Stuck"
    NOT_FOLLOWED = "HPANotFollowing"
    INTERNAL_ERROR = "InternalError"


@dataclass(frozen=True, slots=True)
class Finding:
    """One link of the reason chain: the stage, the role it speaks of (None: the fleet), a sentence, and its inputs."""

    stage: Stage
    reason: Reason
    text: str
    role: Role | None = None
    inputs: Mapping[str, float | str] = field(default_factory=dict)

"""What does the controller write back to a PDAutoscaler?

For people: `kubectl get pda` shows mode, pools, SLO and reason; conditions are those of the Horizontal Pod Autoscaler
and `Degraded`. For the next leader: `state`, which it resumes from (DESIGN.md section 13).

Every field may be missing, before the first tick all are. Fields are only ever added, until v1beta1.
"""

from __future__ import annotations

from typing import Any

from autoscaler.core.action import Mode
from autoscaler.core.fleet import Phase, Role

STATE_BYTES = 8192
MAX_CONDITIONS = 16
MAX_FLIPS = 16

Schema = dict[str, Any]


def status_schema() -> Schema:
    """The structural schema of `status`."""
    return _object(
        "What the controller last saw and did.",
        observedGeneration=_count("The generation of the spec that the last tick went by.", bits=64),
        mode={**_text("The mode the last tick ran in."), "enum": [str(mode) for mode in Mode]},
        reason=_text("What decided the last tick, in one word."),
        slo=_text("Share of requests within each latency objective, as a short text; - where too few were seen to say."),
        lastTick={**_text("When the controller last looked."), "format": "date-time"},
        pools=_object("The pools by role.", **{role.value: _pool() for role in Role}),
        flips=_flips(),
        asleep={"description": "Every pool is asked for nothing, since nobody asks. Absent: no.", "type": "boolean"},
        conditions=_conditions(),
        state=_state(),
    )


def _pool() -> Schema:
    return _object(
        "One pool.",
        desired=_count("Replicas that the target asks for."),
        target=_count(
            "Replicas that the controller wants it to ask for. In mode Auto only: whoever reads it may act on it. With actuation "
            "hpa it is the count published for a HorizontalPodAutoscaler, a lower one only once replicas are drained."
        ),
        actuation=_text("Who writes the count, where it is not the controller. Absent: direct."),
        recommended=_count("The same count in mode Recommend, under a name that nothing acts on."),
        serving=_count("Replicas that take new work."),
        ready=_text('"serving/desired", the text that kubectl shows.'),
        missing=_text("Why replicas that are wanted do not come, in the cluster's words. Absent: none is missing."),
        startupSeconds=_amount("From the making of a replica to its first work, as learned here. Absent: not yet known."),
        floor=_count("Replicas that the calendar asks for at this hour. Absent: no floor is above min."),
        needs=_amount("Replicas that the load needs, before damping and bounds: to be read, not to be acted on."),
        boundBy=_text("Which of the needs is the largest."),
        forecast=_forecast(),
        headroomTokensPerSecond={
            "description": "What the serving replicas carry within the SLO beyond the forecast's upper bound, in the role's own "
            "tokens; negative: the forecast is above what serves. Absent: not known.",
            "type": "integer",
            "format": "int64",
        },
        pressure=_amount("Replicas that the load needs, per replica that serves. Absent: not known."),
        sloHeadroom={
            "description": "1 - latency / SLO at the SLO's percentile; negative: broken. Absent: too few requests to say.",
            "type": "number",
        },
        speed=_amount("Time that work is taken to need, over the profile's: 1.2 is a fifth slower."),
    )


def _forecast() -> Schema:
    return _object(
        "The load as expected. Absent: not known.",
        model=_text("The model that speaks."),
        horizonSeconds=_amount("How far ahead."),
        tokensPerSecond=_amount("What it expects, in the role's own tokens."),
        upperTokensPerSecond=_amount("Its upper bound, which is what replicas are provided for."),
        coverage=_amount("Share of its latest promises whose upper bound held. Absent: too few to say."),
    )


def _flips() -> Schema:
    flip = _object(
        "Replicas of one role that become replicas of another.",
        **{"from": _text("The role that they had."), "to": _text("The role that they get.")},
        fromReplicas=_count("How many of the one."),
        toReplicas=_count("How many of the other."),
        phase={**_text("How far it is."), "enum": [str(phase) for phase in Phase]},
        since={**_text("When it began."), "format": "date-time"},
    )
    kind = {"type": "array", "maxItems": MAX_FLIPS, "x-kubernetes-list-type": "atomic"}
    return {"description": "Flips under way, the oldest first. Absent: none.", **kind, "items": flip}


def _conditions() -> Schema:
    condition = _object(
        "A condition, as every Kubernetes object has them.",
        type={**_text("AbleToScale, ScalingActive, ScalingLimited or Degraded."), "maxLength": 316},
        status={**_text("Whether it holds."), "enum": ["True", "False", "Unknown"]},
        reason={**_text("Why, in one CamelCase word."), "maxLength": 1024},
        message={**_text("Why, in a sentence."), "maxLength": 32768},
        observedGeneration=_count("The generation of the spec it was found for.", bits=64),
        lastTransitionTime={**_text("When `status` last changed."), "format": "date-time"},
    )
    return {
        "description": "What can be said of the whole.",
        "type": "array",
        "maxItems": MAX_CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {**condition, "required": ["type", "status", "reason", "message", "lastTransitionTime"]},
    }


def _state() -> Schema:
    """Only its version is the API server's business: release N reads what N-1 wrote, and holds on a newer format."""
    state = _object(
        f"What the next leader resumes from; at most {STATE_BYTES} bytes of JSON. Not for people and not to be edited.",
        format={**_count("Version of the record's form."), "minimum": 1},
    )
    return {**state, "required": ["format"], "x-kubernetes-preserve-unknown-fields": True}


def _object(description: str, **properties: Schema) -> Schema:
    return {"description": description, "type": "object", "properties": properties}


def _count(description: str, bits: int = 32) -> Schema:
    return {"description": description, "type": "integer", "format": f"int{bits}", "minimum": 0}


def _amount(description: str) -> Schema:
    return {"description": description, "type": "number", "minimum": 0}


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}

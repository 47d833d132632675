"""Does a document become the policy it says, with the core's own defaults where it says nothing?"""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.action import Mode
from autoscaler.core.calendar import Floor
from autoscaler.core.calibration import CalibrationLimits, Trust
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.flip import FlipLimits
from autoscaler.core.forecast import ForecastLimits
from autoscaler.core.hysteresis import Damping, Step
from autoscaler.core.observation import Freshness
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.core.strain import StrainLimits
from autoscaler.policy import Document, replica_profile, warnings
from autoscaler.policy.behaviour import DampingSpec
from autoscaler.policy.surprises import ALONE_S
from tests.policy_documents import edited, policy, text


def test_what_a_document_leaves_out_is_the_default_of_the_core() -> None:
    assert policy().core() == Policy(
        mode=Mode.RECOMMEND,
        slos={SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)},
        pools=dict.fromkeys(Role, PoolLimits(1, 4)),
        profile=replica_profile("llama-3-8b-h100-tp1"),
        damping=dict.fromkeys(Role, Damping()),
    )


def test_floors_flips_and_sleep_arrive_in_the_core() -> None:
    floor = {"days": ["Mon", "Sun"], "start": "08:30", "hours": 1.5, "min": 3}
    flip = {"enabled": True, "maxInFlight": 3, "dwellSeconds": 4, "cooldownSeconds": 5}
    behaviour = {"zeroAfterSeconds": 600, "flip": flip, "scaleDown": {"stabilizationSeconds": 77}}
    core = policy(gateway="llm-d", **{"pools.prefill.floors": [floor]}, behaviour=behaviour).core()
    starts_s = 8.5 * 3600.0
    assert core.floors == {Role.PREFILL: (Floor(starts_s, 5400.0, 3), Floor(6 * 86_400.0 + starts_s, 5400.0, 3))}
    assert core.zero_after_s == 600.0
    assert core.flip == FlipLimits(enabled=True, max_in_flight=3, dwell_s=4.0, cooldown_s=5.0, sighted_s=77.0)


def test_everything_that_is_written_arrives_in_the_core() -> None:
    document = policy(
        mode="Auto",
        profile={
            "name": "own",
            "prefillSeconds": [0.01, 1e-4, 1e-9],
            "decodeSeconds": [0.02, 1e-5, 1e-7],
            "kvTokens": 1000,
            "maxSeqs": 8,
            "kvBytesPerToken": 9,
            "linkBytesPerSecond": 1e9,
            "linkBaseSeconds": 0.5,
        },
        slo={"ttft": {"seconds": 3, "percentile": 99.9}, "tpot": {"seconds": 0.25, "percentile": 50}},
        gpuBudget=32,
        requestShape={"promptTokens": 9, "uncachedTokens": 4, "outputTokens": 2, "prefillVariation": 3},
        freshness={"maxAgeSeconds": 50, "graceSeconds": 51, "minSamples": 52},
        forecast={"horizonSeconds": 60, "aim": 0.6, "errorsKept": 61, "errorsNeeded": 62 - 1, "margin": 0.1, "gapSeconds": 63},
        sizing={"headroom": 0.7, "drainSeconds": 71, "spareUpTo": 2, "pooling": 0.3},
        speed="nothing",
    )
    core = document.core()
    assert (core.mode, core.gpu_budget) == (Mode.AUTO, 32)
    assert (core.profile.name, core.profile.prefill_s, core.profile.decode_s) == ("own", (0.01, 1e-4, 1e-9), (0.02, 1e-5, 1e-7))
    assert (core.profile.kv_tokens, core.profile.max_seqs, core.profile.kv_bytes_per_token) == (1000, 8, 9)
    assert (core.profile.link_bytes_per_s, core.profile.link_base_s) == (1e9, 0.5)
    assert core.slos == {SloKind.TTFT: Slo(SloKind.TTFT, 3.0, 0.999), SloKind.TPOT: Slo(SloKind.TPOT, 0.25, 0.5)}
    assert core.shape == Shape(9.0, 4.0, 2.0, 3.0)
    assert core.freshness == Freshness(50.0, 51.0, 52)
    assert core.forecast == ForecastLimits(60.0, 0.6, 61, 61, 0.1, 63.0)
    assert core.demand == DemandLimits(0.7, 71.0, pooling=0.3, spare_up_to=2, strain=StrainLimits(settle_s=90.0, min_samples=52))
    assert core.calibration == CalibrationLimits(Trust.NOTHING, 60.0)


def test_the_uncached_part_of_a_shape_is_the_whole_prompt_unless_it_is_written() -> None:
    assert policy(requestShape={"promptTokens": 9, "outputTokens": 2}).core().shape == Shape(9.0, 9.0, 2.0)


def test_a_document_survives_being_written_and_read_again() -> None:
    document = policy(mode="Auto", gpuBudget=8, behaviour={"scaleDown": {"step": {"percent": 20}}})
    again = Document.model_validate(yaml.safe_load(text(document.model_dump(mode="json", by_alias=True))))
    assert again == document
    assert again.core() == document.core()


def test_a_pool_overrides_the_policy_and_the_policy_the_core_field_by_field() -> None:
    document = Document.model_validate(
        edited(
            {
                "spec.behaviour": {"scaleDown": {"cooldownSeconds": 120, "step": {"replicas": 2}}, "gapSeconds": 90},
                "spec.pools.decode.behaviour": {
                    "scaleUp": {"tolerance": 0.3},
                    "scaleDown": {"stabilizationSeconds": 900, "step": {"periodSeconds": 5}},
                },
            }
        )
    )
    damping = document.core().damping
    core = Damping()
    down = replace(core.down, cooldown_s=120.0, step=Step(2, core.down.step.percent, core.down.step.period_s))
    assert damping[Role.PREFILL] == Damping(core.up, down, 90.0)
    assert damping[Role.DECODE] == Damping(
        replace(core.up, tolerance=0.3),
        replace(down, stabilization_s=900.0, step=replace(down.step, period_s=5.0)),
        90.0,
    )


def test_a_zero_overrides_and_a_null_does_not() -> None:
    base = Damping()
    written = DampingSpec.model_validate({"scaleDown": {"stabilizationSeconds": 0, "cooldownSeconds": None}})
    assert written.over(base).down == replace(base.down, stabilization_s=0.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"spec.behaviour": {"scaleDown": {"stabilizationSeconds": 10}}},
            (
                "spec.behaviour.scaleDown.stabilizationSeconds: 10 is shorter than tickSeconds 15, "
                "so the window holds one look and steadies nothing"
            ),
        ),
        (
            {"spec.pools.decode.behaviour": {"scaleUp": {"stabilizationSeconds": 14.5}}},
            (
                "spec.pools.decode.behaviour.scaleUp.stabilizationSeconds: 14.5 is shorter than tickSeconds 15, "
                "so the window holds one look and steadies nothing"
            ),
        ),
        (
            {"spec.requestShape": {"promptTokens": 100_000, "outputTokens": 10, "prefillVariation": 0}},
            (
                "spec.slo.ttft.seconds: 2 cannot be met by any number of prefill replicas: "
                # 2.7 ms + 1.56 s + 5.9 s, 1 ms + 524 ms over the link, a first step of 13 ms
                "spec.requestShape alone takes 8.001"
            ),
        ),
        (
            {"spec.slo.tpot.seconds": 0.009, "spec.requestShape": {"promptTokens": 4000, "outputTokens": 10}},
            (
                "spec.slo.tpot.seconds: 0.009 cannot be met by any number of decode replicas: "
                # 8.9 ms + 7.3 us + 4,005 tokens x 41.6 ns
                "spec.requestShape alone takes 0.009074"
            ),
        ),
        (
            {"spec.slo.ttft.seconds": 3600, "spec.requestShape": {"promptTokens": 500_000, "outputTokens": 2}},
            (
                "spec.requestShape: a request holds 500002 tokens, more than a decode replica of llama-3-8b-h100-tp1 "
                "has room for (405449)"
            ),
        ),
    ],
)
def test_a_surprise_is_one_exact_line_and_no_error(changes: dict[str, object], line: str) -> None:
    assert warnings(Document.model_validate(edited(changes))) == [line]


def test_a_window_of_no_length_is_on_purpose() -> None:
    assert warnings(policy(behaviour={"scaleDown": {"stabilizationSeconds": 0}})) == []


@given(
    kind=st.sampled_from(SloKind),
    shape=st.builds(lambda n, output, cv2: Shape(n, n, output, cv2), st.floats(1, 1e5), st.floats(1, 1e4), st.floats(0, 10)),
    side=st.sampled_from([0.999, 1.001]),
)
def test_an_slo_is_called_unreachable_exactly_below_what_a_request_takes_alone(kind: SloKind, shape: Shape, side: float) -> None:
    profile = replica_profile("llama-3-70b-h100-tp4")
    seconds = {SloKind.TTFT: 3600.0, SloKind.TPOT: 3600.0, kind: ALONE_S[kind](profile, shape) * side}
    document = policy(
        profile=profile.name,
        slo={name.value: {"seconds": value} for name, value in seconds.items()},
        requestShape={
            "promptTokens": shape.prompt_tokens,
            "outputTokens": shape.output_tokens,
            "prefillVariation": shape.cv2,
        },
    )
    assert [line.partition(":")[0] for line in warnings(document)] == ([f"spec.slo.{kind}.seconds"] if side < 1 else [])


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        policy().spec.mode = Mode.AUTO  # type: ignore[misc]


def test_the_schema_comes_in_the_order_of_the_fields_with_their_descriptions() -> None:
    schema = Document.model_json_schema()
    assert list(schema["properties"]) == ["apiVersion", "kind", "metadata", "spec"]
    assert list(schema["$defs"]["Pool"]["properties"]) == [
        "target",
        "min",
        "max",
        "gpusPerReplica",
        "capacityPool",
        "actuation",
        "floors",
        "behaviour",
    ]
    assert schema["$defs"]["Spec"]["properties"]["model"]["description"] == "The served model's name, as the metrics have it."
    assert schema == Document.model_json_schema()

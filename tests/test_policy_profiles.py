"""Are the replica profiles that ship with the product what their sources say?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoscaler.policy import replica_profile
from autoscaler.policy.profiles import metric_profiles, replica_profiles, signals
from autoscaler.refusal import Refusal

FOLDER = Path(__file__).parent.parent / "autoscaler" / "replica_profiles"
NUMBER = r"([0-9.e]+)"
ROOM = re.compile(
    rf"kvTokens: {NUMBER} # \({NUMBER} x {NUMBER} x {NUMBER} - {NUMBER}\) / {NUMBER}\n  kvBytesPerToken: {NUMBER}\n"
)
STEP = re.compile(rf"decodeSeconds: \[{NUMBER}, .*; b0 is {NUMBER} ms \+ {NUMBER} ms\n")


def written() -> str:
    """All profile files, one after the other."""
    return "".join(file.read_text() for file in sorted(FOLDER.glob("*.yaml")))


def test_the_built_in_profiles_are_those_of_the_three_sources() -> None:
    modern = [f"llama-3-{size}" for size in ("8b-h100-tp1", "8b-a100-tp1")]
    modern += [f"llama-3-70b-{gpu}-tp{gpus}" for gpu in ("h100", "a100", "h200") for gpus in (4, 8)]
    early = [f"splitwise-2024-llama-2-70b-{gpu}-tp{gpus}" for gpu in ("h100", "a100") for gpus in (8, 4)]
    measured = ["llama-3.1-8b-fp8-h200-tp1", "llama-3.1-70b-fp8-h200-tp2", "llama-3.1-70b-fp8-h200-tp4"]
    assert list(replica_profiles()) == modern + measured + early


def test_room_for_kv_follows_from_the_memory_as_the_comment_says() -> None:
    rows = [tuple(map(float, row)) for row in ROOM.findall(written())]
    assert len(rows) == len(replica_profiles()) - 1  # of one profile the room was measured
    for tokens, memory, share, gpus, weights, per_token, kv_bytes in rows:
        assert tokens == (memory * share * gpus - weights) // per_token
        assert kv_bytes == per_token


def test_a_composed_decode_step_is_the_tables_plus_the_overhead_the_comment_names() -> None:
    rows = [tuple(map(float, row)) for row in STEP.findall(written())]
    composed = [name for name in replica_profiles() if not name.startswith("splitwise") and "fp8" not in name]
    assert len(rows) == len(composed)
    for b0_s, table_ms, overhead_ms in rows:
        assert b0_s * 1000 == pytest.approx(table_ms + overhead_ms)


@pytest.mark.parametrize(
    ("name", "tokens", "table_s", "error"),
    [  # points of the operator tables themselves, and the largest error the fit admits to
        ("llama-3-8b-h100-tp1", 2048, 0.038, 0.08),
        ("llama-3-8b-h100-tp1", 8192, 0.175, 0.08),
        ("llama-3-70b-h100-tp8", 2048, 0.078, 0.14),
        ("llama-3-70b-h100-tp8", 8192, 0.341, 0.14),
        ("llama-3-70b-a100-tp8", 2048, 0.207, 0.15),
        ("llama-3-70b-a100-tp8", 8192, 0.767, 0.15),
    ],
)
def test_a_prefill_takes_what_the_tables_say(name: str, tokens: int, table_s: float, error: float) -> None:
    assert replica_profile(name).prefill_time_s(tokens) == pytest.approx(table_s, rel=error)


def test_more_gpus_and_newer_gpus_are_faster() -> None:
    for older, newer in [("a100", "h100"), ("h100", "h200")]:
        for gpus in (4, 8):
            slow, fast = (replica_profile(f"llama-3-70b-{gpu}-tp{gpus}") for gpu in (older, newer))
            assert fast.step_time_s(32, 64_000) < slow.step_time_s(32, 64_000)
    four, eight = replica_profile("llama-3-70b-h100-tp4"), replica_profile("llama-3-70b-h100-tp8")
    assert eight.prefill_time_s(4000) < four.prefill_time_s(4000)
    assert eight.step_time_s(32, 64_000) < four.step_time_s(32, 64_000)


def test_an_unknown_profile_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Refusal) as caught:
        replica_profile("llama-3-70b-h100-tp2")
    line = '"llama-3-70b-h100-tp2" is not a built-in replica profile; did you mean "llama-3-70b-h100-tp8"? (allowed: '
    assert str(caught.value) == line + ", ".join(replica_profiles()) + ")"


def test_engines_gateways_and_signals_are_those_of_the_metric_profiles() -> None:
    assert "vllm" in metric_profiles("engine")
    assert "llm-d" in metric_profiles("gateway")
    assert not set(metric_profiles("engine")) & set(metric_profiles("gateway"))
    assert {"pods.waiting", "prefill.latency", "decode.tokens_per_request", "traffic.offered_rps"} <= set(signals())
    assert "traffic.source" not in signals()

"""Does a fitted profile say what was measured, whatever stalls are among the rows?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.commands.profile import fit as fit_command
from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.refusal import Refusal
from autoscaler.simulator.measurements import Measurements, read_measurements
from autoscaler.simulator.profile_files import find_profile, profile_in
from autoscaler.simulator.profile_fit import fit_profile, robust_fit
from autoscaler.simulator.trace_lines import Skipped
from tests.examples import examples

HEADER = "role,requests,tokens,seconds\n"
TRUE = replica_profile("llama-3-8b-h100-tp1")
GRIDS = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "profiles" / "h200-llama-3.1-8b-fp8"
needs_grids = pytest.mark.skipif(not GRIDS.is_dir(), reason=f"no grids in {GRIDS} (PDA_SHARED names the folder above profiles)")


def rows(noise: float = 0.0, stalls: float = 0.0, seed: int = 1) -> str:
    """Times of the built-in profile, off by up to `noise`, and a share of them ten times as long."""
    rng = Random(seed)

    def seen(seconds: float) -> float:
        return seconds * rng.uniform(1 - noise, 1 + noise) * (10 if rng.random() < stalls else 1)

    prefill = [f"prefill,1,{n},{seen(TRUE.prefill_time_s(n))}\n" for n in range(256, 16_384, 512)]
    batches = [(b, b * k) for b in (1, 4, 16, 64, 128) for k in (512, 1_024, 4_096, 8_192) if b * k < TRUE.kv_tokens]
    decode = [f"decode,{b},{kv},{seen(TRUE.step_time_s(b, kv))}\n" for b, kv in batches]
    return HEADER + "".join(prefill + decode)


def measured(folder: Path, text: str) -> Measurements:
    path = folder / "rows.csv"
    path.write_text(text)
    return read_measurements(path)


def grids(folder: Path, **changed: list[float]) -> Path:
    arrays: dict[str, list[float]] = {
        "prefill_isl": [100, 1_000, 2_000, 4_000],
        "prefill_ttft": [12, 30, 50, 90],
        "x_kv_usage": [0.1, 0.2, 0.4, 0.8],
        "y_context_length": [1_000, 1_000, 2_000, 2_000],
        "z_itl": [6, 7, 9, 13],
        "max_kv_tokens": [100_000],
    }
    arrays.update(changed)
    prefill = {name: np.array(arrays[name]) for name in ("prefill_isl", "prefill_ttft")}
    decode = {name: np.array(arrays[name]) for name in arrays if not name.startswith("prefill")}
    np.savez(folder / "prefill.npz", **prefill)  # type: ignore[arg-type] # the stub takes **kwargs for allow_pickle
    np.savez(folder / "decode.npz", **decode)  # type: ignore[arg-type]
    return folder


def test_exact_times_give_back_the_profile_they_were_made_with(tmp_path: Path) -> None:
    fitted = fit_profile(measured(tmp_path, rows()), "x", 426_788)
    profile = fitted.spec.core()
    assert profile.prefill_s == pytest.approx(TRUE.prefill_s, rel=1e-4)
    assert profile.decode_s == pytest.approx(TRUE.decode_s, rel=1e-4)
    assert max(fit.max_error for fit in fitted.fits.values()) < 1e-6


def test_a_tenth_of_stalls_does_not_bend_the_curve_and_is_not_hidden(tmp_path: Path) -> None:
    fitted = fit_profile(measured(tmp_path, rows(noise=0.02, stalls=0.1)), "x", 426_788)
    profile = fitted.spec.core()
    for tokens in (512, 4_096, 16_384):
        assert profile.prefill_time_s(tokens) == pytest.approx(TRUE.prefill_time_s(tokens), rel=0.03)
    for requests, tokens in [(1, 512), (64, 65_536), (128, 131_072)]:
        assert profile.step_time_s(requests, tokens) == pytest.approx(TRUE.step_time_s(requests, tokens), rel=0.03)
    assert fitted.fits[Role.PREFILL].max_error > 0.8


@examples(20)
@given(st.lists(st.tuples(st.integers(1, 256), st.integers(1, 200_000), st.floats(1e-4, 10)), min_size=4, max_size=12))
def test_no_coefficient_is_ever_negative(times: list[tuple[int, int, float]]) -> None:
    found = robust_fit([(1.0, requests, tokens) for requests, tokens, _ in times], [seconds for *_, seconds in times])
    assert min(found.coefficients) >= 0
    assert max(found.coefficients) > 0


def test_times_that_fall_with_the_load_give_a_constant(tmp_path: Path) -> None:
    found = robust_fit([(1.0, n, n * n) for n in (1.0, 2.0, 3.0, 4.0)], [4.0, 3.0, 2.0, 1.0])
    assert found.coefficients[1:] == (0.0, 0.0)


def test_grids_become_the_same_rows(tmp_path: Path) -> None:
    found = read_measurements(grids(tmp_path))
    assert found.kv_tokens == 100_000
    assert [(s.requests, s.tokens, s.seconds) for s in found.samples[Role.DECODE]][2] == pytest.approx((20, 40_000, 0.009))
    assert [(s.tokens, s.seconds) for s in found.samples[Role.PREFILL]][3] == pytest.approx((4_000, 0.09))
    assert find_profile(str(tmp_path)).kv_tokens == 100_000


@needs_grids
def test_the_built_in_profile_of_the_h200_is_what_its_grids_say() -> None:
    fitted, built_in = fit_profile(read_measurements(GRIDS), "x"), replica_profile("llama-3.1-8b-fp8-h200-tp1")
    profile = fitted.spec.core()
    assert profile.prefill_s == pytest.approx(built_in.prefill_s, rel=5e-3)
    assert profile.decode_s == pytest.approx(built_in.decode_s, rel=5e-3)
    assert profile.kv_tokens == built_in.kv_tokens
    assert fitted.fits[Role.PREFILL].mean_error < 0.03
    assert fitted.fits[Role.DECODE].mean_error < 0.07


BAD = {
    "header": ("a,b\n", "rows.csv line 1: 'a,b' is not the header of measurements (role,requests,tokens,seconds)"),
    "empty": ("", "line 1: '' is not the header"),
    "role": (HEADER + "both,1,5,1\n", "rows.csv line 2: role 'both' is not one of prefill, decode"),
    "negative time": (HEADER + "prefill,1,5,-1\n", "line 2: seconds '-1' is not a number 1e-06..3600"),
    "no time": (HEADER + "prefill,1,5,0\n", "line 2: seconds '0' is not a number 1e-06..3600"),
    "nan": (HEADER + "prefill,1,5,nan\n", "line 2: seconds 'nan' is not a number"),
    "fewer tokens than requests": (HEADER + "decode,8,5,1\n", "line 2: tokens '5' is not a number 8..1e+09"),
    "few": (HEADER + "prefill,1,5,1\n", "rows.csv: 1 rows of prefill, which is below 4"),
    "flat": (
        HEADER + "prefill,1,5,1\n" * 4 + "decode,1,9,1\ndecode,2,18,1\ndecode,4,20,1\ndecode,8,50,1\n",
        "rows.csv: fitted decodeSeconds: b1 and b2 are both 0",
    ),
    "larger than its KV": (
        rows() + "decode,1,2000000,1\n",
        "tokens 2e+06 is above the 1000000 that one replica holds (kvTokens)",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_measurements_that_cannot_be_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        fit_profile(measured(tmp_path, text), "x", 1_000_000)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_room_for_kv_must_come_from_somewhere(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="nothing in it tells how many tokens one replica holds; give --kv-tokens"):
        fit_profile(measured(tmp_path, rows()), "x")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_kv_tokens": [500.0]}, "decode.npz point 0: its context length is not within 1..max_kv_tokens"),
        ({"max_kv_tokens": [-1.0]}, "decode.npz: max_kv_tokens -1 is not a number 1..1e+09"),
        ({"z_itl": [6.0, -7.0, 9.0, 13.0]}, "decode.npz point 1: 20000 tokens in -7 ms"),
        ({"z_itl": [6.0]}, "decode.npz: x_kv_usage, y_context_length, z_itl have no common length"),
        ({"prefill_ttft": [float("nan")] * 4}, "prefill.npz point 0: 100 tokens in nan ms"),
    ],
)
def test_grids_that_cannot_be_are_refused_in_one_line(tmp_path: Path, changed: dict[str, list[float]], message: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_measurements(grids(tmp_path, **changed))
    assert message in str(caught.value)


def test_a_folder_without_grids_or_with_other_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"prefill\.npz: cannot be read as arrays: No such file"):
        find_profile(str(tmp_path))
    grids(tmp_path)
    (tmp_path / "decode.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(Refusal, match=r"decode\.npz: cannot be read as arrays"):
        find_profile(str(tmp_path))
    np.savez(tmp_path / "decode.npz", x_kv_usage=[0.1])
    with pytest.raises(Refusal, match=r"decode\.npz: has no y_context_length"):
        find_profile(str(tmp_path))


def test_the_command_writes_a_profile_that_is_read_back_and_tells_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(rows(noise=0.02) + "decode,1,5,oops\n")
    out = tmp_path / "mine.yaml"
    options: dict[str, Any] = {"measurements": tmp_path / "rows.csv", "kv_tokens": 426_788, "skip_bad_rows": True}
    plain = {**options, "out": out, "name": None, "kv_bytes_per_token": None, "as_json": False}
    with pytest.raises(Refusal, match="seconds 'oops' is not"):
        fit_command(**{**plain, "skip_bad_rows": False})
    assert not out.exists()
    fit_command(**plain)
    told = capsys.readouterr().out
    assert "prefill: mean error 1." in told
    assert "1 row skipped; the first: " in told
    assert find_profile(str(out)).prefill_time_s(2_048) == pytest.approx(TRUE.prefill_time_s(2_048), rel=0.02)
    assert list(yaml.safe_load(out.read_text())) == ["rows"]
    assert "kvBytesPerToken: 131072 # assumed" in out.read_text()
    with pytest.raises(Refusal, match="is there already; name another file"):
        fit_command(**plain)
    fit_command(**options, out=tmp_path / "other.yaml", name="b", kv_bytes_per_token=65_536, as_json=True)
    assert "assumed" not in (tmp_path / "other.yaml").read_text()
    document = json.loads(capsys.readouterr().out)
    assert (document["profile"]["kvBytesPerToken"], document["skippedRows"]) == (65_536, 1)
    assert document["errors"]["decode"]["meanError"] < 0.02


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a:\n  prefillSeconds: [-1, 0, 0]\n  decodeSeconds: [1, 1, 0]\n  kvTokens: 5\n",
            ":2: a.prefillSeconds[0]: -1 is out of",
        ),
        ("a:\n  kvTokens: 0\n  prefillSeconds: [1, 0, 0]\n  decodeSeconds: [1, 1, 0]\n", ":2: a.kvTokens: 0 is out of range"),
        (
            "a:\n  kvTokens: 5\n  kvTokens: 6\n  prefillSeconds: [1, 0, 0]\n  decodeSeconds: [1, 1, 0]\n",
            ":3: a.kvTokens: written on",
        ),
        ("a: 1\nb: 2\n", "not one profile under one name"),
        ("a: [\n", ":2: column 1: "),
        ("a: 5\n", ":1: a: 5 is not a mapping"),
    ],
)
def test_a_bad_profile_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(Refusal) as caught:
        profile_in(path)
    assert message in str(caught.value)


def test_a_word_is_a_built_in_unless_it_is_a_path(tmp_path: Path) -> None:
    assert find_profile("llama-3-8b-h100-tp1") == TRUE
    with pytest.raises(Refusal, match="did you mean"):
        find_profile("llama-3-8b-h100-tp2")
    with pytest.raises(Refusal, match="cannot be read: No such file"):
        find_profile(str(tmp_path / "none.yaml"))


def test_bad_rows_of_measurements_are_counted_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(rows() + "prefill,1,x,1\n")
    skipped = Skipped()
    assert len(read_measurements(path, skipped).samples[Role.PREFILL]) == 32
    assert skipped.rows == 1

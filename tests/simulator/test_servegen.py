"""Do the requests drawn from a rate table have its rates, its burstiness and its lengths?"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean, pvariance

import pytest

from autoscaler.simulator.replay import Slice
from autoscaler.simulator.trace_lines import Skipped, TraceError
from autoscaler.simulator.traces import measure, read_trace
from autoscaler.simulator.workload import Request

RATES = "client,window_start_s,rate_rps,cv,arrival_dist,param1,param2\n"
LENGTHS = "client,window_start_s,in_mean,in_p50,in_p90,in_p99,out_mean,out_p50,out_p90,out_p99\n"
CHATTER = "7,0,500,400,800,1200,60,50,90,120\n"
SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
REAL = SHARED / "servegen_m-large_client_rates.csv.gz"
needs_rates = pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL} (PDA_SHARED names the folder above traces)")


def table(folder: Path, rates: str, lengths: str = CHATTER) -> Path:
    (folder / "x_client_lengths.csv").write_text(LENGTHS + lengths)
    path = folder / "x_client_rates.csv"
    path.write_text(RATES + rates)
    return path


def requests(path: Path, part: Slice | None = None, seed: int = 1) -> list[Request]:
    return list(read_trace(path, Random(seed), part))


def counts(arrivals: Iterable[Request], bin_s: float, bins: int) -> list[int]:
    found = Counter(int(request.arrival_s // bin_s) for request in arrivals)
    return [found[place] for place in range(bins)]


def test_each_window_has_its_rate_and_a_missing_one_is_silent(tmp_path: Path) -> None:
    path = table(tmp_path, "7,0,1,1,Gamma,1,1\n7,1200,2,1,Gamma,1,1\n")
    assert counts(requests(path), 600.0, 3) == pytest.approx([600, 0, 1_200], rel=0.12)


def test_a_bursty_client_sends_no_more_than_its_rate_says(tmp_path: Path) -> None:
    """With c = 6 a window begun with a whole gap would have 17 requests too many, here a third more."""
    path = table(tmp_path, "7,0,0.1,6,Gamma,1,1\n")
    assert mean(len(requests(path, seed=seed)) for seed in range(300)) == pytest.approx(60, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("cv", "spread"), [(0.0, 0.0), (1.0, 1.0), (3.0, 9.0)])
def test_counts_spread_as_the_coefficient_of_variation_says(tmp_path: Path, cv: float, spread: float) -> None:
    """Variance over mean of a renewal process' counts approaches c^2."""
    path = table(tmp_path, "".join(f"7,{start_s},20,{cv},Gamma,1,1\n" for start_s in range(0, 6_000, 600)))
    found = counts(requests(path), 20.0, 300)
    assert pvariance(found) / mean(found) == pytest.approx(spread, rel=0.25, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.2, 2.5])
def test_scale_changes_the_rate_and_leaves_the_bursts_their_share(tmp_path: Path, scale: float) -> None:
    """What a count varies beyond Poisson, over its mean squared, does not depend on how many requests are kept."""
    path = table(tmp_path, "".join(f"7,{start_s},10,4,Gamma,1,1\n" for start_s in range(0, 12_000, 600)))
    found = counts(requests(path, Slice(scale=scale)), 20.0, 600)
    assert mean(found) == pytest.approx(200 * scale, rel=0.08)
    fano = pvariance(found) / mean(found)
    copies = -(-scale // 1)
    assert fano == pytest.approx(1 + scale / copies * 15, rel=0.3)


def test_lengths_go_through_the_median_and_the_ninetieth_percentile_and_end_at_the_99th(tmp_path: Path) -> None:
    drawn = requests(table(tmp_path, "7,0,15,1,Gamma,1,1\n"))
    prompts = sorted(request.prompt_tokens for request in drawn)
    outputs = sorted(request.output_tokens for request in drawn)
    assert prompts[len(prompts) // 2] == pytest.approx(400, rel=0.03)
    assert prompts[len(prompts) * 9 // 10] == pytest.approx(800, rel=0.03)
    assert outputs[len(outputs) // 2] == pytest.approx(50, rel=0.03)
    assert (prompts[-1], outputs[-1]) == (1_200, 120)
    assert {request.cached_tokens for request in drawn} == {0}


def test_lengths_change_with_their_own_windows(tmp_path: Path) -> None:
    later = CHATTER + "7,21600,9,9,9,9,1,1,1,1\n"
    path = table(tmp_path, "7,0,1,1,Gamma,1,1\n7,21600,1,1,Gamma,1,1\n", later)
    drawn = requests(path)
    assert {request.prompt_tokens for request in drawn if request.arrival_s >= 21_600} == {9}
    assert min(request.prompt_tokens for request in drawn if request.arrival_s < 21_600) > 9


def test_clients_without_lengths_are_left_out(tmp_path: Path) -> None:
    assert measure(table(tmp_path, "7,0,5,1,Gamma,1,1\n8,0,500,1,Gamma,1,1\n")).requests == 3_000


def test_a_part_begins_at_zero_inside_a_window_and_is_sorted_and_numbered(tmp_path: Path) -> None:
    path = table(tmp_path, "7,0,2,2,Gamma,1,1\n7,600,2,2,Gamma,1,1\n8,0,2,1,Gamma,1,1\n", CHATTER + CHATTER.replace("7", "8", 1))
    drawn = requests(path, Slice(300.0, 600.0))
    assert len(drawn) == pytest.approx(1_800, rel=0.2)
    assert [request.id for request in drawn] == list(range(len(drawn)))
    assert all(early.arrival_s <= late.arrival_s for early, late in pairwise(drawn))
    assert 0 <= drawn[0].arrival_s < drawn[-1].arrival_s < 600


def test_the_same_seed_gives_the_same_requests(tmp_path: Path) -> None:
    path = table(tmp_path, "7,0,5,3,Gamma,1,1\n")
    assert requests(path) == requests(path)
    assert requests(path) != requests(path, seed=2)


BAD = {
    "rate": ("7,0,-1,1,Gamma,1,1\n", CHATTER, "rates.csv line 2: rate_rps '-1' is not a number 0..1e+06"),
    "word": ("7,0,often,1,Gamma,1,1\n", CHATTER, "line 2: rate_rps 'often' is not a number 0..1e+06"),
    "nan": ("7,0,1,nan,Gamma,1,1\n", CHATTER, "line 2: cv 'nan' is not a number 0..10000"),
    "short": ("7,0\n", CHATTER, "line 2: rate_rps is missing, not a number"),
    "back": ("7,600,1,1,G,1,1\n7,0,1,1,G,1,1\n", CHATTER, "line 3: window_start_s '0' is not at least 600 after the one"),
    "lengths": ("7,0,1,1,G,1,1\n", "7,0,5,5,4,9,1,1,1,1\n", "lengths.csv line 2: in_p50 5, in_p90 4, in_p99 9 are not in rising"),
}


@pytest.mark.parametrize(("rates", "lengths", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_is_told_with_file_and_line(tmp_path: Path, rates: str, lengths: str, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        requests(table(tmp_path, rates, lengths))
    assert message in str(caught.value)


def test_bad_rows_can_be_counted_instead(tmp_path: Path) -> None:
    skipped = Skipped()
    path = table(tmp_path, "7,0,-1,1,Gamma,1,1\n7,600,1,1,Gamma,1,1\n")
    assert len(list(read_trace(path, Random(1), skipped=skipped))) == pytest.approx(600, rel=0.15)
    assert (skipped.rows, "line 2: rate_rps" in skipped.first) == (1, True)


def test_a_rate_table_needs_its_lengths(tmp_path: Path) -> None:
    path = table(tmp_path, "7,0,1,1,Gamma,1,1\n")
    (tmp_path / "x_client_lengths.csv").write_text("client,window_start_s\n")
    with pytest.raises(TraceError, match=r"lengths\.csv line 1: not the header of a ServeGen length table"):
        read_trace(path, Random(1))
    (tmp_path / "x_client_lengths.csv").unlink()
    with pytest.raises(TraceError, match="there is no length table beside it"):
        read_trace(path, Random(1))


def test_a_part_without_traffic_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no requests from 7000 s to 8000 s"):
        measure(table(tmp_path, "7,0,1,1,Gamma,1,1\n"), Slice(7_000, 1_000))


@needs_rates
@pytest.mark.slow
def test_the_real_table_has_the_published_lengths_and_share() -> None:
    """README of the traces: 195.8 requests/s in all, 62.7 % of them with lengths, 914 and 155 tokens."""
    found = measure(REAL)
    assert found.rate_rps == pytest.approx(195.8 * 0.627, rel=0.005)
    assert [found.prompt_tokens, found.output_tokens] == pytest.approx([914, 155], rel=0.01)


@needs_rates
@pytest.mark.slow
def test_a_real_hour_has_as_many_requests_as_the_table_says() -> None:
    part = Slice(8 * 86_400.0 + 36_000.0, 3_600.0, scale=0.1)
    drawn = requests(REAL, part)
    expected = measure(REAL, part)
    assert len(drawn) == pytest.approx(0.1 * expected.requests, rel=0.15)
    assert mean(request.prompt_tokens for request in drawn) == pytest.approx(expected.prompt_tokens, rel=0.1)


def test_packed_tables_are_read_too(tmp_path: Path) -> None:
    path = table(tmp_path, "7,0,5,1,Gamma,1,1\n")
    (tmp_path / "x_client_rates.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "x_client_lengths.csv.gz").write_bytes(gzip.compress((tmp_path / "x_client_lengths.csv").read_bytes()))
    assert requests(tmp_path / "x_client_rates.csv.gz") == requests(path)

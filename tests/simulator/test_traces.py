"""Are recorded traces read as they are, and refused with a line that helps when they are not?"""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from autoscaler.simulator.replay import Slice
from autoscaler.simulator.trace_lines import LONGEST_LINE, Skipped, TraceError
from autoscaler.simulator.traces import measure, read_trace
from autoscaler.simulator.workload import Request

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
AZURE_ROWS = AZURE + "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n"
SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
needs_traces = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no traces in {SHARED} (PDA_SHARED names the folder above it)")

WriteTrace = Callable[[str | bytes], Path]


@pytest.fixture
def trace(tmp_path: Path) -> WriteTrace:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "trace.any"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def requests(path: Path, part: Slice | None = None) -> list[Request]:
    return list(read_trace(path, Random(1), part))


def mooncake(*rows: tuple[int, int, int, list[int]]) -> str:
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def test_azure_rows_become_requests_from_time_zero(trace: WriteTrace) -> None:
    first, second = requests(trace(AZURE_ROWS))
    assert first == Request(0, 0.0, 374, 0, 44)
    assert second.arrival_s == pytest.approx(4.314579, abs=1e-6)
    assert (second.prompt_tokens, second.cached_tokens, second.output_tokens) == (396, 0, 109)


def test_the_format_is_told_by_content_and_gzip_by_its_magic(trace: WriteTrace) -> None:
    plain = requests(trace(AZURE_ROWS))
    assert requests(trace(gzip.compress(AZURE_ROWS.encode()))) == plain
    assert requests(trace(b"\xef\xbb\xbf\r\n" + AZURE_ROWS.encode())) == plain
    assert len(requests(trace(gzip.compress(mooncake((0, 10, 5, [1])).encode())))) == 1


def test_azure_columns_are_found_by_name(trace: WriteTrace) -> None:
    rows = "GeneratedTokens,Model,TIMESTAMP,ContextTokens\n44,x,2024-05-10 00:00:00.009930+00:00,374\n"
    assert requests(trace(rows)) == [Request(0, 0.0, 374, 0, 44)]


def test_no_generated_token_still_means_one(trace: WriteTrace) -> None:
    assert requests(trace(AZURE + "2023-11-16 18:15:46,374,0\n"))[0].output_tokens == 1


def test_mooncake_batches_are_spread_up_to_the_next_timestamp(trace: WriteTrace) -> None:
    path = trace(mooncake((3_000, 10, 1, []), (3_000, 10, 1, []), (3_000, 10, 1, []), (6_000, 10, 1, []), (6_000, 10, 1, [])))
    assert [request.arrival_s for request in requests(path)] == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.5])


def test_a_mooncake_batch_before_a_long_silence_is_still_one_batch(trace: WriteTrace) -> None:
    """Nobody came for ten minutes; the two before did not come five minutes apart."""
    path = trace(mooncake((0, 10, 1, []), (0, 10, 1, []), (600_000, 10, 1, []), (600_000, 10, 1, [])))
    assert [request.arrival_s for request in requests(path)] == pytest.approx([0.0, 2.5, 600.0, 602.5])


def test_mooncake_prefix_blocks_seen_before_are_cached(trace: WriteTrace) -> None:
    """Blocks of 512 tokens; only leading ones count, and the last token is always computed."""
    rows = [
        (0, 1_100, 5, [1, 2, 3]),  # nothing seen before
        (1, 1_100, 5, [1, 2, 4]),  # two leading blocks
        (2, 1_100, 5, [9, 2, 4]),  # the first block is new, so the others are of no use
        (3, 1_024, 5, [1, 2]),  # all of it: one token is computed
    ]
    assert [request.cached_tokens for request in requests(trace(mooncake(*rows)))] == [0, 1_024, 0, 1_023]


def test_a_slice_starts_at_zero_and_keeps_the_cache_of_what_came_before(trace: WriteTrace) -> None:
    path = trace(mooncake((0, 600, 5, [1, 2]), (10_000, 600, 5, [1, 2]), (20_000, 600, 5, [1, 2])))
    (only,) = requests(path, Slice(start_s=5.0, duration_s=10.0))
    assert (only.arrival_s, only.cached_tokens) == (5.0, 599)


def test_mooncake_blocks_go_along_with_their_request(trace: WriteTrace) -> None:
    path = trace(mooncake((0, 1_100, 5, [1, 2, 3]), (1, 10, 5, [])))
    assert [request.blocks for request in requests(path)] == [(1, 2, 3), ()]


PLAIN = "timestamp,prompt_tokens,output_tokens\n"


def test_plain_rows_have_seconds_or_dates_and_may_tell_what_was_cached(trace: WriteTrace) -> None:
    seconds = requests(trace(PLAIN + "1000.5,300,20\n1002,100,0\n"))
    assert seconds == [Request(0, 0.0, 300, 0, 20), Request(1, 1.5, 100, 0, 1)]
    dates = requests(trace(PLAIN + "2025-01-01T00:00:00Z,300,20\n2025-01-01 00:00:01.5+00:00,100,0\n"))
    assert dates == seconds
    cached = requests(trace("cached_tokens,output_tokens,prompt_tokens,timestamp\n100,5,300,0\n300,5,300,1e1\n"))
    assert [(request.arrival_s, request.cached_tokens) for request in cached] == [(0.0, 100), (10.0, 299)]


def test_bad_rows_are_skipped_only_when_asked_and_then_counted(trace: WriteTrace) -> None:
    """A refused row leaves nothing behind: neither its time nor its blocks."""
    rows = PLAIN + "0,10,1\n99,x,1\n5,10,1\n4,10,1\n6,10\n7,10,1\n"
    skipped = Skipped()
    assert [request.arrival_s for request in read_trace(trace(rows), Random(1), skipped=skipped)] == [0, 5, 7]
    assert (skipped.rows, skipped.first.endswith("line 3: prompt_tokens 'x' is not a whole number 1..10000000")) == (3, True)
    blocks = mooncake((0, 600, 1, [1])) + '{"timestamp": 9000, "input_length": 0, "hash_ids": [2]}\n' + mooncake((1, 600, 1, [2]))
    assert [request.cached_tokens for request in read_trace(trace(blocks), Random(1), skipped=Skipped())] == [0, 0]


def test_a_file_that_breaks_off_is_never_skipped_over(trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match="broken gzip"):
        list(read_trace(trace(gzip.compress(AZURE_ROWS.encode())[:-20]), Random(1), skipped=Skipped()))


@pytest.mark.slow
def test_a_trace_streams(trace: WriteTrace) -> None:
    """15,000 requests, which would take 1.5 MB and more if they were held."""
    path = trace(PLAIN + "".join(f"{number},1000,100\n" for number in range(10_000)))
    tracemalloc.start()
    count = sum(1 for _ in read_trace(path, Random(1), Slice(scale=1.5)))
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == pytest.approx(15_000, rel=0.05)
    assert highest < 500_000


def test_measure_tells_what_is_in_a_trace(trace: WriteTrace) -> None:
    found = measure(trace(AZURE_ROWS))
    assert (found.requests, found.prompt_tokens, found.output_tokens) == (2, 385.0, 76.5)
    assert found.rate_rps == pytest.approx(2 / 4.314579, rel=1e-6)


GOOD = "2023-11-16 18:15:46.6805900"
BAD_ROWS = {
    "word for a count": (AZURE + f"{GOOD},374,x\n", "line 2: GeneratedTokens 'x' is not a whole number 0..10000000"),
    "negative": (AZURE + f"{GOOD},374,-1\n", "line 2: GeneratedTokens '-1' is not a whole number 0..10000000"),
    "fraction": (AZURE + f"{GOOD},3.5,1\n", "line 2: ContextTokens '3.5' is not a whole number 1..10000000"),
    "empty prompt": (AZURE + f"{GOOD},0,1\n", "line 2: ContextTokens '0' is not a whole number 1..10000000"),
    "huge": (AZURE + f"{GOOD},{'9' * 5_000},1\n", f"line 2: ContextTokens '{'9' * 36}... is not a whole number 1..10000000"),
    "short row": (AZURE + f"{GOOD},374\n", "line 2: GeneratedTokens is missing, not a whole number 0..10000000"),
    "bad time": (AZURE + "\nyesterday,374,1\n", "line 3: TIMESTAMP 'yesterday' is not a time like 2023-11-16 18:15:46.6805900"),
    "back in time": (
        AZURE + f"{GOOD},374,1\n2023-11-16 18:15:46.0,1,1\n",
        "line 3: TIMESTAMP '2023-11-16 18:15:46.0' is not at or after the one before it",
    ),
    "no header": (f"{GOOD},374,1\n", f"line 1: '{GOOD},374,1' begins neither a Mooncake trace (a JSON object) nor an Azure one"),
    "broken json": (mooncake((0, 1, 1, [])) + '{"timestamp": 1,\n', "line 2: '{\"timestamp\": 1,' is not a JSON object"),
    "json list": (mooncake((0, 1, 1, [])) + "[1]\n", "line 2: '[1]' is not a JSON object"),
    "deep json": ("{" + "[" * 50_000 + "\n", "line 1: '{[[[[[["),
    "boolean": (mooncake((0, True, 1, [])), "line 1: input_length True is not a whole number 1..10000000"),
    "missing field": ('{"timestamp": 0, "output_length": 1}\n', "line 1: input_length is missing, not a whole number"),
    "negative ms": (mooncake((-1, 1, 1, [])), "line 1: timestamp -1 is not a number of milliseconds >= 0"),
    "nan ms": (
        '{"timestamp": NaN, "input_length": 1, "output_length": 1}\n',
        "line 1: timestamp nan is not a number of milliseconds",
    ),
    "ms back": (mooncake((5, 1, 1, []), (4, 1, 1, [])), "line 2: timestamp 4 is not at or after the one before it"),
    "bad blocks": (mooncake((0, 1, 1, ["a"])), "line 1: hash_ids ['a'] is not a list of whole numbers"),  # type: ignore[list-item]
    "cached": (
        "timestamp,prompt_tokens,output_tokens,cached_tokens\n0,5,1,6\n",
        "line 2: cached_tokens '6' is not within the prompt (0..5)",
    ),
    "plain time": (PLAIN + "noon,5,1\n", "line 2: timestamp 'noon' is not a date and time, or seconds 0..1e+11"),
    "plain back": (PLAIN + "5,5,1\n4,5,1\n", "line 3: timestamp '4' is not at or after the one before it"),
    "infinite": (PLAIN + "inf,5,1\n", "line 2: timestamp 'inf' is not a date and time, or seconds"),
    "quotes": (PLAIN + '0,"5,1\n', "line 2: not a row of csv: unexpected end of data"),
    "empty": ("", "trace.any: no requests in it"),
    "blank": ("\n \n", "trace.any: no requests in it"),
    "header only": (AZURE, "trace.any: no requests in it"),
    "latin": (AZURE.encode() + b"\xe9\n", "line 2: not UTF-8 text"),
    "endless line": (b"x" * LONGEST_LINE, f"line 1: longer than {LONGEST_LINE} bytes"),
    "cut gzip": (gzip.compress(AZURE_ROWS.encode())[:30], "line 1: broken gzip: Compressed file ended before"),
    "wrong gzip": (b"\x1f\x8bnot really", "line 1: broken gzip: "),
}


@pytest.mark.parametrize(("content", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_what_cannot_be_read_is_told_in_one_line(trace: WriteTrace, content: str | bytes, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        measure(trace(content))
    assert message in str(caught.value)
    assert "trace.any" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: cannot be read: No such file or directory"):
        read_trace(tmp_path / "none.csv", Random(1))
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        read_trace(tmp_path, Random(1))


def test_an_empty_part_of_a_trace_is_told(trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match="no requests from 100 s to 160 s"):
        measure(trace(AZURE_ROWS), Slice(100.0, 60.0))


@needs_traces
@pytest.mark.slow  # half a second, most of it to unpack and parse 40,216 rows
@pytest.mark.parametrize(
    ("name", "count", "prompt_tokens", "output_tokens"),
    [
        ("AzureLLMInferenceTrace_2023_conv.csv.gz", 19_366, 1_155, 211),
        ("AzureLLMInferenceTrace_2023_code.csv.gz", 8_819, 2_048, 27.9),
        ("mooncake_fast25_conversation_trace.jsonl.gz", 12_031, 12_035, 343),
    ],
)
def test_real_traces_measure_as_published(name: str, count: int, prompt_tokens: float, output_tokens: float) -> None:
    found = measure(SHARED / name)
    assert found.requests == count
    assert found.prompt_tokens == pytest.approx(prompt_tokens, rel=1e-3)
    assert found.output_tokens == pytest.approx(output_tokens, rel=2e-3)

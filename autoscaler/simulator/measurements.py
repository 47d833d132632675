"""What was measured on a replica?

As csv, one row per measured prompt or batch, .gz too, columns in any order, others left alone:

    role,requests,tokens,seconds
    prefill,1,2048,0.0385          one prompt of 2,048 uncached tokens, alone
    decode,32,65536,0.0121         one step of 32 requests that hold 65,536 tokens together

or as a folder with the grids of Dynamo's profiler (prefill.npz, decode.npz; milliseconds):

    prefill_isl, prefill_ttft                                tokens of a prompt, time to its first token
    x_kv_usage, y_context_length, z_itl, max_kv_tokens       share of the KV cache in use, tokens per request, step time

There B = usage x max_kv_tokens / context length. Grids are read without pickles: a file cannot bring code along.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from autoscaler.core.fleet import Role
from autoscaler.refusal import Refusal
from autoscaler.simulator.csv_traces import row_of
from autoscaler.simulator.trace_lines import MOST_TOKENS, Skipped, filled_lines, made, told

FIELDS = ("role", "requests", "tokens", "seconds")
LONGEST_S = 3_600.0
MOST_POINTS = 1_000_000
_GRIDS: Mapping[str, tuple[str, ...]] = {
    "prefill.npz": ("prefill_isl", "prefill_ttft"),
    "decode.npz": ("x_kv_usage", "y_context_length", "z_itl", "max_kv_tokens"),
}
Grid = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured time. `tokens` are those of all requests together; `where` tells where it was read."""

    where: str
    requests: float
    tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """Samples of each role, and the tokens that one replica holds where that was measured too."""

    source: str
    samples: Mapping[Role, tuple[Sample, ...]]
    kv_tokens: int | None = None


def read_measurements(path: Path, skipped: Skipped | None = None) -> Measurements:
    """Read a csv file or a folder of grids. Raises Refusal with file, line (or point), field, value and what is allowed."""
    return _grids(path) if path.is_dir() else _csv(path, skipped)


def _csv(path: Path, skipped: Skipped | None) -> Measurements:
    lines = filled_lines(path)
    header = [name.strip() for name in next(lines, (0, ""))[1].split(",")]
    if not set(FIELDS) <= set(header):
        raise Refusal(f"{path} line 1: {told(','.join(header))} is not the header of measurements ({','.join(FIELDS)})")
    rows = list(made(lines, partial(_sample, path, header), skipped))
    return Measurements(path.name, {role: tuple(sample for other, sample in rows if other is role) for role in Role})


def _sample(path: Path, header: list[str], number: int, line: str) -> tuple[Role, Sample]:
    row = row_of(path, header, number, line)
    name = row.fields.get("role")
    if name not in {role.value for role in Role}:
        raise row.wrong("role", "one of " + ", ".join(role.value for role in Role))
    requests = row.number("requests", 1, 65_536)
    tokens = row.number("tokens", requests, 1e9)
    return Role(str(name)), Sample(row.where, requests, tokens, row.number("seconds", 1e-6, LONGEST_S))


def _grids(folder: Path) -> Measurements:
    prefill, decode = (_grid(folder / name, fields) for name, fields in _GRIDS.items())
    kv_tokens = decode["max_kv_tokens"][0]
    if not 1 <= kv_tokens <= 1e9:
        raise Refusal(f"{folder / 'decode.npz'}: max_kv_tokens {kv_tokens:g} is not a number 1..1e+09")
    prompts = zip(prefill["prefill_isl"], prefill["prefill_ttft"], strict=True)
    steps = zip(decode["x_kv_usage"], decode["y_context_length"], decode["z_itl"], strict=True)
    samples = {
        Role.PREFILL: tuple(_points(folder / "prefill.npz", ((1.0, tokens, ms) for tokens, ms in prompts))),
        Role.DECODE: tuple(_points(folder / "decode.npz", (_step(*step, kv_tokens) for step in steps))),
    }
    return Measurements(folder.name, samples, int(kv_tokens))


def _step(usage: float, context_tokens: float, ms: float, kv_tokens: float) -> tuple[float, float, float]:
    """(requests, tokens, milliseconds); NaN requests, refused later, where the context is no length or outgrows the cache."""
    tokens = usage * kv_tokens
    return tokens / context_tokens if 0 < context_tokens <= kv_tokens else float("nan"), tokens, ms


def _points(path: Path, points: Iterator[tuple[float, float, float]]) -> Iterator[Sample]:
    for place, (requests, tokens, ms) in enumerate(points):
        if not requests > 0:
            raise Refusal(f"{path} point {place}: its context length is not within 1..max_kv_tokens, or nothing is in use")
        if not 0 < tokens <= max(MOST_TOKENS, 1e9) or not 1e-3 <= ms <= LONGEST_S * 1000:
            raise Refusal(f"{path} point {place}: {tokens:g} tokens in {ms:g} ms (allowed: 1..1e+09 in 0.001..3600000)")
        yield Sample(f"{path} point {place}", requests, tokens, ms / 1000)


def _grid(path: Path, fields: tuple[str, ...]) -> Grid:
    """The named arrays of a file, flat; all but max_kv_tokens of one length."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], dtype=np.float64).ravel() for name in fields}
    except KeyError as error:
        raise Refusal(f"{path}: has no {error.args[0]} ({', '.join(fields)} are read)") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refusal(f"{path}: cannot be read as arrays: {getattr(error, 'strerror', None) or error}") from None
    sizes = {len(array) for name, array in arrays.items() if name != "max_kv_tokens"}
    if len(sizes) != 1 or not 1 <= max(sizes) <= MOST_POINTS or any(len(array) == 0 for array in arrays.values()):
        raise Refusal(f"{path}: {', '.join(fields[:-1])} have no common length of 1..{MOST_POINTS}")
    return {name: array.tolist() for name, array in arrays.items()}

"""How far is the timing model from what was measured on real GPUs?

aiconfigurator publishes end-to-end measurements: prompts of `isl` tokens, answers of `osl`, B requests in flight all the
time, mean TTFT and TPOT. The rows used are those of replicas that do both phases (mode "agg"). There each decode step
of B requests is held up by the prefills that keep them coming: in the osl steps of an answer B prompts are prefilled, so

    tpot = b0 + b1 B + b2 B (isl + osl/2) + a1 B isl / osl

with the coefficients of core/capacity.py (a2 is too small to tell at two prompt lengths). Two questions:

    form       rows of one setting (system, model, engine, precision, parallelism) are fitted on one half and predicted
               on the other, picked by turns in order of load: can the model describe this replica at all?
    built-in   a profile that ships predicts rows of its own model, precision and GPUs, whatever the engine: how wrong is
               somebody who measures nothing?

TTFT is told too, and is not the model's alone to explain: B clients that come back at once queue for prefill. With four
of them at most a prompt is predicted as b0 + a1 isl, as if it were alone; what is missing is waiting and scheduling.
Rows of disaggregated fleets are left out: their batch is that of a benchmark's clients, spread over workers unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from autoscaler.policy import replica_profile
from autoscaler.simulator.csv_traces import row_of
from autoscaler.simulator.profile_fit import robust_fit
from autoscaler.simulator.trace_lines import Row, TraceError, filled_lines, made

SETTING = ("system", "model_path", "backend", "precision", "tp_size", "pp_size", "attention_dp_size", "moe_ep_size")
FEWEST = 10  # rows of a setting: five to fit four coefficients, five to predict
CALM = 4  # requests in flight at which a TTFT is still mostly the prompt's own prefill
META_8B, NVIDIA_8B = "meta-llama/Llama-3.1-8B-Instruct", "nvidia/Llama-3.1-8B-Instruct-FP8"
BUILT_INS: Sequence[tuple[str, Mapping[str, str]]] = (  # an empty precision is bf16
    ("llama-3-8b-h100-tp1", {"model_path": META_8B, "system": "h100_sxm", "tp_size": "1", "precision": ""}),
    ("llama-3.1-8b-fp8-h200-tp1", {"model_path": META_8B, "system": "h200_sxm", "tp_size": "1", "precision": "fp8"}),
    ("llama-3.1-8b-fp8-h200-tp1", {"model_path": NVIDIA_8B, "system": "h200_sxm", "tp_size": "1", "precision": "fp8"}),
)


class Measured(NamedTuple):
    """One measured row: its setting, tokens, requests in flight, and seconds."""

    setting: tuple[str, ...]
    prompt_tokens: float
    output_tokens: float
    requests: float
    ttft_s: float
    tpot_s: float

    def columns(self) -> tuple[float, float, float, float]:
        """What b0, b1, b2 and a1 are multiplied with."""
        kv_tokens = self.requests * (self.prompt_tokens + self.output_tokens / 2)
        return 1.0, self.requests, kv_tokens, self.requests * self.prompt_tokens / self.output_tokens


@dataclass(frozen=True, slots=True)
class Agreement:
    """How predictions stand to measurements, over `rows` predicted rows of `settings` settings.

    `tpot_median`, `tpot_p90`: |predicted / measured - 1|; `tpot_bias` and `ttft_bias`: medians of predicted / measured - 1,
    the latter over rows of at most four requests in flight (None: there are none).
    """

    what: str
    settings: int
    rows: int
    tpot_median: float
    tpot_p90: float
    tpot_bias: float
    ttft_bias: float | None


class _Errors(NamedTuple):
    tpot: list[float]
    ttft: list[float]


def form_errors(path: Path) -> list[Agreement]:
    """Per system, how well the model's form describes rows it was not fitted to. Raises TraceError for a bad row."""
    settings: dict[tuple[str, ...], list[Measured]] = defaultdict(list)
    for row in _rows(path):
        settings[row.setting].append(row)
    systems: dict[str, list[_Errors]] = defaultdict(list)
    for setting, rows in settings.items():
        if len(rows) >= FEWEST:
            systems[setting[0]].append(_held_out(sorted(rows)))
    return [_agreement(system, errors) for system, errors in sorted(systems.items())]


def built_in_errors(path: Path) -> list[Agreement]:
    """Per built-in profile, and engine, how far its predictions are from the rows of its own model and GPUs."""
    rows = list(_rows(path))
    found = []
    for name, wanted in BUILT_INS:
        engines: dict[str, list[Measured]] = defaultdict(list)
        for row in rows:
            told = dict(zip(SETTING, row.setting, strict=True))
            if wanted.items() <= told.items():
                engines[told["backend"]].append(row)
        profile = replica_profile(name)
        coefficients = (*profile.decode_s, profile.prefill_s[1])
        found += [_agreement(f"{name} on {engine}", [_errors(mine, coefficients)]) for engine, mine in sorted(engines.items())]
    return found


def _held_out(rows: Sequence[Measured]) -> _Errors:
    """Fit every second row, predict the others."""
    known, asked = rows[::2], rows[1::2]
    fit = robust_fit([row.columns() for row in known], [row.tpot_s for row in known])
    return _errors(asked, fit.coefficients)


def _errors(rows: Sequence[Measured], coefficients: Sequence[float]) -> _Errors:
    tpot = [_dot(coefficients, row.columns()) / row.tpot_s - 1 for row in rows]
    b0, *_, a1 = coefficients
    ttft = [(b0 + a1 * row.prompt_tokens) / row.ttft_s - 1 for row in rows if row.requests <= CALM]
    return _Errors(tpot, ttft)


def _agreement(what: str, parts: Sequence[_Errors]) -> Agreement:
    tpot = [error for part in parts for error in part.tpot]
    ttft = [error for part in parts for error in part.ttft]
    sizes = [abs(error) for error in tpot]
    calm = median(ttft) if ttft else None
    return Agreement(what, len(parts), len(tpot), median(sizes), quantiles(sizes, n=10)[-1], median(tpot), calm)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _rows(path: Path) -> Iterator[Measured]:
    """The rows of replicas that do both phases."""
    lines = filled_lines(path)
    header = next(lines, (0, ""))[1].split(",")
    if not {*SETTING, "mode", "silicon_tpot_ms"} <= set(header):
        raise TraceError(f"{path} line 1: not the header of aiconfigurator's measured rows")
    for row in made(lines, partial(row_of, path, header), None):
        if row.fields["mode"] == "agg":
            yield _measured(row)


def _measured(row: Row) -> Measured:
    setting = tuple(str(row.fields[name]) for name in SETTING)
    tokens = (row.number(name, 1, 1e7) for name in ("isl", "osl", "batch_size"))
    seconds = (row.number(name, 1e-3, 1e9) / 1000 for name in ("silicon_ttft_ms", "silicon_tpot_ms"))
    return Measured(setting, *tokens, *seconds)

"""How far is the timing model from what was measured on real GPUs?

aiconfigurator publishes end-to-end measurements: prompts of `isl` tokens, answers of `osl`, B requests in flight all the
time, mean TTFT and TPOT. The rows used are those of replicas that do both phases (mode "agg"). There each decode step
of B requests is held up by the prefills that keep them coming: in the osl steps of an answer B prompts are prefilled, so

    tpot = b0 + b1 B + b2 B (isl + osl/2) + a1 B isl / osl
    ttft = a0 + a1 isl                                          of at most four in flight, as if each prompt were alone

with the coefficients of core/capacity.py (a2 is too small to tell at two prompt lengths), and one a1 for both: what a
prompt's token costs the prompt itself is what it costs those it holds up. Two questions:

    form       of the loads of one setting (system, model, engine, precision, parallelism) each fifth is predicted from
               the other four; fifths are taken by turns in order of load, and five is no multiple of the two to four
               pairs of lengths that most settings have. Can the model describe this replica at all?
    built-in   a profile that ships predicts loads of its own model, precision and GPUs, whatever the engine: how wrong is
               somebody who measures nothing?

One load is one measurement: the file has many of them two to four times over, from one published table or another, and
a row must not be predicted by its own copy. The median stands for them: 3,619 rows are 2,882 loads.

TTFT holds what no operator table knows (tokenizer, HTTP, a scheduler's pass): that is in a0 once somebody measures, and
missing from a built-in profile. Above four in flight clients that come back at once queue for prefill; that is left out.
So are rows of disaggregated fleets: their batch is that of a benchmark's clients, spread over workers unknown.
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
FOLDS = 5
FEWEST = 10  # loads of a setting: eight to fit five coefficients, two to predict
CALM = 4  # requests in flight at which a TTFT is still mostly the prompt's own prefill
META_8B, NVIDIA_8B = "meta-llama/Llama-3.1-8B-Instruct", "nvidia/Llama-3.1-8B-Instruct-FP8"
BUILT_INS: Sequence[tuple[str, Mapping[str, str]]] = (  # an empty precision is bf16
    ("llama-3-8b-h100-tp1", {"model_path": META_8B, "system": "h100_sxm", "tp_size": "1", "precision": ""}),
    ("llama-3.1-8b-fp8-h200-tp1", {"model_path": META_8B, "system": "h200_sxm", "tp_size": "1", "precision": "fp8"}),
    ("llama-3.1-8b-fp8-h200-tp1", {"model_path": NVIDIA_8B, "system": "h200_sxm", "tp_size": "1", "precision": "fp8"}),
)


class Load(NamedTuple):
    """What was asked of a replica, lightest first: requests in flight, and their tokens."""

    requests: float
    prompt_tokens: float
    output_tokens: float

    def tpot_columns(self) -> tuple[float, ...]:
        """What a0, a1, b0, b1 and b2 are multiplied with."""
        kv_tokens = self.requests * (self.prompt_tokens + self.output_tokens / 2)
        return 0.0, self.requests * self.prompt_tokens / self.output_tokens, 1.0, self.requests, kv_tokens

    def ttft_columns(self) -> tuple[float, ...]:
        """The same of a prompt that is alone."""
        return 1.0, self.prompt_tokens, 0.0, 0.0, 0.0


class Measured(NamedTuple):
    """One load and the seconds that were measured."""

    load: Load
    ttft_s: float
    tpot_s: float

    @property
    def calm(self) -> bool:
        """Few enough in flight for a TTFT to be mostly the prompt's own."""
        return self.load.requests <= CALM


@dataclass(frozen=True, slots=True)
class Agreement:
    """How predictions stand to measurements, over `rows` predicted loads of `settings` settings.

    `tpot_median`, `tpot_p90`, `ttft_median`: |predicted / measured - 1|; `tpot_bias` and `ttft_bias`: medians of
    predicted / measured - 1. Those of TTFT are over `ttft_rows` loads of at most four requests in flight (None: of none).
    """

    what: str
    settings: int
    rows: int
    tpot_median: float
    tpot_p90: float
    tpot_bias: float
    ttft_rows: int
    ttft_median: float | None
    ttft_bias: float | None


class _Errors(NamedTuple):
    tpot: list[float]
    ttft: list[float]


def form_errors(path: Path) -> list[Agreement]:
    """Per system, how well the model's form describes loads it was not fitted to. Raises TraceError for a bad row."""
    systems: dict[str, list[_Errors]] = defaultdict(list)
    for setting, loads in _settings(path).items():
        if len(loads) >= FEWEST:
            systems[setting[0]].append(_held_out(loads))
    return [_agreement(system, errors) for system, errors in sorted(systems.items())]


def built_in_errors(path: Path) -> list[Agreement]:
    """Per built-in profile, and engine, how far its predictions are from the loads of its own model and GPUs."""
    settings = _settings(path)
    found = []
    for name, wanted in BUILT_INS:
        profile = replica_profile(name)
        coefficients = (*profile.prefill_s[:2], *profile.decode_s)
        engines: dict[str, list[_Errors]] = defaultdict(list)
        for setting, loads in settings.items():
            told = dict(zip(SETTING, setting, strict=True))
            if wanted.items() <= told.items():
                engines[told["backend"]].append(_errors(loads, coefficients))
        found += [_agreement(f"{name} on {engine}", errors) for engine, errors in sorted(engines.items())]
    return found


def _held_out(loads: Sequence[Measured]) -> _Errors:
    """Predict each fifth from the others. No TTFT where none was there to fit."""
    found = _Errors([], [])
    for fold in range(FOLDS):
        known = [one for at, one in enumerate(loads) if at % FOLDS != fold]
        calm = [one for one in known if one.calm]
        columns = [one.load.tpot_columns() for one in known] + [one.load.ttft_columns() for one in calm]
        fit = robust_fit(columns, [one.tpot_s for one in known] + [one.ttft_s for one in calm])
        errors = _errors(loads[fold::FOLDS], fit.coefficients)
        found.tpot.extend(errors.tpot)
        found.ttft.extend(errors.ttft if calm else ())
    return found


def _errors(loads: Sequence[Measured], coefficients: Sequence[float]) -> _Errors:
    tpot = [_dot(coefficients, one.load.tpot_columns()) / one.tpot_s - 1 for one in loads]
    ttft = [_dot(coefficients, one.load.ttft_columns()) / one.ttft_s - 1 for one in loads if one.calm]
    return _Errors(tpot, ttft)


def _agreement(what: str, parts: Sequence[_Errors]) -> Agreement:
    tpot = [error for part in parts for error in part.tpot]
    ttft = [error for part in parts for error in part.ttft]
    sizes = [abs(error) for error in tpot]
    return Agreement(
        what,
        settings=len(parts),
        rows=len(tpot),
        tpot_median=median(sizes),
        tpot_p90=quantiles(sizes, n=10)[-1],
        tpot_bias=median(tpot),
        ttft_rows=len(ttft),
        ttft_median=median(map(abs, ttft)) if ttft else None,
        ttft_bias=median(ttft) if ttft else None,
    )


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _settings(path: Path) -> dict[tuple[str, ...], list[Measured]]:
    """The loads of each setting, lightest first."""
    rows: dict[tuple[str, ...], dict[Load, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for setting, row in _rows(path):
        rows[setting][row.load].append(row)
    return {setting: [_one(load, same) for load, same in sorted(loads.items())] for setting, loads in rows.items()}


def _one(load: Load, same: Sequence[Measured]) -> Measured:
    return Measured(load, median(row.ttft_s for row in same), median(row.tpot_s for row in same))


def _rows(path: Path) -> Iterator[tuple[tuple[str, ...], Measured]]:
    """The rows of replicas that do both phases, each with its setting."""
    lines = filled_lines(path)
    header = next(lines, (0, ""))[1].split(",")
    if not {*SETTING, "mode", "silicon_tpot_ms"} <= set(header):
        raise TraceError(f"{path} line 1: not the header of aiconfigurator's measured rows")
    for row in made(lines, partial(row_of, path, header), None):
        if row.fields["mode"] == "agg":
            yield tuple(str(row.fields[name]) for name in SETTING), _measured(row)


def _measured(row: Row) -> Measured:
    tokens = (row.number(name, 1, 1e7) for name in ("batch_size", "isl", "osl"))
    seconds = (row.number(name, 1e-3, 1e9) / 1000 for name in ("silicon_ttft_ms", "silicon_tpot_ms"))
    return Measured(Load(*tokens), *seconds)

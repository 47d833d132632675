"""Which replica profile explains these measurements, and how well?

Prefill of n uncached tokens is to take a0 + a1 n + a2 n^2 seconds, a decode step of B requests that hold K tokens
b0 + b1 B + b2 K (core/capacity.py). Coefficients come from least squares on *relative* errors, since 2 ms too much on a
step of 10 ms is as bad as 200 ms on a prompt of a second, and robustly: an error beyond 1.345 typical ones counts with
its size, not with its square (Huber; the typical one is the median absolute error / 0.6745), so that a compile stall or a
cold first step among the rows does not bend the curve. A measured replica never gets faster with more load, so no
coefficient may be negative: of the seven choices of columns with only positive coefficients, the one with the least loss
is taken. Three columns make that exact and cheap.

The errors are told as they are, over all rows, stalls included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.policy.fields import dotted, objections
from autoscaler.policy.profiles import ProfileSpec
from autoscaler.refusal import Refusal
from autoscaler.simulator.measurements import Measurements, Sample

Floats = NDArray[np.float64]

FEWEST = 4  # one more than there are coefficients
HUBER = 1.345
ROUNDS = 30
LEAST_SECONDS = 1e-6
NOTHING = 1e-9  # a share of a measured time that is rounding, not a coefficient
_FIELDS: Mapping[Sizing, str] = {Sizing.QUEUE: "prefillSeconds", Sizing.BATCH: "decodeSeconds"}
_COLUMNS: Mapping[Sizing, Callable[[Sample], tuple[float, float, float]]] = {
    Sizing.QUEUE: lambda sample: (1.0, sample.tokens, sample.tokens**2),
    Sizing.BATCH: lambda sample: (1.0, sample.requests, sample.tokens),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients, none negative, and the relative errors |fitted / measured - 1| over `rows` rows."""

    coefficients: tuple[float, ...]
    rows: int
    mean_error: float
    max_error: float


@dataclass(frozen=True, slots=True)
class FittedProfile:
    """A valid profile and how well each role's times are explained by it."""

    spec: ProfileSpec
    fits: Mapping[Role, Fit]

    def yaml(self, source: str) -> str:
        """The profile as replica_profiles/*.yaml have it, its errors beside it."""
        spec = self.spec
        lines = [f"# Fitted to {source}; mean / max are relative errors over all rows.", f"{spec.name}:"]
        for role, fit in self.fits.items():
            numbers = ", ".join(f"{value:.6g}" for value in fit.coefficients)
            errors = f"mean / max {fit.mean_error:.1%} / {fit.max_error:.1%} over {fit.rows} rows"
            lines.append(f"  {_FIELDS[ROLE_FACTS[role].sizing]}: [{numbers}] # {errors}")
        told = "" if "kv_bytes_per_token" in spec.model_fields_set else " # assumed: times do not tell it"
        lines += [f"  kvTokens: {spec.kv_tokens}", f"  kvBytesPerToken: {spec.kv_bytes_per_token}{told}"]
        return "\n".join(lines) + "\n"


def fit_profile(
    found: Measurements, name: str, kv_tokens: int | None = None, kv_bytes_per_token: int | None = None
) -> FittedProfile:
    """The profile of these measurements. `kv_tokens` where they do not tell it themselves.

    Raises Refusal for too few rows, for measurements that do not fit into `kv_tokens`, and for a profile out of range.
    """
    room = found.kv_tokens if kv_tokens is None else kv_tokens
    if room is None:
        raise Refusal(f"{found.source}: nothing in it tells how many tokens one replica holds; give --kv-tokens")
    _refuse_too_large(found.samples[Role.DECODE], room)
    fits = {role: _fit(found, role) for role in found.samples}
    written: dict[str, object] = {"name": name, "kvTokens": room}
    written |= {_FIELDS[ROLE_FACTS[role].sizing]: fit.coefficients for role, fit in fits.items()}
    if kv_bytes_per_token is not None:
        written["kvBytesPerToken"] = kv_bytes_per_token
    try:
        spec = ProfileSpec.model_validate(written)
    except ValidationError as error:
        lines = (f"{found.source}: fitted {dotted(one.path)}: {one.text}" for one in objections(error, ProfileSpec))
        raise Refusal("\n".join(lines)) from error
    return FittedProfile(spec, fits)


def robust_fit(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> Fit:
    """Non-negative coefficients for rows of columns, by Huber's loss of the relative errors. `seconds` are above 0."""
    measured = np.asarray(seconds, dtype=np.float64)
    relative = np.asarray(columns, dtype=np.float64) / measured[:, None]
    places = range(relative.shape[1])
    solved = (_solve(relative, chosen) for size in range(1, len(places) + 1) for chosen in combinations(places, size))
    _, best = min((loss, tuple(found)) for loss, found in solved if min(found) >= 0)  # one column alone is never negative
    errors = np.abs(relative @ np.asarray(best) - 1)
    return Fit(best, len(measured), float(errors.mean()), float(errors.max()))


def _solve(relative: Floats, chosen: tuple[int, ...]) -> tuple[float, list[float]]:
    """(Huber's loss, coefficients) with the other columns left out, by iteratively reweighted least squares."""
    rows = relative[:, chosen]
    weights: Floats = np.ones(len(rows))
    found: Floats = np.zeros(len(chosen))
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        before = found
        found = np.asarray(np.linalg.lstsq(rows * root[:, None], root)[0], dtype=np.float64)
        errors = np.abs(rows @ found - 1)
        typical = max(1e-9, float(np.median(errors)) / 0.6745)
        weights = np.minimum(1.0, HUBER * typical / np.maximum(errors, 1e-12))
        if np.allclose(found, before, rtol=1e-9, atol=0):
            break
    everywhere = np.zeros(relative.shape[1])
    everywhere[list(chosen)] = np.where(np.abs(found) * rows.max(axis=0) < NOTHING, 0.0, found)
    return float(_huber(errors).sum()), everywhere.tolist()


def _huber(errors: Floats, corner: float = 0.1) -> Floats:
    """One loss for all choices of columns, so that they can be held against each other: square up to 10 %, then linear."""
    return np.where(errors <= corner, errors**2, corner * (2 * errors - corner))


def _fit(found: Measurements, role: Role) -> Fit:
    samples = found.samples[role]
    if len(samples) < FEWEST:
        raise Refusal(f"{found.source}: {len(samples)} rows of {role}, which is below {FEWEST}: three coefficients and a check")
    column = _COLUMNS[ROLE_FACTS[role].sizing]
    fit = robust_fit([column(sample) for sample in samples], [sample.seconds for sample in samples])
    constant, *others = fit.coefficients
    return Fit((max(constant, LEAST_SECONDS), *others), fit.rows, fit.mean_error, fit.max_error)


def _refuse_too_large(samples: Iterable[Sample], kv_tokens: int) -> None:
    for sample in samples:
        if sample.tokens > kv_tokens:
            raise Refusal(f"{sample.where}: tokens {sample.tokens:g} is above the {kv_tokens} that one replica holds (kvTokens)")

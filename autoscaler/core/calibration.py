"""How fast are this fleet's replicas really?

A named profile was measured elsewhere: with another engine version, other kernels, other requests. The engines tell how long
their work takes (core/service_times.py), and a factor per coefficient is fitted to that (core/factors.py). Two things come
of it, and they differ on purpose:

    fit        what the newest windows say, with a confidence
    trusted    what capacity goes by. It begins at the first fit that is sure, then follows the fit slowly: by at most 10 %
               in five minutes, and no nearer than the fit's own error allows (two standard errors, 3 % at least)

So noise moves no capacity (law 4), a stall that gets past every check moves it by 2 % a minute, and a jump of speed is no
jump of demand. What cannot be measured just now stays as it was (law 2). The factors lie within 1/4 and 4: what is further off
is another model's profile, which an operator should hear of and not a formula bend to.

Starting from nothing, the coefficients are worth no more than their shape: the factors may be anything, and the role is
`Uncalibrated` until the fit is sure at half and at four times the load it has seen, or has seen an hour of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from autoscaler.core.capacity import Shape
from autoscaler.core.factors import PERSIST, Fit, Prior, Triple, Window, around, level, nearer, product, taught
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.core.observation import Freshness, Observation
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.service_times import Looks, looked, window_of

LEAST_PLAY = 0.03
PACE_PER_S = math.log(1.1) / 300.0
LEAST_FACTOR, MOST_FACTOR = 1e-3, 1e3
UNSURE = 0.25  # a fitted time with this relative standard error has confidence 0
SURE = 0.6  # the confidence from which a fit is followed: a standard error of 10 %
FAR_ERROR = 0.15  # the standard error that is sure enough at half and at four times the load seen
MANY = 60  # windows that are enough at one load


class Trust(StrEnum):
    """What the profile's coefficients are worth."""

    PROFILE = "profile"  # everything: what is measured is only told
    MEASURED = "measured"  # a start, until measurements are sure
    NOTHING = "nothing"  # a shape; what the profile says of memory and link still counts


@dataclass(frozen=True, slots=True)
class CalibrationLimits:
    """Knobs. `window_s` is the window that the histograms are of."""

    trust: Trust = Trust.MEASURED
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of one role's speed. `anchor` are the profile's coefficients, which all factors multiply; `trusted` the
    factors to size by, None until a fit was sure, and since when; `refused` why the newest window changed nothing.
    """

    anchor: Triple
    fit: Fit = Fit()
    trusted: Triple | None = None
    since_s: float | None = None
    moved_s: float | None = None
    looks: Looks = Looks()
    refused: str = "no whole window was seen yet"

    @property
    def confidence(self) -> float:
        """Of the fit, at the newest window's point: 0 (nothing is known) to 1."""
        return max(0.0, 1 - self.fit.error(self.fit.terms) / UNSURE)

    @property
    def factors(self) -> Triple:
        """The factors to size by: all 1 while none are trusted."""
        return self.trusted or (1.0, 1.0, 1.0)

    @property
    def measured(self) -> float | None:
        """Time fitted over time by the profile, at the newest window's point; None without a fit."""
        return None if self.fit.factors is None else level(self.fit.factors, self.fit.terms)

    @property
    def applied(self) -> float:
        """Time sized by over time by the profile, at the same point."""
        return level(self.factors, self.fit.terms)


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """The speed of `role` is not known, and why."""

    role: Role
    detail: str


def learn(
    before: Calibration | None,
    role: Role,
    observation: Observation,
    profile: ReplicaProfile,
    limits: CalibrationLimits,
    *,
    shape: Shape | None,
    freshness: Freshness,
) -> Calibration:
    """The calibration of one role after one more look. Another profile than before starts it anew.

    `shape`: the mean request as measured at this look; None while none is known.
    """
    known, now = _of_profile(before, profile, role, limits.trust), observation.now
    looks = looked(known.looks, role, observation, freshness.max_age_s)
    if now - looks.begun_s >= limits.window_s:
        window, looks = window_of(role, observation, looks, profile, shape, freshness)
        known = _followed(_taught(known, window, limits.trust), limits, now)
        looks = looks.emptied(now)
    return replace(known, looks=looks)


def calibrated(
    profile: ReplicaProfile, known: Mapping[Role, Calibration], limits: CalibrationLimits
) -> ReplicaProfile | Uncalibrated:
    """The profile to size by: each role's coefficients times its trusted factors, or as they are where none are trusted.
    From nothing there is no such profile before every role is known.
    """
    if limits.trust is Trust.PROFILE:
        return profile
    measured = profile
    for role, facts in ROLE_FACTS.items():
        one = _of_profile(known.get(role), profile, role, limits.trust)
        if one.trusted is not None:
            measured = _SCALED[facts.sizing](measured, one)
        elif limits.trust is Trust.NOTHING:
            return Uncalibrated(role, lack(one, limits.trust))
    return measured


def coefficients(profile: ReplicaProfile, role: Role) -> Triple:
    """The profile's three coefficients for the work of this role."""
    return _COEFFICIENTS[ROLE_FACTS[role].sizing](profile)


def restored(anchor: Triple, factors: Triple, since_s: float) -> Calibration:
    """What was trusted before a restart. The windows behind it are gone: they are learned anew, and followed from there."""
    return Calibration(anchor, trusted=factors, since_s=since_s)


def lack(known: Calibration, trust: Trust) -> str:
    """Why the fit is not followed; empty when it is."""
    fit = known.fit
    if fit.factors is None:
        return f"{len(fit.doubted)} of {PERSIST} windows seen"
    if known.confidence < SURE:
        return f"after {fit.windows} windows its standard error is {fit.error(fit.terms):.0%}"
    far = max(map(fit.error, around(fit.terms)))
    if trust is Trust.NOTHING and fit.windows < MANY and far > FAR_ERROR:
        return f"after {fit.windows} windows its standard error at other loads is {far:.0%}"
    return ""


def story(known: Calibration, trust: Trust) -> str:
    """What was measured, how sure that is, and what capacity goes by, in one line."""
    measured, fit = known.measured, known.fit
    told = "no speed measured yet"
    if measured is not None:
        told = f"work takes {measured:.2f} times what the profile says (confidence {known.confidence:.2f}, {fit.windows} windows)"
    used = "sized by the profile"
    if trust is not Trust.PROFILE and known.trusted is not None:
        used = f"sized by {known.applied:.2f} times it"
    elif trust is Trust.NOTHING:
        used = "not sized"
    prior = _PRIORS[trust]
    far = any(factor in {prior.least, prior.most} for factor in fit.factors or ())
    off = f"the profile is off by more than may be corrected ({prior.least:g} to {prior.most:g}): another one fits" if far else ""
    return "; ".join(part for part in (told, used, off, lack(known, trust), known.refused) if part)


def _of_profile(known: Calibration | None, profile: ReplicaProfile, role: Role, trust: Trust) -> Calibration:
    """What is known, unless it is of other coefficients or was learned under wider bounds: then nothing."""
    anchor, prior = coefficients(profile, role), _PRIORS[trust]
    if known is None or known.anchor != anchor or not all(prior.least <= factor <= prior.most for factor in known.factors):
        return Calibration(anchor)
    return known


def _taught(known: Calibration, window: Window | str, trust: Trust) -> Calibration:
    if isinstance(window, str):
        return replace(known, refused=window)
    fit = taught(known.fit, window, _PRIORS[trust])
    said = fit.said(window.terms)
    if said is None or not fit.doubted:
        return replace(known, fit=fit, refused="")
    doubt = f"{window.seconds:.3g} s measured, {said:.3g} s known; believed if {PERSIST} windows in a row say so"
    return replace(known, fit=fit, refused=doubt)


_PRIORS: Mapping[Trust, Prior] = {
    Trust.PROFILE: Prior(),
    Trust.MEASURED: Prior(),
    Trust.NOTHING: Prior(LEAST_FACTOR, MOST_FACTOR, loose=0.6),
}


def _followed(known: Calibration, limits: CalibrationLimits, now: float) -> Calibration:
    """`trusted` moved towards the fit as far as the time since the last window allows; a long silence counts as one."""
    factors, before_s = known.fit.factors, known.moved_s
    known = replace(known, moved_s=now)
    if factors is None or lack(known, limits.trust):
        return known
    if known.trusted is None:
        return replace(known, trusted=factors, since_s=now)
    elapsed_s = 0.0 if before_s is None else min(limits.window_s, max(0.0, now - before_s))
    play = max(LEAST_PLAY, 2 * known.fit.error(known.fit.terms))
    return replace(known, trusted=nearer(known.trusted, known.fit, play, PACE_PER_S * elapsed_s))


def _prefill(profile: ReplicaProfile, one: Calibration) -> ReplicaProfile:
    return replace(profile, prefill_s=product(one.factors, profile.prefill_s))


def _decode(profile: ReplicaProfile, one: Calibration) -> ReplicaProfile:
    """Both pieces by the same factors; by their common level where a step would get shorter at the bend."""
    found = _stretched(profile, one.factors)
    return found if found.shorter_beyond is None else _stretched(profile, (one.applied, one.applied, one.applied))


def _stretched(profile: ReplicaProfile, factors: Triple) -> ReplicaProfile:
    beyond = profile.decode_beyond
    beyond = beyond and (beyond[0], product(factors, beyond[1]))
    return replace(profile, decode_s=product(factors, profile.decode_s), decode_beyond=beyond)


_COEFFICIENTS: Mapping[Sizing, Callable[[ReplicaProfile], Triple]] = {
    Sizing.QUEUE: lambda profile: profile.prefill_s,
    Sizing.BATCH: lambda profile: profile.decode_s,
}
_SCALED: Mapping[Sizing, Callable[[ReplicaProfile, Calibration], ReplicaProfile]] = {
    Sizing.QUEUE: _prefill,
    Sizing.BATCH: _decode,
}

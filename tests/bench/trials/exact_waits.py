"""How long do prompts wait before n servers, says theory? Mean waits in mean service times, exact, no approximation.

rho is the load of each server, arrivals are Poisson, whoever came first goes to whoever is free first.

    M/G/1    rho (1 + c2) / (2 (1 - rho)), c2 the squared coefficient of variation of service (Pollaczek and Khinchine)
    M/D/n    Crommelin (1932): after one service time S all that were in service are gone, those that waited are there
             less the n that went in, and whoever arrived is there too. So the number present, looked at every S, is a
             Markov chain: next = max(0, present - n) + Poisson(n rho)
    M/PH/n   service in two exponential phases: the number present and how many of those in service are in the first phase
             is a Markov chain. With two phases c2 can be anything from 1/2 (Erlang) up (hyperexponential)

Both chains are cut off at so many present that the rest has no weight, and solved as linear equations. The mean wait is the
mean number that waits over the arrival rate (Little). For n > 1 and service of any other kind there is no exact formula, and
none of two moments can be right: the wait depends on the third too (Gupta, Harchol-Balter, Dai and Zwart, 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import exp, sqrt
from random import Random

import numpy as np
from numpy.typing import NDArray

PRESENT = 200  # where the chains are cut off
NO_WEIGHT = 1e-9  # of the last state

State = tuple[int, int]  # how many are present, and how many of those in service are in the first phase


@dataclass(frozen=True, slots=True)
class Phases:
    """Service that begins in the first phase with probability `first`, else in the second; who leaves the first goes on to
    the second with probability `on`. `mean_s`: of both phases, in mean service times; together they must make 1.
    """

    first: float
    on: float
    mean_s: tuple[float, float]

    def draw(self, rng: Random) -> float:
        """One service."""
        one_s, two_s = self.mean_s
        if rng.random() >= self.first:
            return rng.expovariate(1 / two_s)
        done_s = rng.expovariate(1 / one_s)
        return done_s + rng.expovariate(1 / two_s) if rng.random() < self.on else done_s

    def moves(self, state: State, servers: int, rps: float) -> Iterator[tuple[float, State]]:
        """What can happen next, each with its rate; services are in units of the mean."""
        present, ones = state
        twos = min(present, servers) - ones
        to_second, leaves = ones * self.on / self.mean_s[0], ones * (1 - self.on) / self.mean_s[0]
        if present < servers:
            yield from self._begins(rps, (present + 1, ones))
        else:
            yield rps, (present + 1, ones)
        yield to_second, (present, ones - 1)
        for rate, left in ((leaves, (present - 1, ones - 1)), (twos / self.mean_s[1], (present - 1, ones))):
            if present > servers:
                yield from self._begins(rate, left)
            else:
                yield rate, left

    def _begins(self, rate: float, state: State) -> Iterator[tuple[float, State]]:
        present, ones = state
        yield rate * self.first, (present, ones + 1)
        yield rate * (1 - self.first), state


EXPONENTIAL = Phases(1.0, 0.0, (1.0, 1.0))
ERLANG = Phases(1.0, 1.0, (0.5, 0.5))  # c2 1/2


def hyperexponential(c2: float) -> Phases:
    """Short services and long ones, as much work in either. Raises ValueError if c2 is below 1."""
    short = (1 + sqrt((c2 - 1) / (c2 + 1))) / 2
    return Phases(short, 0.0, (1 / (2 * short), 1 / (2 * (1 - short))))


def pollaczek(c2: float, utilisation: float) -> float:
    """M/G/1."""
    return utilisation * (1 + c2) / (2 * (1 - utilisation))


def crommelin(servers: int, utilisation: float) -> float:
    """M/D/n. Raises ArithmeticError if the chain would have to be longer."""
    erlangs = servers * utilisation
    arrivals = list(accumulate(range(1, PRESENT), lambda share, count: share * erlangs / count, initial=exp(-erlangs)))
    chain = np.zeros((PRESENT, PRESENT))
    for present in range(PRESENT):
        kept = max(0, present - servers)
        chain[present, kept:] = arrivals[: PRESENT - kept]
    shares = _balanced(chain - np.diag(chain.sum(axis=1)))
    return _wait([(at, share) for at, share in enumerate(shares)], servers, erlangs)


def phase_type(law: Phases, servers: int, utilisation: float) -> float:
    """M/PH/n. Raises ArithmeticError if the chain would have to be longer."""
    rps = servers * utilisation
    states = [(present, ones) for present in range(PRESENT) for ones in range(min(present, servers) + 1)]
    place = {state: at for at, state in enumerate(states)}
    rates = np.zeros((len(states), len(states)))
    for state, at in place.items():
        for rate, after in law.moves(state, servers, rps):
            if rate and after in place:
                rates[at, place[after]] += rate
                rates[at, at] -= rate
    shares = _balanced(rates)
    return _wait([(present, share) for (present, _), share in zip(states, shares, strict=True)], servers, rps)


def _balanced(rates: NDArray[np.float64]) -> list[float]:
    """The shares of time in each state: as much goes in as out, and all are 1 together."""
    equations = rates.T.copy()
    equations[-1] = 1.0
    right = np.zeros(len(rates))
    right[-1] = 1.0
    return [float(share) for share in np.linalg.solve(equations, right)]


def _wait(shares: list[tuple[int, float]], servers: int, rps: float) -> float:
    """By Little's law, of (present, share) by rising number present."""
    if abs(shares[-1][1]) > NO_WEIGHT:
        raise ArithmeticError(f"{PRESENT} present and more are not rare enough at {rps / servers:.0%} load")
    return sum((present - servers) * share for present, share in shares if present > servers) / rps

"""How long did a shift of the traffic hurt?

Requests are counted in windows of 30 s by their arrival: decided, and met. A shift at t (a spike, another mix) is over
when the last window is over in which fewer than the aimed share were met, before the next shift; the time from t to there
is the recovery. 0: no such window. None: the last one before the next shift is still such a window, so the fleet did not
recover in time. Windows in which nothing arrived say nothing. Requests that have not ended count in no window yet, so ask
after the run, when all have.
"""

from __future__ import annotations

from math import inf

WINDOW_S = 30.0


class Windows:
    """Decided and met requests per window of arrival; two numbers for every 30 s of traffic."""

    def __init__(self) -> None:
        self._decided: dict[int, int] = {}
        self._met: dict[int, int] = {}

    def decided(self, arrival_s: float, met: bool) -> None:
        """A request that arrived then was met or missed."""
        window = int(arrival_s // WINDOW_S)
        self._decided[window] = self._decided.get(window, 0) + 1
        self._met[window] = self._met.get(window, 0) + met

    def attainment(self) -> dict[float, float]:
        """Share of requests met, by the time at which the window of their arrival began; in order."""
        return {window * WINDOW_S: self._met[window] / count for window, count in sorted(self._decided.items())}

    def recovery_s(self, shift_s: float, aim: float, until_s: float = inf) -> float | None:
        """Seconds from the shift to the end of the last window below `aim` that begins before `until_s`."""
        shares = {at_s: share for at_s, share in self.attainment().items() if shift_s < at_s + WINDOW_S and at_s < until_s}
        missed = [at_s for at_s, share in shares.items() if share < aim]
        if not missed:
            return 0.0
        return None if missed[-1] == max(shares) else missed[-1] + WINDOW_S - shift_s

"""Whom do the sidecars before a fleet let in, whom do they turn away, and is that right?

For people to see, and for nothing else: what was turned away counts as load by `Traffic.rejected_rps`, whoever did it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Requests per second that were judged alike: in which mode, whether they are to be let in, why, and of which class. In
    shadow mode all are let in, whatever the verdict. Words are those of the sidecar's metrics.
    """

    mode: str
    admit: bool
    reason: str
    qos: str
    rps: float


@dataclass(frozen=True, slots=True)
class Door:
    """What the sidecars say. `hindsight`: what enforcing would have done, as (least, most) shares of all requests, by the
    sidecar's words (`rejected`, `could_be_served`, `missed`); it is told in shadow mode alone.
    """

    verdicts: tuple[Verdicts, ...]
    hindsight: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def mode(self) -> str | None:
        """The mode in which most requests are judged now; None while nobody asks."""
        by_mode: dict[str, float] = {}
        for one in self.verdicts:
            by_mode[one.mode] = by_mode.get(one.mode, 0.0) + one.rps
        busiest = max(by_mode, key=lambda mode: by_mode[mode], default=None)
        return busiest if busiest is not None and by_mode[busiest] > 0 else None

    def rates(self) -> tuple[Verdicts, ...]:
        """The verdicts that are given now, those against a request first, the most frequent ones before the others."""
        return tuple(sorted(self._present(), key=lambda one: (one.admit, -one.rps, one.reason, one.qos)))

    def _present(self) -> Iterable[Verdicts]:
        return (one for one in self.verdicts if one.rps > 0)

"""What is known of a request at the door, and what did this sidecar let in that no picture shows yet?

A picture of the fleet is up to two seconds old, and a burst comes in less. So each sidecar keeps its own admissions until a
picture is newer than they are: `Own`, gathered in slots of SLOT_S so that no burst makes it long (20 slots in two seconds).

    work_s     seconds of prefill that still wait; what is predicted to be computed by now waits no longer
    requests   and tokens: what will come to decode; all of it, computed or not, since the picture has none of it

An arrival and a burden are named tuples, for each verdict makes both: one takes 0.3 us to make, a frozen dataclass 1.2.

What the other sidecars let in meanwhile is estimated from it (core/outlook.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from autoscaler.core.fleet import SloKind
from autoscaler.core.qos import NOBODY, Mix

SLOT_S = 0.1


class Arrival(NamedTuple):
    """A request at the door. Tokens, None where nobody knows: then it is taken for the mean one. `output_tokens` is how long
    it may get; `qos` names its class; `asked_s` are promises that its client asks for, already clamped to the class.
    """

    prompt_tokens: float | None = None
    uncached_tokens: float | None = None
    output_tokens: float | None = None
    qos: str = ""
    asked_s: Mapping[SloKind, float] = MappingProxyType({})


class Burden(NamedTuple):
    """What a request, or several, bring: prefill seconds, KV tokens in decode, and when they are predicted to be computed."""

    work_s: float
    tokens: float
    end_s: float
    requests: float = 1.0


@dataclass(frozen=True, slots=True)
class Slot:
    """What was let in within SLOT_S of `at_s`."""

    at_s: float
    burden: Burden


@dataclass(frozen=True, slots=True)
class Own:
    """What this sidecar let in since the picture, oldest first, and who asks for what (`mix`)."""

    slots: tuple[Slot, ...] = ()
    mix: Mix = NOBODY

    def admitted(self, burden: Burden, qos: str, now: float) -> Own:
        """With this one let in, in its class."""
        mix = self.mix.admitted(qos, burden.work_s, burden.tokens, now)
        last = self.slots[-1] if self.slots else None
        if last is None or now - last.at_s >= SLOT_S:
            return Own((*self.slots, Slot(now, burden)), mix)
        return Own((*self.slots[:-1], Slot(last.at_s, _both(last.burden, burden))), mix)

    def asked(self, qos: str, now: float) -> Own:
        """Somebody of this class asked, whatever the answer."""
        return replace(self, mix=self.mix.asked(qos, now))

    def since(self, seen_s: float, share: float = 1.0) -> Own:
        """Without what a picture of `seen_s` shows, now that `share` of the fleet's arrivals come by here. A slot that had begun
        by then is shown as a whole: at most SLOT_S is lost.
        """
        return Own(tuple(slot for slot in self.slots if slot.at_s > seen_s), replace(self.mix, share=share))

    def unseen(self, seen_s: float, now: float) -> Burden:
        """All of it that a picture of `seen_s` does not show; `work_s` only of what is not computed by `now`."""
        work_s = tokens = requests = 0.0
        for slot in self.slots:
            if slot.at_s > seen_s:
                burden = slot.burden
                tokens += burden.tokens
                requests += burden.requests
                if burden.end_s > now:
                    work_s += burden.work_s
        return Burden(work_s, tokens, now, requests)


def _both(one: Burden, other: Burden) -> Burden:
    end_s = max(one.end_s, other.end_s)
    return Burden(one.work_s + other.work_s, one.tokens + other.tokens, end_s, one.requests + other.requests)

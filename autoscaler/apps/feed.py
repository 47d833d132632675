"""Where does a tick wait for those who watch, and who pays when a watcher is slow?

The controller is a plain thread; the watchers live in the web server's event loop. `Feed` stands between them: it is
the controller's StatusSink, keeps a bounded history per fleet, and hands every new frame to every subscription.

    frame = {"id", "status", "score", "speed", "ended"}     status: core/status.py `document`

The slow watcher pays. A subscription holds at most `queue` frames and drops its oldest, so `report` never waits for a
browser; a chart with a few points fewer is the whole damage.

Frames are kept as JSON text, made once however many watch, and without findings and sidecars' verdicts: about 3.2 kB a tick
for two roles, where the dictionaries would be 20 times that. 2,880 ticks of 15 s are 12 hours in 9 MB. Both stay with the newest
frame and the newest `explained` decisions (holds among them), so that an old decision can still be asked why. Many fleets share
`total` frames (25,000: some 80 MB), so 1,000 fleets keep 25 ticks each.

An id is "run-sequence". The run is drawn anew for every feed, so a watcher of a process that has been restarted does
not take its old sequence number for a place in the new one.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from autoscaler.core.status import Status, document

OF_NOW = frozenset({"findings", "door"})  # what is told of the newest tick and of decisions, and of no other


@dataclass(frozen=True, slots=True)
class Frame:
    """One tick of one fleet, ready to send: its place in the feed, its id on the wire and its JSON text."""

    sequence: int
    id: str
    fleet: str
    text: str


@dataclass(slots=True)
class _Track:
    """What is kept of one fleet. `frames` without findings, `explained` with them."""

    document: dict[str, Any]
    latest: Frame
    frames: deque[Frame] = field(default_factory=deque)
    explained: deque[Frame] = field(default_factory=deque)

    def history(self) -> list[Frame]:
        """Oldest first; the fuller text where there is one."""
        fuller = {frame.sequence: frame for frame in (*self.explained, self.latest)}
        return [fuller.get(frame.sequence, frame) for frame in self.frames]


class Subscription:
    """One watcher's queue. Filled from any thread, emptied in the event loop it was made in."""

    def __init__(self, fleet: str | None, size: int) -> None:
        self._fleet = fleet
        self._frames: deque[Frame] = deque(maxlen=size)
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._let_go = False

    def push(self, frame: Frame) -> None:
        """Queue a frame if it is of the watched fleet; the oldest goes when the queue is full. Never waits."""
        if self._fleet in (None, frame.fleet):
            self._frames.append(frame)
            self._wake()

    def let_go(self) -> None:
        """End the subscription: its watcher gets what is queued and then nothing more."""
        self._let_go = True
        self._wake()

    async def take(self) -> list[Frame] | None:
        """Every queued frame, oldest first, waiting for the first one; None when the feed has let go."""
        while not self._frames:
            if self._let_go:
                return None
            self._awake.clear()
            if not self._frames and not self._let_go:
                await self._awake.wait()
        return [self._frames.popleft() for _ in range(len(self._frames))]

    def _wake(self) -> None:
        # A loop that has just closed has nobody left to wake, and that is no business of the controller's.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._awake.set)


class Feed:
    """The controller's StatusSink with a memory; every method may be called from any thread."""

    def __init__(self, history: int = 2880, *, total: int = 25_000, explained: int = 64, queue: int = 256) -> None:
        self._history, self._total, self._explained, self._queue = history, total, explained, queue
        self._run = secrets.token_hex(4)
        self._lock = Lock()
        self._sequence = 0
        self._tracks: dict[str, _Track] = {}
        self._subscriptions: set[Subscription] = set()
        self._extras: dict[str, Any] = {"score": None, "speed": None, "ended": False}

    def report(self, status: Status) -> None:
        """Keep one tick and hand it on. Costs the same however many watch or stall."""
        content = document(status)
        with self._lock:
            self._publish(content)

    def forget(self, key: str) -> None:
        """A fleet that is managed no more is listed no more; who watches it sees no further frame."""
        with self._lock:
            self._tracks.pop(key, None)

    def annotate(self, *, score: Mapping[str, float | None] | None = None, speed: float | None = None) -> None:
        """What rides with the next frames: the run's score so far, and simulated seconds per real second."""
        with self._lock:
            if score is not None:
                self._extras["score"] = {name: _finite(value) for name, value in score.items()}
            if speed is not None:
                self._extras["speed"] = _finite(speed)

    def end(self) -> None:
        """Say that no tick will follow: the newest frame of every fleet once more, as the last."""
        with self._lock:
            self._extras["ended"] = True
            for track in tuple(self._tracks.values()):
                self._publish(track.document)

    @property
    def fleets(self) -> tuple[str, ...]:
        """The fleets seen so far, in order of their first tick."""
        with self._lock:
            return tuple(self._tracks)

    def latest(self) -> dict[str, Frame]:
        """The newest frame per fleet, findings included."""
        with self._lock:
            return {fleet: track.latest for fleet, track in self._tracks.items()}

    def document(self, fleet: str) -> dict[str, Any] | None:
        """The newest status document of one fleet; None for a fleet not seen."""
        with self._lock:
            track = self._tracks.get(fleet)
        return track.document if track else None

    def history(self, fleet: str) -> list[Frame]:
        """The kept frames of one fleet, oldest first; empty for a fleet not seen."""
        with self._lock:
            track = self._tracks.get(fleet)
            return track.history() if track else []

    def place_of(self, frame_id: str) -> int | None:
        """The sequence number in an id of this run; None for any other text."""
        run, _, sequence = frame_id.partition("-")
        return int(sequence) if run == self._run and sequence.isdecimal() else None

    def subscribe(self, fleet: str | None = None, after: int | None = None) -> tuple[list[Frame], Subscription]:
        """The kept frames later than `after` (None: none of them), and a subscription to what follows them without a
        gap. `fleet` None watches every fleet. Call it in the event loop that will take from the subscription.
        """
        subscription = Subscription(fleet, self._queue)
        with self._lock:
            tracks = [track for key, track in self._tracks.items() if fleet in (None, key)]
            missed = [] if after is None else [frame for track in tracks for frame in track.history() if frame.sequence > after]
            self._subscriptions.add(subscription)
        return sorted(missed, key=lambda frame: frame.sequence), subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a watcher that has gone."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def let_go(self) -> None:
        """End every subscription, so that a server with open streams can stop. The history stays."""
        with self._lock:
            subscriptions = tuple(self._subscriptions)
            self._subscriptions.clear()
        for subscription in subscriptions:
            subscription.let_go()

    def _publish(self, content: dict[str, Any]) -> None:
        self._sequence += 1
        fleet = content["fleet"]
        frame = self._frame(fleet, content)
        track = self._tracks.setdefault(fleet, _Track({"actions": [], "flips": [], "conditions": []}, frame))
        if _decides(content, track.document):
            track.explained.append(frame)
        track.document, track.latest = content, frame
        track.frames.append(self._frame(fleet, {name: value for name, value in content.items() if name not in OF_NOW}))
        self._trim(track)
        for subscription in self._subscriptions:
            subscription.push(frame)

    def _frame(self, fleet: str, content: dict[str, Any]) -> Frame:
        frame_id = f"{self._run}-{self._sequence}"
        body = {"id": frame_id, "status": content, **self._extras}
        return Frame(self._sequence, frame_id, fleet, json.dumps(body, separators=(",", ":"), allow_nan=False))

    def _trim(self, track: _Track) -> None:
        keep = min(self._history, max(1, self._total // len(self._tracks)))
        while len(track.frames) > keep:
            track.frames.popleft()
        while len(track.explained) > self._explained:
            track.explained.popleft()


def _decides(content: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Does this tick act, or begin or cease to hold for want of signals? Recommend mode repeats its advice every tick;
    the first time it is given is the one to explain.
    """
    acts = any(content[deeds] and content[deeds] != before[deeds] for deeds in ("actions", "flips"))
    return acts or _sees(content) != _sees(before)


def _sees(content: Mapping[str, Any]) -> bool:
    return all(condition["status"] for condition in content["conditions"] if condition["type"] == "ScalingActive")


def _finite(value: float | None) -> float | None:
    """JSON knows no NaN: the attainment of a run that has offered nothing yet is not known."""
    return value if value is not None and math.isfinite(value) else None

"""How does a request become an answer?

    headers and body -> Arrival -> core.judge on the latest picture -> count -> Answer

All of it runs in one thread, the event loop's, between two awaits: so what this sidecar let in (`Own`) is kept without a lock.

Requests of one moment are judged by one look at what is ahead, and what they bring is put into `Own` at its end: to look and to
remember anew for each would cost as much again as judging it. A moment ends after MOMENT_S, AT_ONCE requests, or BEHIND_S seconds
of prefill per replica let in, which is by how much a wait may then be taken for too short: a small fleet keeps up with every
request that is let in, a large one is asked too often. It ends too when the picture is too old to judge by.

How long its answer gets is what a request may tell in `x-pda-output-tokens`. Its `max_tokens` is no such thing: clients set it to
what the model can do. It only says that the answer is not longer, which matters where the mean is. Without its length a
prompt is judged by its bytes; without those it is taken for the mean one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.fleet import Sizing
from autoscaler.core.judge import Moment, judge, look, remembered
from autoscaler.core.rejection import RejectionMode, Verdict, Why
from autoscaler.sidecar.answers import Answer, Answers
from autoscaler.sidecar.board import Board, Picture
from autoscaler.sidecar.bodies import BYTES_PER_TOKEN, NOTHING_KNOWN, Question, longest_answer, possible, question
from autoscaler.sidecar.headers import Headers, Told, size_bytes
from autoscaler.sidecar.ledger import Ledger
from autoscaler.sidecar.skins import Reads, Skin
from autoscaler.sidecar.turns import Turns

LENGTH = b"content-length"
MOMENT_S, AT_ONCE, BEHIND_S = 0.005, 64, 0.02
UNJUDGED = Verdict(True, Why.NO_STATE, "")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Fresh:
    """What those bring that were let in at this moment, of one class and served in one."""

    work_s: float = 0.0
    tokens: float = 0.0
    end_s: float = 0.0
    requests: float = 0.0


class Desk:
    """Answers for one fleet."""

    def __init__(self, board: Board, ledger: Ledger, answers: Answers, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._board, self._ledger, self._answers, self._monotonic = board, ledger, answers, monotonic
        self._own, self._turns = Own(), Turns()
        self._moment: Moment | None = None
        self._ends_s = self._behind_s = 0.0
        self._count = 0
        self._fresh: dict[tuple[str, str], _Fresh] = {}
        self._seen: Picture | None = None

    def answer(self, skin: Skin, headers: Headers, body: bytes) -> Answer:
        """The answer to one request of this skin. `body` is what came of it, perhaps not all."""
        try:
            return self._answer(skin, headers, body)
        except Exception:  # a bug of ours must not turn requests away
            self._ledger.faults += 1
            if self._ledger.faults.bit_count() == 1:  # the 1st, 2nd, 4th, 8th: a bug that stays must not become a flood of lines
                log.exception("fault %d while judging; the request is let in", self._ledger.faults)
            return self._answers.admitted(skin, UNJUDGED, predict=False)

    def _answer(self, skin: Skin, headers: Headers, body: bytes) -> Answer:
        picture, now = self._board.picture, self._monotonic()
        self._board.arrivals += 1
        if picture is None:
            self._ledger.count(RejectionMode.OFF, UNJUDGED, False, 0.0, now)
            return self._answers.admitted(skin, UNJUDGED, predict=False)
        if picture is not self._seen:
            self._turn_to(picture, now)
        told, asked = picture.reader.read(headers), self._question(skin, body)
        again, predict = told.again or asked.attempt > 0, told.predict or asked.predict
        arrival = _arrival(skin, told, asked, headers, body, picture)
        verdict = self._judged(arrival, picture, again, now)
        if picture.mode is not RejectionMode.ENFORCE:
            return self._answers.admitted(skin, _as_if(verdict, arrival.qos or picture.rules.default), predict)
        if verdict.admit:
            return self._answers.admitted(skin, verdict, predict)
        may_retry = picture.rules.class_named(verdict.qos).may_retry
        wait_s = self._turns.wait_s(verdict, picture.standing, now) if may_retry else verdict.wait_s or 0.0
        return self._answers.rejected(skin, verdict, wait_s, (picture.status, may_retry), predict)

    def _judged(self, arrival: Arrival, picture: Picture, again: bool, now: float) -> Verdict:
        mode, rules = picture.mode, picture.rules
        asked = arrival.qos or rules.default
        if mode is RejectionMode.OFF:
            verdict = Verdict(True, Why.OFF, asked)
        else:
            verdict = judge(arrival, self._look(picture, now))
            self._remember(verdict, asked, picture)
        tokens = picture.standing.shape.prompt_tokens if arrival.prompt_tokens is None else arrival.prompt_tokens
        self._ledger.count(mode, verdict, again, tokens, now)
        return verdict

    def _look(self, picture: Picture, now: float) -> Moment:
        """What is ahead at this moment."""
        moment = self._moment
        if moment is None or not moment.now <= now < self._ends_s:
            self._fold()
            self._moment = moment = look(picture.standing, self._own, picture.rules, now)
            stale_s = picture.standing.seen_s + picture.rules.max_age_s
            self._ends_s = min(now + MOMENT_S, stale_s if stale_s > now else math.inf)
        return moment

    def _remember(self, verdict: Verdict, asked: str, picture: Picture) -> None:
        """Put it with the others of this moment."""
        key, burden = (asked, verdict.qos), verdict.burden
        fresh = self._fresh.get(key)
        if fresh is None:
            fresh = self._fresh[key] = _Fresh()
        self._count += 1
        if burden is not None and (verdict.admit or picture.mode is RejectionMode.SHADOW):
            fresh.work_s += burden.work_s
            fresh.tokens += burden.tokens
            fresh.end_s = max(fresh.end_s, burden.end_s)
            fresh.requests += burden.requests
            self._behind_s += burden.work_s
        if self._count >= AT_ONCE or self._behind_s > BEHIND_S * picture.standing.by_law[Sizing.QUEUE].serving:
            self._fold()

    def _fold(self) -> None:
        """End the moment: what it brought goes into `Own`."""
        if self._moment is not None:
            for (asked, qos), fresh in self._fresh.items():
                burden = Burden(fresh.work_s, fresh.tokens, fresh.end_s, fresh.requests) if fresh.requests else None
                self._own = remembered(self._own, Verdict(True, Why.FITS, qos, burden=burden), asked, self._moment.now)
            self._fresh.clear()
            self._moment, self._count, self._behind_s = None, 0, 0.0

    def _turn_to(self, picture: Picture, now: float) -> None:
        self._seen = picture
        self._fold()
        self._own = self._own.since(picture.standing.seen_s, picture.standing.share)
        self._ledger.look_back(picture.mode, picture.served, now)

    def _question(self, skin: Skin, body: bytes) -> Question:
        if skin.reads is not Reads.QUESTION:
            return NOTHING_KNOWN
        asked, readable = question(body)
        self._ledger.unreadable += not readable
        return asked


def _as_if(verdict: Verdict, qos: str) -> Verdict:
    """The same request let in as it is, in its own class. The reason stays: it is what enforcing would have said."""
    if verdict.admit and verdict.max_tokens is None and verdict.qos == qos:
        return verdict
    return verdict._replace(admit=True, max_tokens=None, qos=qos)


def _arrival(skin: Skin, told: Told, asked: Question, headers: Headers, body: bytes, picture: Picture) -> Arrival:
    prompt, uncached, output = told.prompt_tokens, told.uncached_tokens, told.output_tokens
    if skin.reads is Reads.QUESTION:
        prompt = possible(asked.prompt_tokens) if prompt is None else prompt
        uncached = possible(asked.uncached_tokens) if uncached is None else uncached
        output = possible(asked.output_tokens) if output is None else output
    elif prompt is None:
        prompt = possible(_bytes(told, headers, body) / BYTES_PER_TOKEN) or None
    if output is None:
        longest = _longest(skin, told, asked, body)
        output = longest if longest is not None and longest < picture.standing.shape.output_tokens else None
    if uncached is not None and prompt is not None and uncached > prompt:
        uncached = prompt
    return Arrival(prompt, uncached, output, told.qos or picture.reader.known(asked.qos), told.asked_s)


def _longest(skin: Skin, told: Told, asked: Question, body: bytes) -> int | None:
    if told.max_tokens is not None:
        return told.max_tokens
    return longest_answer(body) if skin.reads is Reads.REQUEST and body else possible(asked.max_tokens)


def _bytes(told: Told, headers: Headers, body: bytes) -> int:
    """How large the user's request is: by the gateway's word, by what it sends us, by what came; 0 where none of them tells."""
    return told.size_bytes or size_bytes(headers.get(LENGTH)) or len(body)

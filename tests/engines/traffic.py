"""What do users notice? Requests at a given rate, each a prefill leg and a decode leg, through whatever router there is.

A router chooses both engines before it sends anything, `hesitates_s` before: the decode engine of a request that is still
being prefilled knows nothing of it and looks idle. That is what a drain has to wait for. A pair of which the prefill
engine took nothing is tried again elsewhere, as routers do; anything later is the user's loss:

    sent = served + lost by an act + lost by a fault + expired + unserved + under way
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count
from random import Random
from typing import Any, Self

from autoscaler.core.fleet import Role
from tests.engines.engine import StubEngine
from tests.engines.ledger import End, Ledger
from tests.engines.routing import Router

ANSWER_S = 300.0
LOOK_S = 0.02


class Fate(StrEnum):
    """What became of a user's request."""

    SERVED = "served"
    LOST_BY_ACT = End.LOST_BY_ACT
    LOST_BY_FAULT = End.LOST_BY_FAULT
    EXPIRED = End.EXPIRED
    UNSERVED = "nobody took it in time"


class Traffic:
    """Users. As a context: sends `rps` requests a second until it is left, then waits for those under way.

    `send` sends one at once, in the caller's thread. `fates` has every request that has ended.
    """

    def __init__(self, router: Router, ledger: Ledger, rps: float = 10.0, *, seed: int = 1) -> None:
        self.rps, self.prompt_tokens, self.output_tokens = rps, 100, 10
        self.hesitates_s, self.patience_s = 0.0, 5.0
        self.fates: dict[str, Fate] = {}
        self._router, self._ledger, self._random = router, ledger, Random(seed)
        self._numbers, self._stop, self._senders = count(1), threading.Event(), list[threading.Thread]()
        self._clock = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    @property
    def sent(self) -> int:
        """Requests sent at their rate so far, ended or not."""
        return len(self._senders)

    def finish(self, patience_s: float = 30.0) -> None:
        """Send no more, and wait for what is under way."""
        self._stop.set()
        self._clock.join()
        ends_s = time.monotonic() + patience_s
        for sender in self._senders:
            sender.join(max(0.0, ends_s - time.monotonic()))

    def ended(self, fate: Fate) -> list[str]:
        """The requests with this fate, and what their legs say: `assert traffic.ended(Fate.LOST_BY_ACT) == []`."""
        names = [name for name, one in self.fates.copy().items() if one is fate]
        return [
            "; ".join([name, *(str(leg) for leg in self._ledger.legs() if leg.request.startswith(f"{name}."))]) for name in names
        ]

    def send(self) -> Fate:
        """One request, and its fate."""
        name = f"r{next(self._numbers)}"
        ends_s, fate = time.monotonic() + self.patience_s, None
        for number in count(1):
            pair = self._choose(ends_s)
            fate = self._try(f"{name}.{number}", *pair) if pair else Fate.UNSERVED
            if fate is not None:
                break
        self.fates[name] = fate or Fate.UNSERVED
        return self.fates[name]

    def _run(self) -> None:
        while not self._stop.wait(1 / self.rps):
            sender = threading.Thread(target=self.send, name="a user", daemon=True)
            self._senders.append(sender)
            sender.start()

    def _choose(self, ends_s: float) -> tuple[StubEngine, StubEngine] | None:
        """A pair of engines in routing; None if there was none until then."""
        while time.monotonic() < ends_s:
            prefill, decode = (self._router.routable(role) for role in (Role.PREFILL, Role.DECODE))
            if prefill and decode:
                return self._any(prefill), self._any(decode)
            time.sleep(LOOK_S)
        return None

    def _any(self, engines: Sequence[StubEngine]) -> StubEngine:
        return self._random.choice(engines)

    def _try(self, request: str, prefill: StubEngine, decode: StubEngine) -> Fate | None:
        """Both legs. None if it can be tried elsewhere."""
        time.sleep(self.hesitates_s)
        contract, body = prefill.contract, prefill.contract.prefill_body(request, prefill, self.prompt_tokens, self.output_tokens)
        answers: list[Any] = []

        def send_decode(answer: dict[str, Any]) -> None:
            answers.append(_post(decode, contract.decode_body(body, answer, self.output_tokens)))

        if contract.TOGETHER:
            beside = threading.Thread(target=send_decode, args=({},), name=request, daemon=True)
            beside.start()
            answer = _post(prefill, body)
            if answer is not None or self._taken(request, prefill):
                beside.join()
        elif (answer := _post(prefill, body)) is not None:
            send_decode(answer)
        if answers and answers[0] is not None:  # users hear the decode engine only
            return Fate.SERVED
        return self._fate(request, prefill, decode)

    def _taken(self, request: str, engine: StubEngine) -> bool:
        return any(leg.engine == engine.name for leg in self._ledger.legs(request))

    def _fate(self, request: str, prefill: StubEngine, decode: StubEngine) -> Fate | None:
        """Through whom it was lost: what its legs say, else why the decode engine took nothing."""
        if not self._taken(request, prefill):
            time.sleep(LOOK_S)
            return None
        ends = {leg.end for leg in self._ledger.legs(request)}
        for end in (End.LOST_BY_ACT, End.LOST_BY_FAULT, End.EXPIRED):
            if end in ends:
                return Fate(end)
        return Fate(decode.ended_by)


def _post(engine: StubEngine, body: dict[str, Any]) -> dict[str, Any] | None:
    """What the engine answers; None for anything but success."""
    connection = HTTPConnection(*engine.address, timeout=ANSWER_S)
    try:
        connection.request("POST", engine.contract.GENERATE[0], json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said: dict[str, Any] | None = json.loads(answer.read()) if answer.status == HTTPStatus.OK else None
    except (OSError, HTTPException, ValueError):
        return None
    else:
        return said
    finally:
        connection.close()

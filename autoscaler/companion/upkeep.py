"""What has to be done again and again while requests are answered?

Look for another certificate and for another front proxy, and take them to the TLS side. One thread does it, once in BEAT_S;
what it finds out is told by /readyz, /metrics and, when it changes, by the log. A look that fails, however it does, leaves
everything as it was: a certificate that cannot be served never takes the place of one that can.

    ready     the PDAutoscalers are known, the front proxy is known, and this process is not about to end
    remarks   what an operator should know of, although requests are answered: a certificate that cannot be renewed
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from autoscaler.companion.certificates import Pair
from autoscaler.companion.front_proxy import Trusted
from autoscaler.companion.issuing import Source
from autoscaler.companion.tls import Door
from autoscaler.errands import attempt
from autoscaler.refusal import Refusal

BEAT_S = 1.0

log = logging.getLogger(__name__)


class Upkeep:
    """`shown` is what the door was opened with; `let_go` ends connections whose authority is trusted no more."""

    def __init__(
        self,
        door: Door,
        shown: Pair,
        source: Source,
        trusted: Trusted,
        let_go: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._door, self._shown, self._source, self._trusted = door, shown, source, trusted
        self._let_go, self._clock = let_go, clock
        self._next_s = clock() + source.every_s
        self._told: tuple[str, str] = ("", "")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self.certificate_trouble = ""

    def start(self) -> None:
        """Do it until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further look. One that waits for an API server is not waited for."""
        self._stopping.set()
        self._thread.join(BEAT_S)

    def step(self) -> None:
        """One look at whatever is due."""
        if self._trusted.learn():
            log.warning("a client authority is trusted no more; connections end after the answer under way")
            self._let_go()
        now = self._clock()
        if now >= self._next_s:
            self._next_s = now + self._source.every_s
            self._renew(now)
        self._tell()

    def _renew(self, now: float) -> None:
        found = self._source.look(now)
        if isinstance(found, Refusal):
            self.certificate_trouble = str(found)
            return
        self.certificate_trouble = ""
        if found != self._shown:
            try:
                facts = self._door.show(found, now)
            except ValueError as error:
                self.certificate_trouble = f"{error}; the one before is served"
                return
            self._shown = found
            log.info("another certificate is served, for %s", ", ".join(sorted(facts.names)) or "no name")

    def _tell(self) -> None:
        now = self._trusted.trouble, self.certificate_trouble
        for what, before, trouble in zip(("front proxy", "serving certificate"), self._told, now, strict=True):
            if trouble != before:
                log.warning("%s: %s", what, trouble or "all is well again")
        self._told = now

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_S):
            attempt("the upkeep of certificates", "", self.step, lambda _: None)

"""Is the controller alive, is it ready, and what does it measure? For the kubelet and Prometheus, on any address.

    /healthz   200 while ticks begin; else 503 and one line, and the kubelet starts the process anew
    /readyz    200 once a first tick has ended, whoever leads: a standby is as ready as the leader
    /metrics   the controller's own metrics
    /v1/state  where there is a shared secret: what sidecars judge by, for those who show it (apps/states.py)

Nothing else: what shows or changes a fleet stays on loopback (apps/loopback.py). Metrics tell names of fleets, counts and
latencies, so the network policy beside the manifests lets only the monitoring namespace in.

Alive asks for ticks and for nothing outside. A restart mends a hung loop; it does not mend Prometheus or an API server,
and it would forget the minutes that a stabilization window has seen. A tick may take long, hence STALLED_S: three
intervals of 15 s are 45 s, and with `tickSeconds: 1` there still are 30 s.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import TypeVar

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse

from autoscaler.apps.server import Server
from autoscaler.apps.states import Elsewhere, States, add_states, nobody
from autoscaler.refusal import Refusal

STALLED_S = 30.0
STALLED_TICKS = 3

MetricsPage = Callable[[], tuple[bytes, str]]
T = TypeVar("T")


class Pulse:
    """Tells from the ticks whether the controller lives. `interval_s` is the time wanted between two of them; `monotonic`
    gives seconds. A process that has just started has as long for its first tick as for any other.
    """

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = max(STALLED_TICKS * interval_s, STALLED_S)
        self._monotonic = monotonic
        self._began_s = monotonic()
        self.ready = False

    def felt(self, tick: Callable[[], T]) -> Callable[[], T]:
        """The same tick, felt as it begins and ends. One that raises has not ended."""

        def run() -> T:
            self._began_s = self._monotonic()
            result = tick()
            self.ready = True
            return result

        return run

    def stall(self) -> str:
        """Why the controller is as good as dead, in one line; empty while it lives."""
        silent_s = self._monotonic() - self._began_s
        if silent_s < self._patience_s:
            return ""
        return f"no tick began for {silent_s:.0f} s; {self._patience_s:.0f} s are the most that is waited for"


def create_app(pulse: Pulse, metrics: MetricsPage) -> FastAPI:
    """The three pages for everybody. `metrics` gives the text of /metrics and its content type."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        return _probe(pulse.stall())

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> Response:
        return _probe("" if pulse.ready else "the first tick has not ended yet")

    @app.get("/metrics")
    def page() -> Response:  # not async: a thousand fleets take half a second, and probes must not wait for it
        text, content_type = metrics()
        return Response(text, headers={"content-type": content_type})

    return app


def serve_probes(
    listen: str, pulse: Pulse, metrics: MetricsPage, states: States | None = None, elsewhere: Elsewhere = nobody
) -> Server:
    """Serve the three pages on `listen`, an IP address and a port (0.0.0.0:8081, [::]:8081), and `states` if given: those
    must have a secret. Raises Refusal for anything else, and for an address that this machine does not have or that is taken.
    """
    app = create_app(pulse, metrics)
    if states is None:
        return Server(app, *address(listen))
    add_states(app, states, elsewhere)
    return Server(app, *address(listen), closing=states.let_go)


def _probe(trouble: str) -> Response:
    return PlainTextResponse(f"{trouble or 'ok'}\n", status_code=503 if trouble else 200)


def address(listen: str) -> tuple[str, int]:
    """The IP address and the port that `--listen` names. Raises Refusal for anything else."""
    host, _, port = listen.rpartition(":")
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port) if port.isdecimal() else -1
        bracketed = host.startswith("[") and host.endswith("]")
        if not 0 <= number <= 65535 or bracketed != (found.version == 6):
            raise ValueError(listen)
    except ValueError:
        allowed = "IPV4:PORT or [IPV6]:PORT, the port 0 (any free one) to 65535"
        raise Refusal(f"--listen {listen!r}: must be an IP address and a port (allowed: {allowed})") from None
    return str(found), number

"""How does a sidecar hear of its fleet from a controller that does not lead?

By asking the one that does: a Service over all controllers then works as an address for sidecars. The leader says where it tells
of fleets in an annotation of its Lease. Its answer is passed on as it came, with its signature and its age; the secret that the
sidecar has shown is passed to it, and to nobody that is no IP address over http.

A controller that is asked by another one asks nobody else (`x-pda-forwarded`): while the lead changes hands two could take
each other for the leader. A long poll holds a thread for as long as it waits, so there are MOST at once; who comes then is told
to try again, and tries the next address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import urllib3
from fastapi import HTTPException, Request, Response

from autoscaler.apps.states import LONGEST_WAIT_S
from autoscaler.errands import Daemons

MOST = 64
CONNECT_S, SPARE_S = 2.0, 5.0
MOST_BYTES = 1 << 20
FORWARDED = "x-pda-forwarded"
ASKED_WITH = ("authorization",)
PASSED_BACK = ("content-type", "cache-control", "x-pda-age-ms", "x-pda-signature")


class Forwarding:
    """Asks the leader. `leader` tells where it answers (http://IP:PORT), empty where that is not known."""

    def __init__(self, leader: Callable[[], str], executor: Executor | None = None) -> None:
        self._leader, self._under_way = leader, 0
        self._executor = executor or Daemons(MOST)
        self._http = urllib3.PoolManager(num_pools=2, maxsize=1, retries=False)

    async def __call__(self, request: Request) -> Response:
        """The leader's answer to the same request. Raises HTTPException where there is none."""
        leader = self._leader()
        if request.headers.get(FORWARDED) or not is_place(leader):
            raise HTTPException(503, "this controller does not lead, and knows of none that does")
        if self._under_way >= MOST:
            raise HTTPException(503, f"{MOST} sidecars wait for the leader through this controller already")
        self._under_way += 1
        try:
            shown = {name: request.headers[name] for name in ASKED_WITH if name in request.headers}
            url = f"{leader}{request.url.path}?{request.url.query}"
            errand = self._executor.submit(partial(self._ask, url, shown | {FORWARDED: "1"}))
            return await asyncio.shield(asyncio.wrap_future(errand))  # who goes away takes no hand of the others with it
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise HTTPException(502, f"the leader at {leader} does not answer: {type(error).__name__}") from error
        finally:
            self._under_way -= 1

    def _ask(self, url: str, headers: dict[str, str]) -> Response:
        limits = urllib3.Timeout(connect=CONNECT_S, read=LONGEST_WAIT_S + SPARE_S)
        answer = self._http.request("GET", url, headers=headers, timeout=limits, redirect=False, preload_content=False)
        try:
            text = answer.read(MOST_BYTES + 1)
        finally:
            answer.close()
        if len(text) > MOST_BYTES:
            raise urllib3.exceptions.ProtocolError("an answer without end")
        passed = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        return Response(text, answer.status, headers=passed)


def is_place(address: str) -> bool:
    """Is it http://IP:PORT, and nothing else?"""
    try:
        parts = urlsplit(address)
        ip_address(parts.hostname or "")
        return parts.scheme == "http" and bool(parts.port) and address == f"http://{parts.netloc}" and "@" not in parts.netloc
    except ValueError:
        return False

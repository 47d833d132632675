"""How does a sidecar hear of the fleet within a second, and what when nobody answers?

By a long poll in a thread of its own: GET URL?after=EPOCH-SEQUENCE&wait_s=5 is answered as soon as there is something newer,
or with 204 when nothing was. A leader that reads engines has news every second, so a silence of WAIT_S + SPARE_S is one that was
stopped or cut off. Several URLs are leaders or their followers; the next one is tried when one fails, so a fail-over
costs one poll. Between tries it waits longer each time, up to BACK_OFF_S, and never less than PAUSE_S, so that a server which
answers at once with what is known already costs nothing.

A document counts only if it is signed with the shared secret (`x-pda-signature`: HMAC-SHA256 of the body, in hex), or came over
TLS from a certificate we trust, or from this machine; else it is kept and shown, and no rejection rests on it.

No fault here is an error of the sidecar's: the picture grows old, and what is old rejects nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import random
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import urllib3

from autoscaler.sidecar.board import Board
from autoscaler.sidecar.state import Unreadable, read

WAIT_S = 5.0
CONNECT_S = 2.0
SPARE_S = 3.0  # beyond WAIT_S until an answer that does not come is given up
PAUSE_S = 0.05
BACK_OFF_S = 5.0
MOST_BYTES = 1 << 20
AGE, SIGNATURE = "x-pda-age-ms", "x-pda-signature"


@dataclass(frozen=True, slots=True)
class Source:
    """Where states come from. `secret_file` is shared with the leader: it lets us in, and signs what we get; `ca_file` vouches
    for an https address.
    """

    urls: Sequence[str]
    secret_file: Path | None = None
    ca_file: Path | None = None


class Feed:
    """Keeps a board fresh until it is stopped. `trouble` is why it cannot, in one line; empty while it can."""

    def __init__(self, source: Source, board: Board, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source, self._board, self._monotonic = source, board, monotonic
        authority = str(source.ca_file) if source.ca_file else None
        self._http = urllib3.PoolManager(num_pools=4, maxsize=1, retries=False, ca_certs=authority)
        self._ending = Event()
        self._thread = Thread(target=self._run, name="state-feed", daemon=True)
        self.trouble = "no answer yet"

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Poll no more. A poll under way is left behind: it holds nothing."""
        self._ending.set()

    def poll(self, url: str) -> bool:
        """One poll. True: something new was learned, or that there is nothing new; False: `trouble` says why not."""
        try:
            secret = self._source.secret_file.read_bytes().strip() if self._source.secret_file else b""
            answer, text = self._ask(url, secret)
            self.trouble = "" if answer.status in (200, 204) else f"{url}: HTTP {answer.status}"
            if answer.status == 200:
                self._learn(url, answer, text, self._vouched(url, answer, text, secret))
        except (urllib3.exceptions.HTTPError, OSError, ArithmeticError, ValueError) as error:
            self.trouble = f"{url}: {type(error).__name__}"
        return not self.trouble

    def _ask(self, url: str, secret: bytes) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        headers = {"authorization": f"Bearer {secret.decode('ascii', 'replace')}"} if secret else {}
        fields = {"after": self._board.place, "wait_s": f"{WAIT_S:.0f}"}
        limits = urllib3.Timeout(connect=CONNECT_S, read=WAIT_S + SPARE_S)
        answer = self._http.request(
            "GET", url, fields=fields, headers=headers, timeout=limits, redirect=False, preload_content=False
        )
        try:
            return answer, answer.read(MOST_BYTES + 1)
        finally:
            answer.close()

    def _learn(self, url: str, answer: urllib3.BaseHTTPResponse, text: bytes, trusted: bool) -> None:
        came_s, age_s = self._monotonic(), _milliseconds(answer.headers.get(AGE)) / 1000
        if len(text) > MOST_BYTES:
            self.trouble = f"{url}: a state of more than {MOST_BYTES} bytes"
            return
        found = read(text)
        if isinstance(found, Unreadable):
            self.trouble = f"{url}: {found.why}"
            self._board.count_unreadable()
        elif not self._board.offer(found, came_s, age_s, trusted):
            self.trouble = f"{url}: a state that is not newer than what is known"

    def _vouched(self, url: str, answer: urllib3.BaseHTTPResponse, text: bytes, secret: bytes) -> bool:
        if secret:
            made = hmac.new(secret, text, hashlib.sha256).hexdigest()
            return hmac.compare_digest(made.encode(), answer.headers.get(SIGNATURE, "").encode())
        parts = urlsplit(url)
        return (parts.scheme == "https" and self._source.ca_file is not None) or is_loopback(parts.hostname or "")

    def _run(self) -> None:
        failures = turn = 0
        while not self._ending.is_set():
            url = self._source.urls[turn % len(self._source.urls)]
            if self.poll(url):
                failures = 0
                self._ending.wait(PAUSE_S)
            else:
                failures, turn = failures + 1, turn + 1
                longest_s = min(BACK_OFF_S, 0.25 * 2.0 ** min(failures, 10))
                self._ending.wait(longest_s * (0.5 + random() / 2))  # noqa: S311 - spreads sidecars, keeps no secret


def is_loopback(host: str) -> bool:
    """Is this machine meant?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _milliseconds(value: Any) -> float:
    return float(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else 0.0

"""How do the serving certificate and the believed client authorities change while connections are open?

Every change makes a whole new context, and from then on each handshake is handed the newest one (by the callback that TLS
has for server names, which is called with or without a name). A context that is only added to would go on believing an
authority that was taken away. Connections that are open keep what they were opened with; `serving.py` ends those of an
authority that is believed no more, after the answer that is under way.

A client may show a certificate and need not: kubelets and humans have none. One that shows a certificate of nobody believed
is refused in the handshake, so whatever `getpeercert()` tells later was verified. Sessions are not resumed: a resumed one is
not verified again.

OpenSSL loads a key from a file only. It gets one that exists in memory alone, with the very bytes that were checked.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from autoscaler.companion.certificates import Facts, Pair, certificates, checked

NOTHING = ""  # no authority: whoever shows a certificate is refused


class Door:
    """The TLS side of a port. `context` is what a server listens with; `show` and `believe` change what it does."""

    def __init__(self, pair: Pair, now: float) -> None:
        """Raises ValueError for a pair that cannot be served at `now`."""
        self.facts = checked(pair, now)
        self._pair, self._authorities = pair, NOTHING
        self._current = _context(pair, NOTHING)
        self.context = _context(pair, NOTHING)
        self.context.sni_callback = self._hand_over

    def show(self, pair: Pair, now: float) -> Facts:
        """Serve this pair from the next handshake on. Raises ValueError, and goes on as before, if it cannot be served."""
        facts = checked(pair, now)
        self._current, self._pair, self.facts = _context(pair, self._authorities), pair, facts
        return facts

    def believe(self, authorities: str) -> None:
        """Believe clients of these authorities (PEM; empty: of none). Raises ValueError, and goes on as before, if they cannot
        be read.
        """
        if authorities:
            certificates(authorities.encode())
        self._current, self._authorities = _context(self._pair, authorities), authorities

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _context(pair: Pair, authorities: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an API server's client authority need not be a root
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    with _in_memory(pair.certificate) as certificate, _in_memory(pair.key) as key:
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            raise ValueError(f"the certificate cannot be served: {error.reason or error}") from error
    if authorities:
        context.load_verify_locations(cadata=authorities)
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file with this content that is on no disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

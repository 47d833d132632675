"""How do several replicas change to a new certificate without one request that an API server refuses to send?

One certificate for all replicas lies in a Secret, with everything that has to be known to renew it:

    tls.crt, tls.key      what is served
    ca.crt                what an API server is to trust: the authorities of what was, is and will be served
    next.crt, next.key    what will be served; its authority stands in ca.crt already

Every replica takes the same steps, one write at a time, each under the version that it read, so that of two only one counts:

    nothing, or nothing that is valid      make a certificate and serve it at once
    2/3 of its life over, or a name lacks  make the next one; trust both
    the next one is trusted for OVERLAP_S  serve it; the old authority is trusted until it ends

The next one is served only after whoever writes registrations has seen its authority in all of them: an API server that
does not know it yet would refuse the connection. Replicas that still serve the old one meanwhile are trusted all along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.serialization import Encoding

from autoscaler.companion.certificates import FLAWS_S, Facts, Issued, Pair, certificates, checked, told_by

LIFETIME_S = 90 * 86_400.0
RENEW_AT = 2 / 3
OVERLAP_S = 600.0  # API servers and their informers know a new bundle within seconds; ten minutes cost nothing

Issue = Callable[[], Issued]


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret holds. `trusted`: certificates in PEM, the newest first."""

    serving: Pair
    trusted: tuple[bytes, ...]
    following: Pair | None = None

    @property
    def bundle(self) -> bytes:
        """What an API server is to trust."""
        return b"".join(self.trusted)


def read(data: Mapping[str, bytes], now: float) -> Held | None:
    """What these entries hold; None if nothing in them can be served at `now`. What cannot follow is left out."""
    serving = Pair(data.get("tls.crt", b""), data.get("tls.key", b""))
    following = Pair(data.get("next.crt", b""), data.get("next.key", b""))
    trusted = _split(data.get("ca.crt", b""))
    if not trusted:
        return None
    if _valid(serving, now):
        return Held(serving, trusted, following if _valid(following, now) else None)
    return Held(following, trusted) if _valid(following, now) else None


def written(held: Held) -> dict[str, bytes]:
    """The entries of the Secret."""
    entries = {"tls.crt": held.serving.certificate, "tls.key": held.serving.key, "ca.crt": held.bundle}
    if held.following is not None:
        entries |= {"next.crt": held.following.certificate, "next.key": held.following.key}
    return entries


def step(held: Held | None, now: float, names: Sequence[str], issue: Issue, *, known: bool, overlap_s: float = OVERLAP_S) -> Held:
    """What the Secret is to hold next; the same if nothing is due. `known`: every registration trusts `held.bundle`."""
    if held is None:
        made = issue()
        return Held(made.pair, (made.authority,))
    held = replace(held, trusted=tuple(one for one in held.trusted if told_by(one).until_s > now))
    if held.following is None:
        return _with_next(held, issue()) if _ages(told_by(held.serving.certificate), now, names) else held
    if known and now - _made_s(held.following) >= overlap_s:
        return Held(held.following, held.trusted)
    return held


def _with_next(held: Held, made: Issued) -> Held:
    return replace(held, following=made.pair, trusted=(made.authority, *held.trusted))


def _ages(facts: Facts, now: float, names: Sequence[str]) -> bool:
    renew_s = facts.from_s + RENEW_AT * (facts.until_s - facts.from_s)
    return now >= renew_s or not facts.names.issuperset(name.lower() for name in names)


def _made_s(pair: Pair) -> float:
    return told_by(pair.certificate).from_s + FLAWS_S


def _valid(pair: Pair, now: float) -> Facts | None:
    try:
        return checked(pair, now)
    except ValueError:
        return None


def _split(bundle: bytes) -> tuple[bytes, ...]:
    """One PEM per certificate; empty if the bundle cannot be read."""
    try:
        return tuple(one.public_bytes(Encoding.PEM) for one in certificates(bundle))
    except ValueError:
        return ()

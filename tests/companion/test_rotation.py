"""Do replicas change to a new certificate of their own so that no API server ever meets one that it does not trust?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from cryptography import x509

from autoscaler.companion.certificates import Pair, told_by
from autoscaler.companion.issuing import SharedPair
from autoscaler.companion.rotation import OVERLAP_S, read, step, written
from autoscaler.refusal import Refusal
from tests.companion.proxies import DAY_S, NAME, made

NOW = 1_767_603_600.0
NAMES = (NAME, f"{NAME}.cluster.local")
LIFE_S = 9 * DAY_S


@dataclass(frozen=True)
class Stored:
    entries: Mapping[str, bytes]
    version: int = 0


@dataclass
class Cluster:
    """A Secret with versions, and the bundle that API servers trust; `deaf`: one of them cannot be told."""

    secret: Stored = field(default_factory=lambda: Stored({}))
    trusted: bytes = b""
    deaf: bool = False
    gone: bool = False

    def load(self) -> Stored | Refusal:
        return Refusal("Secret pd-system/x: NotFound") if self.gone else self.secret

    def save(self, before: Stored, entries: Mapping[str, bytes]) -> Stored | Refusal:
        if before.version != self.secret.version:
            return Refusal("Conflict")
        self.secret = Stored(dict(entries), before.version + 1)
        return self.secret

    def trust(self, bundle: bytes) -> Sequence[str]:
        if self.deaf:
            return ["apiservices/x: Forbidden"]
        self.trusted = bundle
        return []

    def replica(self, names: Sequence[str] = NAMES) -> SharedPair[Stored]:
        return SharedPair(self.load, self.save, self.trust, names, lifetime_s=LIFE_S)


def authority_of(pair: Pair, bundle: bytes) -> bool:
    """Whether the authority that signed this pair stands in the bundle."""
    (certificate,) = x509.load_pem_x509_certificates(pair.certificate)
    return any(one.subject == certificate.issuer for one in x509.load_pem_x509_certificates(bundle))


def served(replica: SharedPair[Stored], now: float) -> Pair:
    found = replica.look(now)
    assert isinstance(found, Pair), found
    return found


def test_replicas_that_begin_at_once_serve_one_certificate() -> None:
    cluster = Cluster()
    first, second = cluster.replica(), cluster.replica()
    before = cluster.secret
    made_first = served(first, NOW)
    assert isinstance(cluster.save(before, {}), Refusal)  # what the second one would write now is too late
    assert served(second, NOW) == made_first
    assert told_by(made_first.certificate).names == {NAME, f"{NAME}.cluster.local"}


def test_a_whole_life_of_looks_never_serves_what_is_not_trusted() -> None:
    """Four lives long, a look every four hours by two replicas in turn."""
    cluster = Cluster()
    replicas = [cluster.replica(), cluster.replica()]
    serials = set()
    for hour in range(0, int(4 * LIFE_S / 3600), 4):
        now = NOW + 3600 * hour
        for replica in replicas:
            pair = served(replica, now)
            assert authority_of(pair, cluster.trusted)
            assert told_by(pair.certificate).until_s - now > LIFE_S / 3 - 8 * 3600
            serials.add(pair.certificate)
    assert len(serials) == 6  # a new one each six days
    assert len(cluster.trusted) < 4 * 1000  # what has ended is trusted no more


def test_the_next_one_waits_until_every_registration_trusts_it() -> None:
    cluster = Cluster()
    replica = cluster.replica()
    old = served(replica, NOW)
    late = NOW + LIFE_S * 2 / 3
    cluster.deaf = True
    assert served(replica, late) == served(replica, late + 10 * OVERLAP_S) == old
    assert replica.untrusted == ["apiservices/x: Forbidden"]
    cluster.deaf = False
    assert served(replica, late + 11 * OVERLAP_S) != old
    assert replica.untrusted == []


def test_another_name_brings_another_certificate_after_the_overlap() -> None:
    cluster = Cluster()
    old = served(cluster.replica(), NOW)
    renamed = cluster.replica((*NAMES, "more.example"))
    assert served(renamed, NOW + 1) == old
    assert served(renamed, NOW + OVERLAP_S) == old
    new = served(renamed, NOW + 2 + OVERLAP_S)
    assert "more.example" in told_by(new.certificate).names


def test_a_secret_that_is_not_there_is_told() -> None:
    found = Cluster(gone=True).replica().look(NOW)
    assert isinstance(found, Refusal)
    assert "NotFound" in str(found)


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key", "ca.crt"])
def test_what_cannot_be_served_is_made_anew(broken: str) -> None:
    cluster = Cluster()
    old = served(cluster.replica(), NOW)
    cluster.secret = Stored({**cluster.secret.entries, broken: b"scribble"}, 7)
    assert served(cluster.replica(), NOW + 1) != old
    assert cluster.secret.version == 8


def test_after_all_have_slept_too_long_the_next_one_is_served_at_once() -> None:
    held = step(None, NOW, NAMES, lambda: made(LIFE_S, NOW), known=False)
    staged = step(held, NOW + LIFE_S * 0.7, NAMES, lambda: made(LIFE_S, NOW + LIFE_S * 0.7), known=True)
    assert staged.following is not None
    late = read(written(staged), NOW + LIFE_S * 1.1)
    assert late is not None
    assert late.serving == staged.following
    assert read(written(staged), NOW + LIFE_S * 3) is None

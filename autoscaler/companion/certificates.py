"""With what does the companion prove to an API server who it is, if nobody else makes certificates?

With a certificate signed by an authority made for it alone: `issue` makes both and forgets the authority's key, so nothing
else can ever be signed by what an API server was told to trust. A certificate that came from elsewhere (cert-manager) is
only looked at: `checked` says why a pair cannot be served, which is how a file that is half written is found out.

Keys are P-256: what every API server's TLS takes, 1 ms to make. A certificate is valid from FLAWS_S before it was made, for
clocks that go wrong by less.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FLAWS_S = 300.0
LONGEST_NAME = 64  # of a common name; longer ones stand among the alternative names only

Subject = x509.DNSName | x509.IPAddress


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate, what signed it behind it, and its key; both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """A pair and the authority (PEM) by which it is believed."""

    pair: Pair
    authority: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says: for whom (names and addresses, lower case), from when and until when (seconds since 1970)."""

    names: frozenset[str]
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Keys:
    """The private keys that a new certificate is made of."""

    authority: EllipticCurvePrivateKey
    serving: EllipticCurvePrivateKey


def new_keys() -> Keys:
    """Two keys that nobody has seen."""
    return Keys(generate_private_key(SECP256R1()), generate_private_key(SECP256R1()))


def issue(now: float, names: Sequence[str], lifetime_s: float, keys: Keys) -> Issued:
    """A serving certificate for these names and addresses, and its authority; both end `lifetime_s` after `now`.

    Raises ValueError for a name that no certificate can have.
    """
    number = x509.random_serial_number()
    # Each authority has a name of its own: a verifier that finds the issuer by name must not find the one before.
    signer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pd-autoscaler companion {number:x}"[:LONGEST_NAME])])
    authority_id = x509.SubjectKeyIdentifier.from_public_key(keys.authority.public_key())
    authority = (
        _blank(signer, signer, keys.authority, now, lifetime_s)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(authority_id, critical=False)
    )
    holder = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:LONGEST_NAME])])
    serving = (
        _blank(holder, signer, keys.serving, now, lifetime_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_subject(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
    )
    key = keys.serving.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(
        Pair(serving.sign(keys.authority, hashes.SHA256()).public_bytes(Encoding.PEM), key),
        authority.sign(keys.authority, hashes.SHA256()).public_bytes(Encoding.PEM),
    )


def checked(pair: Pair, now: float) -> Facts:
    """What the certificate of this pair says. Raises ValueError, in one line, for a pair that cannot be served at `now`."""
    certificate = certificates(pair.certificate)[0]
    try:
        key = load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is no private key in PEM without a password") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ValueError("the key is another certificate's")
    facts = _facts(certificate)
    if not facts.from_s <= now < facts.until_s:
        raise ValueError(f"the certificate is valid from {_date(facts.from_s)} to {_date(facts.until_s)} only")
    return facts


def told_by(certificate: bytes) -> Facts:
    """What the first certificate of this PEM says. Raises ValueError if there is none."""
    return _facts(certificates(certificate)[0])


def certificates(text: bytes) -> list[x509.Certificate]:
    """The certificates of this PEM, one at least. Raises ValueError if they cannot be read."""
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise ValueError("this is no certificate in PEM") from error


def _blank(
    holder: x509.Name, signer: x509.Name, key: EllipticCurvePrivateKey, now: float, lifetime_s: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(holder)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - FLAWS_S, UTC))
        .not_valid_after(datetime.fromtimestamp(now + lifetime_s, UTC))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> Subject:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _facts(certificate: x509.Certificate) -> Facts:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return Facts(
        frozenset(name.lower() for name in names),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

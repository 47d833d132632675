"""Where do sidecars hear of the fleets of this controller, and who else may ask?

    the live page's port    this machine; with a secret, only who shows it
    --listen                everybody who shows the secret of --state-secret-file; without one nothing is told there

The leader puts the address of the second into its Lease, so that the others ask it for their own callers (apps/forwarding.py):
the pod's IP address ($POD_IP), or the address of --listen where that names one.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from autoscaler.apps.forwarding import Forwarding
from autoscaler.apps.states import States
from autoscaler.refusal import Refusal

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes import Election

WORD = "states"  # under which the leader says where it tells of fleets


def secret_of(file: Path | None) -> bytes:
    """What --state-secret-file holds, b"" without one. Raises Refusal where that is no secret."""
    if file is None:
        return b""
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise Refusal(f"--state-secret-file {file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not secret or not all(0x21 <= byte <= 0x7E for byte in secret):
        raise Refusal(f"--state-secret-file {file}: must hold one word of printable ASCII, which callers show in a header")
    return secret


def states_of(election: Election | None, secret: bytes) -> States:
    """What is told, by whoever leads."""
    return States(secret, leads=lambda: election is None or election.term() is not None)


def elsewhere(election: Election | None) -> Forwarding:
    """Whom to ask while another one leads."""
    return Forwarding(lambda: "" if election is None else election.said(WORD))


def announce(election: Election | None, url: str) -> None:
    """Let the others know that we answer at `url` while we lead, if that is an address they can reach."""
    own = os.environ.get("POD_IP", "")
    place = urlsplit(url)
    host = ip_address(own if _is_address(own) else place.hostname or "")
    if election is not None and not host.is_unspecified:
        election.say(**{WORD: f"http://{f'[{host}]' if host.version == 6 else host}:{place.port}"})


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False

"""In which ways do gateways ask, and how must each be told no?

One row per way; the decision behind them is the same. What differs is the path, whether a body comes along, and the status
that the gateway passes on (reference/interfaces.md A1):

    decide        POST /v1/decide                JSON in and out, for a gateway with code of its own
    ext_authz     /v1/ext-authz/ANY/PATH         Envoy's HTTP service: the check is `path_prefix` + the path of the request,
                                                 with its method; a status of 5xx would be an error to Envoy, not a no
    forward_auth  /v1/forward-auth/ANY/PATH      Traefik, APISIX: any status but 2xx is passed on whole
    auth_request  /v1/auth-request/ANY/PATH      nginx: knows only 2xx, 401 and 403 and drops the body; its configuration
                                                 makes 429 of 403 (manifests/examples/gateways/nginx.conf)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reads(StrEnum):
    """What a skin takes from a body."""

    NOTHING = "nothing"  # lengths come from headers
    QUESTION = "question"  # the JSON of /v1/decide
    REQUEST = "request"  # the request of the user, perhaps cut short


@dataclass(frozen=True, slots=True)
class Skin:
    """One way to ask. `whole`: the path is `path` and nothing behind it. `refuses_with`: the only status that the gateway
    takes for a no; None: the policy's. `tells`: an admission has a JSON body.
    """

    name: str
    path: str
    whole: bool
    reads: Reads
    refuses_with: int | None = None
    tells: bool = False


SKINS = (
    Skin("decide", "/v1/decide", whole=True, reads=Reads.QUESTION, tells=True),
    Skin("ext_authz", "/v1/ext-authz", whole=False, reads=Reads.REQUEST),
    Skin("forward_auth", "/v1/forward-auth", whole=False, reads=Reads.REQUEST),
    Skin("auth_request", "/v1/auth-request", whole=False, reads=Reads.NOTHING, refuses_with=403),
)
EXACT: Mapping[str, Skin] = {skin.path: skin for skin in SKINS}
BELOW = tuple((f"{skin.path}/", skin) for skin in SKINS if not skin.whole)


def skin_of(path: str) -> Skin | None:
    """The way in which this path asks; None: it asks for something else."""
    found = EXACT.get(path)
    if found is not None:
        return found
    for prefix, skin in BELOW:
        if path.startswith(prefix):
            return skin
    return None


def skin_of_target(target: bytes) -> Skin | None:
    """The same of a request's target as it stands in its first line; None too where that has to be decoded first."""
    path, _, _ = target.partition(b"?")
    found = _EXACT.get(path)
    if found is None and path.startswith(_PREFIXES) and b"%" not in path:
        return next(skin for prefix, skin in _BELOW if path.startswith(prefix))
    return found


_EXACT: Mapping[bytes, Skin] = {path.encode(): skin for path, skin in EXACT.items()}
_BELOW = tuple((prefix.encode(), skin) for prefix, skin in BELOW)
_PREFIXES = tuple(prefix for prefix, _ in _BELOW)

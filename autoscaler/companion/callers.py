"""Who asks for a metric, and is he to be believed?

An API server passes a request on over mutual TLS and says in headers for whom (X-Remote-User and its kin). Anybody can send
those headers; they are believed only from a peer whose certificate the requestheader CA signed, with a name that is allowed
(an empty list: any name). The API server has authenticated and authorised such a request already, so it is answered. Everybody
else is a direct caller and gets 401, unless an `Authority` is there, which asks the API server whose token it is and what its
owner may do (TokenReview, SubjectAccessReview); it then also judges those that come through the front proxy.

Names and headers stand in ConfigMap kube-system/extension-apiserver-authentication, one text per key, lists as JSON; a key that
is empty, null or not there is an empty list, as API servers mean it. The authority stands there, too, and is the TLS server's
business (front_proxy.py): a certificate that gets here was verified. The rules for headers are those of Kubernetes' own
servers: the first user header with a value, all values of all group headers, extra keys in lower case with their percent
signs undone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from autoscaler.companion.failures import Failure, forbidden, unauthorized
from autoscaler.refusal import Refusal

CONFIG_MAP = "extension-apiserver-authentication"
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """Whose word is taken, and in which headers it stands, these in lower case. `allowed_names`: common names; empty: any."""

    allowed_names: tuple[str, ...]
    user_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known."""

    user: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody wants: to get one metric in one namespace."""

    namespace: str
    metric: str


class Authority(Protocol):
    """Asks the API server. Both may take as long as a request does; both answer no where it cannot be asked."""

    def identify(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""
        ...

    def allows(self, caller: Caller, access: Access) -> bool:
        """Whether this caller may."""
        ...


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may ask. `front_proxy` tells what is trusted at present; None: nothing is known yet, so nobody is."""

    front_proxy: Callable[[], FrontProxy | None]
    authority: Authority | None = None

    def admit(self, peer: Mapping[str, Any] | None, headers: Sequence[Header], access: Access) -> Caller | Failure:
        """Who asks, or why he is not answered. `peer`: his verified certificate as `ssl` tells it, None without one."""
        trusted = self.front_proxy()
        caller = None if trusted is None else through_proxy(peer, headers, trusted)
        if caller is None and self.authority is not None and (token := bearer(headers)):
            caller = self.authority.identify(token)
        if caller is None:
            return unauthorized("metrics are told to the API server's front proxy only, on behalf of a user it names")
        if self.authority is not None and not self.authority.allows(caller, access):
            return forbidden(access.metric, f"{caller.user} may not get it in namespace {access.namespace}")
        return caller


def through_proxy(peer: Mapping[str, Any] | None, headers: Sequence[Header], trusted: FrontProxy) -> Caller | None:
    """For whom the front proxy asks; None: the peer is none that is trusted, or it names nobody."""
    names = common_names(peer)
    if not peer or (trusted.allowed_names and not set(names) & set(trusted.allowed_names)):
        return None
    user = next(iter(_values(headers, trusted.user_headers)), "")
    if not user:
        return None
    return Caller(user, tuple(_values(headers, trusted.group_headers)), _extra(headers, trusted.extra_prefixes))


def common_names(peer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The common name of a certificate's subject, as `ssl.SSLSocket.getpeercert` tells it: names inside names."""
    pairs = [pair for names in (peer or {}).get("subject", ()) for pair in names]
    return tuple(value for key, value in pairs if key == "commonName")


def bearer(headers: Iterable[Header]) -> str:
    """The token in the Authorization header; empty: none."""
    kind, _, token = next(iter(_values(headers, ("authorization",))), "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def front_proxy(data: Mapping[str, str]) -> FrontProxy:
    """What the ConfigMap's data trusts. Raises Refusal for what is no list of texts: nobody is trusted by a guess."""
    return FrontProxy(
        _listed(data, "requestheader-allowed-names"),
        tuple(name.lower() for name in _listed(data, "requestheader-username-headers")),
        tuple(name.lower() for name in _listed(data, "requestheader-group-headers")),
        tuple(name.lower() for name in _listed(data, "requestheader-extra-headers-prefix")),
    )


def _listed(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    raw = data.get(key) or "null"
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = raw
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) and one.strip() for one in found):
        raise Refusal(f"{key}: {raw[:40]!a} is not a JSON list of texts")
    return tuple(one.strip() for one in found)


def _values(headers: Iterable[Header], names: Iterable[str]) -> list[str]:
    """The values that are not empty: by name in the order of `names` (in lower case), and as they came."""
    found = _decoded(headers)
    return [value for wanted in names for name, value in found if name == wanted and value]


def _extra(headers: Iterable[Header], prefixes: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in prefixes:
        for name, value in _decoded(headers):
            if name.startswith(prefix):
                key = unquote(name.removeprefix(prefix))
                extra[key] = (*extra.get(key, ()), value)
    return extra


def _decoded(headers: Iterable[Header]) -> list[tuple[str, str]]:
    return [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in headers]

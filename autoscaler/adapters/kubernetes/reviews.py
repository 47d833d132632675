"""Whose is a token, and may he do what he asks for? The API server says.

By TokenReview and SubjectAccessReview, which the ClusterRole `system:auth-delegator` allows. An answer holds for KEPT_S, so that
a client that asks every second costs the API server one question in ten; a token that was revoked is refused as much later.
Where the API server does not answer, nobody is known and nothing is allowed, and nothing of that is kept.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from autoscaler.adapters.kubernetes.api import ApiFault, Body

KEPT_S = 10.0
MOST = 1024  # answers that are kept; then all are forgotten, which costs one question each
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
SUBJECTS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class ReviewApi(Protocol):
    """What this needs of an API server."""

    def create(self, path: str, body: Body) -> Body | ApiFault:
        """A new object in a collection."""
        ...


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom the API server knows."""

    name: str
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Reviews:
    """One API server's word. Thread-safe."""

    def __init__(self, api: ReviewApi, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api, self._monotonic = api, monotonic
        self._lock = threading.Lock()  # never held while waiting for the server
        self._known: dict[Hashable, tuple[float, Any]] = {}

    def whose(self, token: str) -> User | None:
        """Who has this token; None: nobody, or it cannot be known now."""
        key = "token", hashlib.sha256(token.encode()).digest()
        known = self._kept(key)
        if known is not None:
            return known[1]  # type: ignore[no-any-return]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = self._api.create(TOKENS, body)
        return None if isinstance(answer, ApiFault) else self._keep(key, _user(answer.get("status") or {}))

    def may(self, user: User, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Whether this user may do so; False as well if it cannot be known now."""
        key = user.name, user.groups, verb, group, resource, namespace, repr(sorted(user.extra.items()))
        known = self._kept(key)
        if known is not None:
            return bool(known[1])
        spec = {
            "user": user.name,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra.items()},
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": namespace},
        }
        answer = self._api.create(
            SUBJECTS, {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        )
        if isinstance(answer, ApiFault):
            return False
        return bool(self._keep(key, (answer.get("status") or {}).get("allowed") is True))

    def _kept(self, key: Hashable) -> tuple[float, Any] | None:
        with self._lock:
            found = self._known.get(key)
        return found if found is not None and self._monotonic() - found[0] < KEPT_S else None

    def _keep(self, key: Hashable, value: Any) -> Any:
        with self._lock:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = self._monotonic(), value
        return value


def _user(status: Mapping[str, Any]) -> User | None:
    told = status.get("user") or {}
    name = told.get("username")
    if status.get("authenticated") is not True or not isinstance(name, str) or not name:
        return None
    extra = {str(key): tuple(map(str, values)) for key, values in (told.get("extra") or {}).items()}
    return User(name, tuple(map(str, told.get("groups") or ())), extra)

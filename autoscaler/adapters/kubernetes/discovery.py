"""Which kinds does the API server have, and under which names?

What was found is remembered; for the rest it is asked again, once in RETRY_S per API version for all fleets together: a
server that is frozen, or an extension server that hangs, costs a time-out per question. One thread asks; others that need
the same answer wait for it until OTHERS_S after it began, since the tick has many fleets to look at and few threads.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body
from autoscaler.adapters.kubernetes.targets import Owner, Resource, owner_of

DEEPEST = 8  # owners of owners; more would be a circle
RETRY_S = 5.0
OTHERS_S = 1.0

Kinds = dict[str, tuple[str, frozenset[str]]]


class Discovery:
    """The kinds of one API server. Thread-safe."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()  # never held while the server is asked
        self._found: dict[str, Kinds] = {}
        self._asked: dict[str, tuple[float, ApiFault | None]] = {}
        self._asking: dict[str, tuple[threading.Event, float]] = {}

    def resource(self, api_version: str, kind: str, below: str = "") -> Resource | ApiFault:
        """The resource of a kind, with this subresource; an ApiFault that says what is missing and what to do otherwise."""
        found = self._find(api_version, kind, below)
        if isinstance(found, ApiFault):
            return found
        plural, subresources = found
        if below and below not in subresources:
            advice = "target an object that can be scaled"
            return ApiFault(404, "NotScalable", f"{kind} of {api_version} has no /{below} subresource; {advice}")
        return Resource(prefix(api_version), plural)

    def top(self, owner: Owner, namespace: str) -> Owner:
        """The owner that nobody owns. Where the way up cannot be read it ends at the last one known."""
        for _ in range(DEEPEST):
            found = self.resource(owner.api_version, owner.kind)
            if isinstance(found, ApiFault):
                break
            body = self._api.get(f"{found.within(namespace)}/{quote(owner.name)}")
            above = None if isinstance(body, ApiFault) else owner_of(body)
            if above is None:
                break
            owner = above
        return owner

    def _find(self, api_version: str, kind: str, below: str) -> tuple[str, frozenset[str]] | ApiFault:
        """A kind that is not there, or without the subresource, is looked for again: its definition may be mended."""
        known = self._found.get(api_version, {}).get(kind)
        if known is None or (below and below not in known[1]):
            fault = self._ask(api_version)
            if fault is not None:
                return fault
        unknown = f"this cluster has no {kind} of {api_version}; install it, or correct target.kind and target.apiVersion"
        return self._found.get(api_version, {}).get(kind) or ApiFault(404, "UnknownKind", unknown)

    def _ask(self, api_version: str) -> ApiFault | None:
        """Have it asked, if it was not lately, by this thread or by another; what came of it."""
        with self._lock:
            asked_s, fault = self._asked.get(api_version, (float("-inf"), None))
            if time.monotonic() - asked_s <= RETRY_S:
                return fault
            others = self._asking.get(api_version)
            if others is None:
                mine = threading.Event()
                self._asking[api_version] = mine, time.monotonic()
        if others is not None:
            answered, begun_s = others
            if not answered.wait(max(0.0, begun_s + OTHERS_S - time.monotonic())):
                return ApiFault(0, "Unanswered", f"no answer yet about {api_version}")
            return self._asked[api_version][1]
        try:
            return self._listed(api_version)
        finally:
            with self._lock:
                del self._asking[api_version]
            mine.set()

    def _listed(self, api_version: str) -> ApiFault | None:
        answer = self._api.get(prefix(api_version))
        fault = answer if isinstance(answer, ApiFault) and answer.status != 404 else None
        if not isinstance(answer, ApiFault):
            try:
                self._found[api_version] = _names(answer)
            except (KeyError, TypeError, AttributeError) as error:
                fault = ApiFault(0, "Malformed", f"{api_version} answers what no list is: {type(error).__name__} {error}")
        self._asked[api_version] = time.monotonic(), fault
        return fault


def prefix(api_version: str) -> str:
    """Where an API version lives."""
    return f"/apis/{quote(api_version)}" if "/" in api_version else f"/api/{quote(api_version)}"


def _names(answer: Body) -> Kinds:
    """Kind -> (plural, subresources) of one API version."""
    resources = answer.get("resources") or ()
    below: dict[str, set[str]] = {}
    for one in resources:
        plural, _, subresource = str(one["name"]).partition("/")
        below.setdefault(plural, set()).add(subresource)
    return {str(one["kind"]): (one["name"], frozenset(below[one["name"]])) for one in resources if "/" not in str(one["name"])}

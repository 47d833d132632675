"""How do several processes keep one secret together, of which only one may change it at a time?

In one named Secret, replaced as a whole under the resourceVersion that was read: of two writers the later one is refused and
reads anew. It must be there already, empty: a Role can allow `get` and `update` of one name, but `create` only of any.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.targets import listing


class SecretApi(Protocol):
    """What this needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object."""
        ...

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        """A whole object; refused with 409 if its resourceVersion is not the current one."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """What was read: the entries, and the object they stood in. An entry that is no base64 is left out."""

    entries: Mapping[str, bytes]
    body: Body


class SharedSecret:
    """One Secret."""

    def __init__(self, api: SecretApi, namespace: str, name: str) -> None:
        self._api, self._path = api, f"{listing('/api/v1', 'secrets', namespace)}/{quote(name)}"

    def read(self) -> Content | ApiFault:
        """What it holds."""
        body = self._api.get(self._path)
        return body if isinstance(body, ApiFault) else Content(_decoded(body), body)

    def write(self, before: Content, entries: Mapping[str, bytes]) -> Content | ApiFault:
        """Let it hold exactly these entries; 409 if it is not as it was `before`."""
        data = {name: base64.b64encode(value).decode() for name, value in entries.items()}
        body = self._api.replace(self._path, before.body | {"data": data})
        return body if isinstance(body, ApiFault) else Content(_decoded(body), body)


def _decoded(body: Body) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, value in (body.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            continue
    return found

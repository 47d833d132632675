"""What do the PDAutoscalers say, for one who only passes it on?

The same lists as in policies.py, followed the same way; but every object as the API server gives it, whether a controller
could work by it or not: who answers HPA and the API server reads a status, and decides nothing. Left out is what nobody
there reads: the stored state, most of an object's bytes, and who wrote which field.

A reader must be able to tell "there is none" from "not known": `objects` is as of the last word of the API server, `trouble`
why that may not be believed any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoscaler.adapters.kubernetes.api import Api, Body
from autoscaler.adapters.kubernetes.snapshot import SLACK_S, WATCH_S, Snapshot
from autoscaler.adapters.kubernetes.targets import listing
from autoscaler.adapters.kubernetes.unlisted import told_of
from autoscaler.policy.crd.definition import GROUP, PLURAL, VERSION

Objects = tuple[Mapping[str, Any], ...]


class PoliciesTold:
    """The PDAutoscalers of these namespaces, as JSON. Any thread may ask, as often as it likes."""

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str],
        *,
        watch_s: int = WATCH_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age_s, self._monotonic = watch_s + SLACK_S, monotonic
        self._snapshots = {
            namespace: Snapshot(api, listing(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace), _kept, watch_s=watch_s)
            for namespace in namespaces
        }
        self._known: tuple[tuple[Mapping[str, Any], ...], Objects] = ((), ())  # pictures, and what is in them; replaced as one

    def objects(self) -> Objects:
        """All of them, by namespace and name, whatever their age."""
        pictures = tuple(snapshot.picture().items for snapshot in self._snapshots.values())
        of, found = self._known
        if len(of) != len(pictures) or any(new is not old for new, old in zip(pictures, of, strict=True)):
            found = tuple(picture[name] for picture in pictures for name in sorted(picture))
            self._known = pictures, found
        return found

    def trouble(self) -> str:
        """Why they are not known, or not believed any more, in one line; empty if all is well."""
        now_s = self._monotonic()
        return told_of({name: one.picture().trouble(now_s, self._max_age_s) for name, one in self._snapshots.items()})

    def stop(self) -> None:
        """Follow the cluster no longer."""
        for snapshot in self._snapshots.values():
            snapshot.stop()


def _kept(body: Body) -> Mapping[str, Any]:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    status = body.get("status")
    told = {name: value for name, value in status.items() if name != "state"} if isinstance(status, dict) else {}
    return {**body, "metadata": metadata, "status": told}

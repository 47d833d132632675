"""Of what are the pods of a target made?

Of the pod template in its spec; in a group of several pods, of the leader's, which serves. A kind that only passes a count on (a
scaling adapter) has none. The object is asked for as a list of one: `list` is what the controller itself is granted.
"""

from __future__ import annotations

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.policy.sections import Target

MISSING = ApiFault(404, "NotFound", "there is no such object; create it, or correct target.name and target.kind")


class Templates:
    """The pod templates of one cluster's targets, each asked for when it is looked at."""

    def __init__(self, api: Api) -> None:
        self._api, self._discovery = api, Discovery(api)

    def of(self, namespace: str, target: Target) -> Body | ApiFault | None:
        """The pod template of a target; None where its kind has none."""
        resource = self._discovery.resource(target.api_version, target.kind)
        if isinstance(resource, ApiFault):
            return resource
        answer = self._api.get(resource.within(namespace), fieldSelector=f"metadata.name={target.name}")
        if isinstance(answer, ApiFault):
            return answer
        found = next((one for one in answer.get("items") or () if one["metadata"]["name"] == target.name), None)
        return MISSING if found is None else _template(found.get("spec") or {}, target)


def _template(spec: Body, target: Target) -> Body | ApiFault | None:
    if target.role is not None:
        parts = {one["name"]: one for one in spec.get("roles") or ()}
        if target.role not in parts:
            return ApiFault(404, "NoSuchRole", f'it has no role "{target.role}" but {", ".join(parts)}; correct target.role')
        spec = parts[target.role].get("spec") or {}
    group = spec.get("leaderWorkerTemplate") or {}
    return group.get("leaderTemplate") or group.get("workerTemplate") or spec.get("template")

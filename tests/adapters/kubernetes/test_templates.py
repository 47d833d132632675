"""Is the template found of which a target makes the pods that serve?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.templates import MISSING, Templates
from autoscaler.policy.sections import Target
from tests.adapters.kubernetes.fake_api import REFUSED, FakeApi, named

LWS, SET, APPS = "leaderworkerset.x-k8s.io/v1", "disaggregatedset.x-k8s.io/v1", "apps/v1"
KINDS = {
    LWS: ("leaderworkersets", "LeaderWorkerSet"),
    SET: ("disaggregatedsets", "DisaggregatedSet"),
    APPS: ("deployments", "Deployment"),
}
LEADER, WORKER = {"spec": {"hostname": "leader"}}, {"spec": {"hostname": "worker"}}
ROLES = [{"name": role, "spec": {"leaderWorkerTemplate": {"workerTemplate": {"spec": {"hostname": role}}}}} for role in "ab"]


def asked(version: str, *objects: Body | ApiFault, **target: Any) -> Body | ApiFault | None:
    """The template of the target `chat`, where these objects stand."""
    api, (plural, kind) = FakeApi(), KINDS[version]
    api.holds(f"/apis/{version}", {"resources": [{"name": plural, "kind": kind}]})
    faults: list[Body | ApiFault] = [one for one in objects if isinstance(one, ApiFault)]
    api.holds(f"/apis/{version}/namespaces/prod/{plural}?metadata.name=chat", *(faults or [{"items": list(objects)}]))
    written = {"kind": kind, "apiVersion": version, "name": "chat", **target}
    return Templates(api).of("prod", Target.model_validate(written))


@pytest.mark.parametrize(
    ("version", "spec", "target", "found"),
    [
        pytest.param(LWS, {"leaderWorkerTemplate": {"workerTemplate": WORKER}}, {}, WORKER, id="pods that are all alike"),
        pytest.param(
            LWS, {"leaderWorkerTemplate": {"leaderTemplate": LEADER, "workerTemplate": WORKER}}, {}, LEADER, id="a leader apart"
        ),
        pytest.param(APPS, {"template": LEADER}, {}, LEADER, id="a Deployment"),
        pytest.param(SET, {"roles": ROLES}, {"role": "b"}, {"spec": {"hostname": "b"}}, id="one role of a set"),
        pytest.param(APPS, {"replicas": 3}, {}, None, id="a kind that passes a count on"),
    ],
)
def test_the_template_of_those_who_serve_is_found(version: str, spec: Body, target: dict[str, Any], found: Body | None) -> None:
    assert asked(version, named("chat", **spec), **target) == found


def test_what_cannot_be_read_is_told_as_what_it_is() -> None:
    assert asked(LWS) == MISSING
    assert asked(LWS, REFUSED) == REFUSED
    refused = asked(SET, named("chat", roles=ROLES), role="c")
    assert str(refused) == 'NoSuchRole: it has no role "c" but a, b; correct target.role'
    unknown = Templates(FakeApi()).of("prod", Target(name="chat"))
    assert isinstance(unknown, ApiFault)
    assert unknown.detail.startswith("this cluster has no LeaderWorkerSet")

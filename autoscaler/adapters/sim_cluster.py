"""How does the controller reach a simulated fleet in another process?

`autoscaler fleet` holds a fleet in memory and serves it on loopback: GET /fleet answers pools and replicas, POST
/scale takes the count that was seen beside the new one and answers 409 when they differ, as a real API server does
for a failed precondition; POST /flip does the same with the counts of two roles. This is the `sim` cluster of
`--cluster`; it stands behind the same port as Kubernetes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import requests

from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Flipping, FlipWay, Phase, Pool, Replica, Role
from autoscaler.ports import Fault

TIMEOUT_S = (2.0, 5.0)
VERDICTS = {200: Verdict.APPLIED, 409: Verdict.CONFLICT, 422: Verdict.REFUSED}


class SimulatedFleetClient:
    """FleetGateway over the control address of `autoscaler fleet`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it stands; a Fault when it cannot be reached or understood."""
        try:
            answer = self._session.get(f"{self._url}/fleet", timeout=TIMEOUT_S)
            answer.raise_for_status()
            return _fleet(key, answer.json(), now)
        except requests.RequestException as error:
            return Fault("cluster", f"{self._url} cannot be reached ({type(error).__name__})")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            return Fault("cluster", f"{self._url} answers what no fleet is: {error}")

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Write the absolute count, or flip, if the fleet still is what that was decided on."""
        if isinstance(action, Flip):
            path, body = "flip", asdict(action)
        else:
            path, body = "scale", {"role": action.role.value, "from": action.from_replicas, "to": action.to_replicas}
        try:
            answer = self._session.post(f"{self._url}/{path}", json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            return Outcome(action, Verdict.FAILED, f"{self._url} cannot be reached ({type(error).__name__})")
        return Outcome(action, VERDICTS.get(answer.status_code, Verdict.FAILED), answer.text[:200])


def _fleet(key: str, body: dict[str, Any], now: float) -> Fleet:
    """Ages become times on our clock: the two processes need not agree on the hour."""
    pools = {}
    for name, pool in body["pools"].items():
        replicas = tuple(_replica(replica, now) for replica in pool["replicas"])
        leaving, gpus = int(pool["leaving"]), int(pool["gpus_per_replica"])
        pools[Role(name)] = Pool(Role(name), int(pool["desired"]), replicas, gpus, leaving=leaving)
    ways = {_roles(way): FlipWay(**way) for way in body["ways"]}
    return Fleet(key, pools, ways, tuple(_flipping(flip, now) for flip in body["flips"]))


def _replica(told: dict[str, Any], now: float) -> Replica:
    since_s, born_s = now - float(told["age_s"]), now - float(told["born_age_s"])
    return Replica(told["name"], Phase(told["phase"]), since_s, born_s, address=str(told["address"]))


def _roles(told: dict[str, Any]) -> tuple[Role, Role]:
    """The two roles, taken out of what is told of a flip."""
    return Role(told.pop("from_role")), Role(told.pop("to_role"))


def _flipping(told: dict[str, Any], now: float) -> Flipping:
    from_role, to_role = _roles(told)
    phase, since_s, started_s = Phase(told.pop("phase")), now - told.pop("age_s"), now - told.pop("began_age_s")
    return Flipping(from_role=from_role, to_role=to_role, phase=phase, since_s=since_s, started_s=started_s, **told)

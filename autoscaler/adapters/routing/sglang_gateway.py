"""How is a replica routed by the SGLang model gateway?

The gateway finds its workers by their pods' labels (Kubernetes discovery) and keeps a list of them (GET, DELETE /workers). A
worker keeps the type it was registered with: another label on a pod that stays is not noticed, since only url and uid are
compared. So a new role takes two steps: out, and in once the old worker is gone. Each call makes the one step that is next,
and the caller calls until `routed` tells what it wants:

    worker            out is wanted             a role is wanted
    of that role      label away, then DELETE   label back
    of another        label away, then DELETE   the same: out first
    draining          nothing                   nothing: it is gone after --drain-settle-secs (5 s)
    none              label away                label

The label leads: within 60 s the gateway adds every pod that a selector matches, so it leaves them first, and in its new role
the gateway finds the pod itself. DELETE is for gateways that do not notice that a label went, and never for a draining
worker: a second one would end the wait of the first.

A data-parallel replica is one worker per rank (url@rank), and all of them are meant. The gateway must be one: what several
behind one name tell of their workers depends on which of them one meets (reference/engines.md B.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from autoscaler.adapters.routing.endpoint import Endpoint
from autoscaler.adapters.routing.gateway_client import GatewayClient
from autoscaler.adapters.routing.label import LabelRouting
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away
from autoscaler.ports import Fault

DISCOVERED = "smg.ai/pod-uid"
WORKERS = "/workers"
GONE = 404


class Worker(BaseModel):
    """What is used of a worker. Older gateways tell no status, only whether it is healthy; there none ever drains."""

    id: str
    url: str
    worker_type: str
    status: str | None = None
    is_healthy: bool = True
    labels: dict[str, str] = {}

    @property
    def draining(self) -> bool:
        """It gets nothing new and is gone soon."""
        return self.status == "draining"

    @property
    def ready(self) -> bool:
        """Requests are sent to it."""
        return self.is_healthy if self.status is None else self.status == "ready"

    @property
    def address(self) -> str:
        """Of http://10.0.0.1:8000@3 it is 10.0.0.1:8000."""
        return self.url.rpartition("://")[2].partition("@")[0].rstrip("/")


class Workers(BaseModel):
    """An answer to GET /workers."""

    workers: list[Worker]


class SglangGatewayRouting:
    """`Routing` by a gateway that finds engines by `label`; they answer at `port`."""

    def __init__(self, gateway: GatewayClient, port: int, label: LabelRouting) -> None:
        self._gateway, self._port, self._label = gateway, port, label

    def routed(self, pod: Endpoint) -> Role | Away | None:
        """The type of its workers if all are ready; out if none stays and none is going to be found by its label."""
        workers = self._workers(pod)
        if isinstance(workers, Fault):
            return None
        if all(worker.draining for worker in workers):
            return AWAY if self._label.routed(pod) is AWAY else None
        types = {worker.worker_type for worker in workers if worker.ready}
        ready = all(worker.ready for worker in workers)
        return next((role for role in Role if ready and types == {role.value}), None)

    def route(self, pod: Endpoint, role: Role | None) -> Fault | None:
        """Make the next step towards this role, or out."""
        workers = self._workers(pod)
        if isinstance(workers, Fault):
            return workers
        staying = [worker for worker in workers if not worker.draining]
        if role is None or any(worker.worker_type != role.value for worker in staying):
            return self._out(pod, staying)
        return None if len(staying) < len(workers) else self._label.route(pod, role)

    def _out(self, pod: Endpoint, staying: Sequence[Worker]) -> Fault | None:
        if self._label.routed(pod) is not AWAY:
            return self._label.route(pod, None)
        answers = [self._gateway.ask("DELETE", f"{WORKERS}/{worker.id}", fine=GONE) for worker in staying]
        return next((answer for answer in answers if isinstance(answer, Fault)), None)

    def _workers(self, pod: Endpoint) -> Sequence[Worker] | Fault:
        """Those at the pod's address, and those that discovery has made of it."""
        answer = self._gateway.ask("GET", WORKERS)
        if isinstance(answer, Fault):
            return answer
        try:
            listed = Workers.model_validate(answer).workers
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            return self._gateway.fault(WORKERS, f"answers no list of workers: {where}: {first['msg']}")
        here = self._address(pod)
        return [worker for worker in listed if worker.address == here or worker.labels.get(DISCOVERED) == pod.uid]

    def _address(self, pod: Endpoint) -> str:
        return f"[{pod.ip}]:{self._port}" if ":" in pod.ip else f"{pod.ip}:{self._port}"

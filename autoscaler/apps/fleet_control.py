"""How is a simulated fleet steered from another process?

The server's side of adapters/sim_cluster.py: two routes over anything that can tell its fleet and scale a pool.
"""

from __future__ import annotations

from typing import Protocol

from fastapi import FastAPI, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from pydantic import BaseModel, ConfigDict, Field

from autoscaler.apps.loopback import LOCAL_NAMES
from autoscaler.core.fleet import Fleet, Replica, Role


class Steered(Protocol):
    """A fleet in this process; both methods are safe to call from any thread."""

    def fleet(self) -> tuple[Fleet, float]:
        """The fleet as it stands, and the time on its clock."""
        ...

    def scale(self, role: Role, expected: int, replicas: int) -> bool:
        """Ask for `replicas` if `expected` is what is asked for now; False otherwise."""
        ...


class ScaleRequest(BaseModel):
    """Body of POST /scale: from the count that was seen to the one that is wanted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    role: Role
    expected: int = Field(alias="from", ge=0)
    replicas: int = Field(alias="to", ge=0, le=10_000)


def create_app(steered: Steered) -> FastAPI:
    """The control address of one simulated fleet."""
    app = FastAPI(title="pd-autoscaler simulated fleet", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES, www_redirect=False)  # no page of another site

    @app.get("/fleet")
    def fleet() -> dict[str, object]:
        """Pools, replicas, phases and ages in seconds."""
        seen, now = steered.fleet()
        return {"key": seen.key, "pools": {role.value: _pool(seen, role, now) for role in seen.pools}}

    @app.post("/scale")
    def scale(request: ScaleRequest) -> Response:
        """200 when taken, 409 when the pool is no longer what the caller saw."""
        taken = steered.scale(request.role, request.expected, request.replicas)
        return Response("scaled" if taken else f"{request.role} is not at {request.expected} any more", 200 if taken else 409)

    return app


def _pool(fleet: Fleet, role: Role, now: float) -> dict[str, object]:
    pool = fleet.pools[role]
    replicas = [_replica(replica, now) for replica in pool.replicas]
    return {"desired": pool.desired, "gpus_per_replica": pool.gpus_per_replica, "replicas": replicas}


def _replica(replica: Replica, now: float) -> dict[str, object]:
    """Ages and not times: the asker has another clock."""
    born_s = replica.since_s if replica.born_s is None else replica.born_s
    ages = {"age_s": max(0.0, now - replica.since_s), "born_age_s": max(0.0, now - born_s)}
    return {"name": replica.name, "phase": replica.phase.value, **ages}

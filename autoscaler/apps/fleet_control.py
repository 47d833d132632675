"""How is a simulated fleet steered from another process?

The server's side of adapters/sim_cluster.py: routes over anything that can tell its fleet, scale a pool and flip replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from fastapi import FastAPI, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from pydantic import BaseModel, ConfigDict, Field

from autoscaler.apps.loopback import LOCAL_NAMES
from autoscaler.core.action import Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Flipping, Replica, Role
from autoscaler.core.reason import Reason

STATUSES = {Verdict.APPLIED: 200, Verdict.CONFLICT: 409, Verdict.REFUSED: 422}


class Steered(Protocol):
    """A fleet in this process; every method is safe to call from any thread."""

    def fleet(self) -> tuple[Fleet, float]:
        """The fleet as it stands, and the time on its clock."""
        ...

    def scale(self, role: Role, expected: int, replicas: int) -> bool:
        """Ask for `replicas` if `expected` is what is asked for now; False otherwise."""
        ...

    def flip(self, flip: Flip) -> Outcome:
        """Have replicas change their role if the pools still are what it was decided on."""
        ...


class ScaleRequest(BaseModel):
    """Body of POST /scale: from the count that was seen to the one that is wanted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    role: Role
    expected: int = Field(alias="from", ge=0)
    replicas: int = Field(alias="to", ge=0, le=10_000)


class FlipRequest(BaseModel):
    """Body of POST /flip: how many of which role for how many of which, and the counts that were seen."""

    model_config = ConfigDict(extra="forbid")

    from_role: Role
    to_role: Role
    from_replicas: int = Field(ge=1, le=10_000)
    to_replicas: int = Field(ge=1, le=10_000)
    reason: Reason
    seen: Mapping[Role, int]

    def core(self) -> Flip:
        """The same as a fleet takes it."""
        return Flip(self.from_role, self.to_role, self.from_replicas, self.to_replicas, self.reason, dict(self.seen))


def create_app(steered: Steered) -> FastAPI:
    """The control address of one simulated fleet."""
    app = FastAPI(title="pd-autoscaler simulated fleet", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES, www_redirect=False)  # no page of another site

    @app.get("/fleet")
    def fleet() -> dict[str, object]:
        """Pools, replicas, phases and ages in seconds; how roles can be changed, and who is changing now."""
        seen, now = steered.fleet()
        ways = [{"from_role": of, "to_role": to, **asdict(way)} for (of, to), way in seen.flip_ways.items()]
        flips = [_flipping(flip, now) for flip in seen.flips]
        pools = {role.value: _pool(seen, role, now) for role in seen.pools}
        return {"key": seen.key, "pools": pools, "ways": ways, "flips": flips}

    @app.post("/scale")
    def scale(request: ScaleRequest) -> Response:
        """200 when taken, 409 when the pool is no longer what the caller saw."""
        taken = steered.scale(request.role, request.expected, request.replicas)
        return Response("scaled" if taken else f"{request.role} is not at {request.expected} any more", 200 if taken else 409)

    @app.post("/flip")
    def flip(request: FlipRequest) -> Response:
        """200 when taken, 409 when a pool is no longer what the caller saw, 422 when it cannot be done."""
        outcome = steered.flip(request.core())
        return Response(outcome.detail or "flipped", STATUSES.get(outcome.verdict, 500))

    return app


def _pool(fleet: Fleet, role: Role, now: float) -> dict[str, object]:
    pool = fleet.pools[role]
    replicas = [_replica(replica, now) for replica in pool.replicas]
    counts = {"desired": pool.desired, "leaving": pool.leaving, "gpus_per_replica": pool.gpus_per_replica}
    return {**counts, "replicas": replicas}


def _replica(replica: Replica, now: float) -> dict[str, object]:
    """Ages and not times: the asker has another clock."""
    born_s = replica.since_s if replica.born_s is None else replica.born_s
    ages = {"age_s": max(0.0, now - replica.since_s), "born_age_s": max(0.0, now - born_s)}
    return {"name": replica.name, "phase": replica.phase.value, "address": replica.address, **ages}


def _flipping(flip: Flipping, now: float) -> dict[str, object]:
    told = {name: value for name, value in asdict(flip).items() if name not in {"since_s", "started_s"}}
    return {**told, "age_s": max(0.0, now - flip.since_s), "began_age_s": max(0.0, now - flip.started_s)}

"""Who plays, and who cannot?

    pd-autoscaler   this product's controller, whole, through its own doors
    a peer          by its name in peers/catalogue.py, through the same guard and delays
    a reference     searched or computed with all requests known beforehand: lower-bound, best-static, oracle, clairvoyant-flipper

A `Job` is a case, a contender and a seed. Jobs share nothing and can be sent to other processes; the same job gives the same
result, and all jobs of one case and seed see the same requests and cold starts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Role
from autoscaler.ports import Managed
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.scenarios import Case

OURS = "pd-autoscaler"
HEADROOMS = (0.0, 0.05, 0.1, 0.3, 0.6)
LOWER_BOUND, BEST_STATIC, ORACLE, FLIPPER = REFERENCES = ("lower-bound", "best-static", "oracle", "clairvoyant-flipper")
ALIKE = frozenset({FLIPPER})  # reckons with replicas that are worth the same in either role
UNHURRIED = frozenset({"static", LOWER_BOUND, BEST_STATIC})  # what they have stands from the first second to the last
SEARCHED = frozenset({BEST_STATIC, ORACLE})


@dataclass(frozen=True, slots=True)
class Contender:
    """Who plays. `point` is the headroom knob's value, None for a reference; `tuning` is for our own controller only."""

    name: str
    point: float | None = None
    published: bool = True
    tuning: Managed | None = field(default=None, hash=False)  # it holds mappings


@dataclass(frozen=True, slots=True)
class Job:
    """One contender in one case. `attainment` is what the references are searched for."""

    case: Case
    contender: Contender
    seed: int = 1
    attainment: float = 0.99


def field_of(tuning: Managed | None, peers: Sequence[str], *, sweep: bool, references: bool) -> tuple[Contender, ...]:
    """Everybody who plays: ours and the peers at their published points, or at all five; then the references."""
    own = tuning.policy.demand.headroom if tuning else DemandLimits().headroom
    field_ = [Contender(OURS, point, point == own, tuning) for point in (sorted({*HEADROOMS, own}) if sweep else [own])]
    for name in peers:
        entry = PEERS[name]
        points = entry.points if sweep else (entry.published,)
        field_ += [Contender(name, point, point == entry.published) for point in points]
    return (*field_, *(Contender(name) for name in (REFERENCES if references else ())))


def hindrance(name: str, gpus: Mapping[Role, int]) -> str | None:
    """Why this contender cannot play with replicas of so many GPUs, in words for people; None if it can."""
    if name in ALIKE and len(set(gpus.values())) > 1:
        return "cannot be played: it reckons with replicas of equal GPUs"
    return None


def unhurried(job: Job) -> bool:
    """Whether start-up times make no difference to it: nothing of its own ever starts, and nothing that is lost starts again."""
    return job.contender.name in UNHURRIED and not job.case.scenario.fleet.losses


def dealt(jobs: Collection[Job]) -> list[tuple[Job, ...]]:
    """The jobs as they are handed out, each lot to one process: the longest cases first, since what is begun last should
    be short, and in each the references, which search. A scenario at another start-up time is the same run for whoever
    never starts a replica (`unhurried`), and the oracle is searched from the best fixed fleet (`SEARCHED`), so those jobs
    stay together.
    """
    lots: dict[tuple[object, ...], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (-job.case.duration_s, job.contender.name not in REFERENCES)):
        scenario, _, start_up = job.case.name.partition("@")
        name = job.contender.name
        who = SEARCHED if name in SEARCHED else job.contender
        together = name in SEARCHED or unhurried(job)
        lots.setdefault((scenario, "" if together else start_up, who, job.seed), []).append(job)
    return [tuple(lot) for lot in lots.values()]

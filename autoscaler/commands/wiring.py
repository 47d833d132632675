"""What is a controller put together of: for policy files, and for the PDAutoscalers of a cluster?

    policies        roster                      gateway                     written back
    files           FixedRoster                 Kubernetes or simulated     nothing
    objects         PolicyObjects (follows)     Kubernetes, with a Ledger   status and Events, by a Scribe

Objects have a place where transactions are stored, so theirs are drained and flipped, by a Conductor; files have none.

Files are read once and their names are trusted; objects come, go and change, so their controller beats every second and
looks at each fleet as often as its own policy says.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.adapters.clock import SystemClock
from autoscaler.adapters.engines.gauges import EngineGauges
from autoscaler.adapters.prometheus import GRACE_S, Endpoint, PrometheusPast, PrometheusSignals, load_profiles, queries_for
from autoscaler.adapters.sim_cluster import SimulatedFleetClient
from autoscaler.controller import Controller
from autoscaler.errands import Daemons, Pace, spare
from autoscaler.policy_file import load_policies
from autoscaler.ports import Alone, Fitter, FleetGateway, Leadership, Managed, Roster, States, StatusSink
from autoscaler.publishing import Publishing
from autoscaler.refusal import Refusal
from autoscaler.roster import FixedRoster, managed

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes import Election, KubeApi, Scribe
    from autoscaler.conductor import Conductor

BEAT_S = 1.0  # the smallest tickSeconds a policy may have
FIRST_LIST_S = 10.0
LEASE = "pd-autoscaler"
LEASE_PART = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CLUSTERS = "kubernetes, kubernetes:CONTEXT, sim:http://HOST:PORT"


@dataclass(frozen=True, slots=True)
class Doors:
    """What a controller works through. `beat_s`: how often it ticks. `trouble`: why fleets may be missing, else empty."""

    roster: Roster
    gateway: FleetGateway
    beat_s: float
    election: Election | None = None
    scribe: Scribe | None = None
    conductor: Conductor | None = None
    trouble: Callable[[], str] = str

    def start(self) -> None:
        """Begin what runs beside the ticks."""
        for one in (self.election, self.scribe, self.conductor):
            if one is not None:
                one.start()

    def stop(self, *, hand_over: bool) -> None:
        """End it. `hand_over`: no write is under way, so that a successor may act at once."""
        for one in (self.conductor, self.scribe):
            if one is not None:
                one.stop()
        if self.election is not None:
            self.election.stop(hand_over=hand_over)


def from_files(files: Sequence[Path], cluster: str, *, lease: str | None = None, dry_run: bool) -> Doors:
    """The fleets of policy files. Raises Refusal for what cannot work."""
    place = _place(lease) if lease else None
    documents = [loaded.document for loaded in load_policies(files)]
    fleets = [managed(document, recommend_only=dry_run) for document in documents]
    known = _known()
    for fleet in fleets:  # a misspelt signal is told now, not at every tick
        known(fleet)
    beat_s = min(fleet.tick_s for fleet in fleets)
    election = None
    if _is_kubernetes(cluster):
        from autoscaler.adapters.kubernetes import Election, KubernetesFleet  # 0.5 s that a simulated cluster does not pay

        api = _connect(cluster)
        election = Election(api, *place, _identity()) if place else None
        gateway: FleetGateway = KubernetesFleet(api, {one.key: one for one in documents}, leadership=election)
    else:
        gateway = _simulated(cluster, len(documents))
        if lease:
            raise Refusal(f"--lease {lease}: only --cluster kubernetes has Leases, not {cluster!r}")
    return Doors(FixedRoster(fleets), gateway, beat_s, election)


def from_objects(cluster: str, namespaces: Sequence[str], *, lease: str | None = None, dry_run: bool) -> Doors:
    """The fleets of the PDAutoscalers in these namespaces (ours, if none is named), written back to unless it is a dry run.

    Raises Refusal for what cannot work.
    """
    if not _is_kubernetes(cluster):
        raise Refusal(f"--cluster {cluster}: without --policy the policies are objects of a Kubernetes cluster")
    from autoscaler.adapters.kubernetes import Book, Election, KubernetesFleet, Ledger, PolicyObjects, Scribe, home
    from autoscaler.conductor import Conductor, routing_of

    api = _connect(cluster)
    own = home(_context(cluster))
    for namespace in namespaces:
        if not LEASE_PART.fullmatch(namespace):
            raise Refusal(f"--namespace {namespace!r}: must be 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends")
    objects = PolicyObjects(api, tuple(dict.fromkeys(namespaces)) or (own,), recommend_only=dry_run, check=_known())
    objects.ready(FIRST_LIST_S)
    if dry_run:
        return Doors(objects, KubernetesFleet(api, objects), BEAT_S, trouble=objects.trouble)
    namespace, name = _place(lease) if lease else (own, LEASE)
    identity = _identity()
    election = Election(api, namespace, name, identity)
    election.count_on_from(objects.newest_term)
    ledger = Ledger(api, objects.kept)
    scribe = Scribe(objects.kept, ledger, api, election, identity)
    book = Book(ledger, objects.kept)
    fleets = KubernetesFleet(api, objects, ledger=ledger, leadership=election, book=book)
    conductor = Conductor(fleets, book, objects, partial(routing_of, api=api), election, SystemClock().now)
    return Doors(objects, fleets, BEAT_S, election, scribe, conductor, objects.trouble)


def publishing(doors: Doors, states: States) -> Publishing:
    """What tells sidecars of the fleets behind these doors, while this process leads."""
    return Publishing(states, EngineGauges(), doors.election or Alone(), SystemClock().now)


def controller(
    doors: Doors, prometheus: Endpoint, sinks: Sequence[StatusSink], fitter: Fitter, telling: Publishing | None = None
) -> Controller:
    """The controller behind these doors, for as long as it runs."""
    signals = PrometheusSignals(prometheus, load_profiles(), grace_s=GRACE_S)
    own: tuple[StatusSink, ...] = () if doors.scribe is None else (doors.scribe,)
    leadership: Leadership | None = doors.election
    return Controller(
        doors.roster,
        SystemClock(),
        signals,
        doors.gateway,
        (*sinks, *own),
        leadership,
        pace=Pace(Daemons(), doors.beat_s, spare=spare()),
        fitter=fitter,
        past=PrometheusPast(prometheus),
        publishing=telling,
    )


def one_tick(doors: Doors, prometheus: Endpoint) -> Controller:
    """The controller for a single tick: with all the time there is, no threads, and no second look at slow queries."""
    signals = PrometheusSignals(prometheus, load_profiles(), grace_s=prometheus.timeout_s)
    return Controller(doors.roster, SystemClock(), signals, doors.gateway)


def endpoint(
    prometheus: str, headers: Sequence[str], token_file: Path | None, ca_file: Path | None, query_timeout_s: float
) -> Endpoint:
    """Where Prometheus is, from the options that say so. Raises Refusal for what cannot work."""
    return Endpoint(prometheus, query_timeout_s, headers=_headers(headers), token_file=token_file, ca_file=ca_file)


def _known() -> Callable[[Managed], object]:
    """Raises Refusal for a fleet whose signals nobody can ask for."""
    profiles = load_profiles()
    return lambda fleet: queries_for(fleet.engine, fleet.gateway, fleet.queries, profiles)


def _is_kubernetes(cluster: str) -> bool:
    kind, colon, where = cluster.partition(":")
    return kind == "kubernetes" and bool(colon) == bool(where)


def _context(cluster: str) -> str | None:
    return cluster.partition(":")[2] or None


def _connect(cluster: str) -> KubeApi:
    from autoscaler.adapters.kubernetes import connect

    return connect(_context(cluster))


def _simulated(cluster: str, count: int) -> FleetGateway:
    kind, _, where = cluster.partition(":")
    if kind != "sim" or not where.startswith(("http://", "https://")):
        raise Refusal(f"--cluster {cluster!r}: not a cluster this version knows (allowed: {CLUSTERS})")
    if count > 1:
        raise Refusal(f"--policy: {count} policies, but a simulated cluster holds one fleet")
    return SimulatedFleetClient(where)


def _place(lease: str) -> tuple[str, str]:
    """(namespace, name) of a Lease."""
    namespace, slash, name = lease.partition("/")
    if not slash or not LEASE_PART.fullmatch(namespace) or not LEASE_PART.fullmatch(name):
        raise Refusal(f"--lease {lease!r}: must be NAMESPACE/NAME in lower-case letters, digits and '-'")
    return namespace, name


def _identity() -> str:
    """Who we are among the candidates and in Events; two processes of one pod name never share it."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}-{secrets.token_hex(4)}".lower()


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for name, equals, _ in split:
        if not equals or not name.strip():
            raise Refusal(f"--header {name!r}: must be NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in split}

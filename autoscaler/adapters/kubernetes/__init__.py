"""How does the controller reach the replicas of a real cluster?

    api.py            one request: a dict or an `ApiFault`, always within a time-out
    answers.py        JSON that is too deep to be read does not end the reading
    snapshot.py       list + watch of one kind in one thread; readers take an immutable picture and never wait
    discovery.py      which kinds the server has
    targets.py        the object that is scaled: what it wants, who owns it, whether it is being rolled out
    templates.py      of what the pods of a target are made
    roles.py          one role inside a DisaggregatedSet, which is scaled without an object of its own
    pods.py           its pods, folded into replicas: whole groups, not pods
    complaints.py     what events say about replicas that do not come
    shortages.py      why replicas are missing, each counted once
    objections.py     who else writes the object: an owner, another autoscaler
    followers.py      which of those write what we publish for them
    publishing.py     what is published of a pool that is handed to them, and whether they follow
    handing.py        how it comes to be published
    metrics_api.py    who answers for external metrics, and whether autoscalers may be exact
    views.py          which lists are followed, and what they say now
    standing.py       one target as it stands, put together from those lists
    writing.py        the patch that writes a count, and what became of it
    memories.py       what is remembered of a pool between two looks
    transactions/     drains and flips: which are under way, who goes, what the fleet is going to be
    single_pods.py    one pod written: told that it is the one to go, or deleted so that its group starts anew
    fleet_gateway.py  `FleetGateway` over all of these
    lease.py          which of several controllers may act
    policies.py       the `Roster` of a cluster: its PDAutoscalers, and which of them can be worked by
    unlisted.py       why the PDAutoscalers of a namespace are not known
    policies_told.py  the same objects as they are, for one who only passes on what they tell
    one_map.py        one ConfigMap, followed
    shared_secret.py  one Secret that several processes keep together
    registrations.py  the authority by which API servers know us
    reviews.py        whose a token is, and what he may do
    ledger.py         status and intents written so that of two leaders only the later one acts
    story.py          a tick's Status as the status of an object
    events.py         what happened, as Events, without floods
    scribe.py         when all of that is written

Everything is read as raw dicts and cut down to the few fields used here at once: 2,000 typed pods cost 2.1 s of CPU and
155 MiB, the same as trimmed dicts 0.8 s and 22 MiB (reference/python.md 1.5).

What is named here is imported when it is asked for: a process that only follows a list (commands/serve.py) does without the
15 MB of what the controller needs besides.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes.api import KubeApi, connect, home
    from autoscaler.adapters.kubernetes.fleet_gateway import KubernetesFleet
    from autoscaler.adapters.kubernetes.lease import Election
    from autoscaler.adapters.kubernetes.ledger import Ledger
    from autoscaler.adapters.kubernetes.policies import PolicyObjects
    from autoscaler.adapters.kubernetes.scribe import Scribe
    from autoscaler.adapters.kubernetes.transactions.book import Book

__all__ = ["Book", "Election", "KubeApi", "KubernetesFleet", "Ledger", "PolicyObjects", "Scribe", "connect", "home"]

_ROOMS = {
    "Book": "transactions.book",
    "Election": "lease",
    "KubeApi": "api",
    "KubernetesFleet": "fleet_gateway",
    "Ledger": "ledger",
    "PolicyObjects": "policies",
    "Scribe": "scribe",
    "connect": "api",
    "home": "api",
}


def __getattr__(name: str) -> Any:
    """What is named above, from its room. Raises AttributeError for any other name."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

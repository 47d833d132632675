"""What do a role's own signals say about how fast its replicas work?

One window of a service histogram gives one point: the mean time, and at what load that was, so that a profile's formula can
be held against it (core/profile.py):

    QUEUE    mean prefill time / prompts in work at once  ~  a0 + a1 n + a2 (1 + cv2) n^2    n: mean uncached tokens
    BATCH    mean time between two tokens                 ~  b0 + b1 B + b2 B k    B: requests in the step, k: tokens of each

Both are told in the terms that capacity is computed in, so what those terms leave out is in the factors and comes out again.
Prompts that are worked on together stretch each other: by Little's law the time one needs of the replica is the time it is in
work over the number in work.

B must be right to a few percent: errors in it look as if the load did not matter, and at constant load there is little else
to learn from. Gauges are too coarse (12 looks at 10 requests: 9 % off). But all times between tokens together are the time
that requests spent in decode, so their sum is the mean number of requests times the seconds that the window really spans. Those
seconds stay the same, so they are learned slowly, as sums over gauges. A step counts once for each of its requests, so the
mean over tokens sees one more than the mean over time when requests come as they like: B = 1 + mean. k is a slow mean, too.

No window teaches in which the serving replicas changed: a replica's first steps compile and capture graphs, a leaving one's
batch runs dry, and a flipped one had other work before. Nor does one with too few samples, one whose signals are stale or
partial, or one whose slowest twentieth carries most of the time: one prompt of 30 s among sixty of 0.1 s carries 83 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from autoscaler.core.capacity import Shape
from autoscaler.core.factors import Triple, Window
from autoscaler.core.fleet import ROLE_FACTS, Phase, Pool, Role, Sizing
from autoscaler.core.observation import Freshness, Histogram, Observation, RoleSignals, Unknown, believable
from autoscaler.core.profile import ReplicaProfile

SLOWEST_SHARE = 0.05
SPAN_GAIN, TOKENS_GAIN = 0.02, 1.0  # of 50 windows, and of the newest: what requests hold is smoothed already (resident.py)
OTHER_TOKENS = math.log(2.0)  # requests that hold twice as much, or half, are others: their mean begins anew


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen of one role since `begun_s`, while the same `members` served: how many looks at pods, how many of these
    were `busy`, and the requests running in them together.

    Slow means go on from window to window: `tokens` that a request holds, `mean_running` requests in a pod by its gauge, and
    the seconds `mean_spent_s` that a pod's requests spent by the histogram.
    """

    members: frozenset[str] = frozenset()
    begun_s: float = -math.inf
    pods: int = 0
    busy: int = 0
    requests: float = 0.0
    tokens: float = 0.0
    mean_running: float = 0.0
    mean_spent_s: float = 0.0
    windows: int = 0

    def emptied(self, now: float) -> Looks:
        """For the next window."""
        return replace(self, begun_s=now, pods=0, busy=0, requests=0.0)


def looked(before: Looks, role: Role, observation: Observation, max_age_s: float) -> Looks:
    """The same after one more look; begun anew when the serving replicas have changed."""
    pool, gauges = observation.fleet.pools[role], observation.signals.gauges
    looks = _steady(before, pool, observation.now, max_age_s)
    if isinstance(gauges, Unknown):
        return looks
    running = [gauges[name].running for name in looks.members if name in gauges and gauges[name].age_s <= max_age_s]
    sane = [count for count in running if 0 <= count < math.inf]
    return replace(
        looks,
        pods=looks.pods + len(sane),
        busy=looks.busy + sum(count > 0 for count in sane),
        requests=looks.requests + sum(sane),
    )


def window_of(
    role: Role, observation: Observation, looks: Looks, profile: ReplicaProfile, shape: Shape | None, freshness: Freshness
) -> tuple[Window | str, Looks]:
    """What the window that ends now says beside the profile, or why it says nothing; and the looks with their slow means moved
    on. `shape`: the mean request, as capacity takes it.
    """
    partial = observation.coverage(role, freshness).unknown
    signals, law = observation.signals.roles.get(role, RoleSignals()), _LAWS[ROLE_FACTS[role].sizing]
    service = _believed(signals.service, law.most_by_slowest, freshness.min_samples)
    if partial is not None or shape is None or not looks.pods:
        return _told(partial) if partial else "no request's size is known" if shape is None else "no pod was seen", looks
    if isinstance(service, str):
        return service, looks
    looks = _moved_on(looks, shape.resident_tokens, service.total or 0.0)
    return law.window(_Seen(signals, service, looks, profile, shape, freshness)), looks


def _steady(looks: Looks, pool: Pool, now: float, lag_s: float) -> Looks:
    """The looks so far, or none while one leaves, when others serve now, or one serves anew. The next window begins `lag_s`
    after that, since what is seen may be as old. At the first look nothing is known to have changed. A clock that stepped back
    begins anew, too.
    """
    serving = pool.in_phase(Phase.SERVING)
    members = frozenset(replica.name for replica in serving)
    quiet_s = min(now, max((replica.since_s for replica in serving), default=now)) + lag_s
    if pool.in_phase(Phase.DRAINING) or (looks.members and members != looks.members):
        quiet_s = now + lag_s
    elif members == looks.members and quiet_s <= looks.begun_s <= now + lag_s:
        return looks
    return replace(looks.emptied(max(now, quiet_s)), members=members)


def _believed(service: Histogram | Unknown, most_by_slowest: float, min_samples: int) -> Histogram | str:
    """The histogram, or why its mean is not to be believed."""
    if isinstance(service, Unknown):
        return _told(service)
    if not service.samples >= min_samples:  # also where samples is NaN
        return f"{service.samples:.0f} samples in the window, {min_samples} are needed"
    mean_s, slow = service.mean, _slowest(service)
    if mean_s is None or not 0 < mean_s < math.inf:
        return f"{service.total} s for {service.samples:.0f} samples is no time"
    if not slow <= most_by_slowest:
        return f"the slowest {SLOWEST_SHARE:.0%} took at least {slow:.0%} of the time, as in a stall"
    return service


def _slowest(service: Histogram) -> float:
    """The share of all time that the slowest twentieth took at least: each as long as its bucket's lower edge. Without edges
    0, and the window's worth is for core/factors.py to judge.
    """
    left, carried_s, above = SLOWEST_SHARE * service.samples, 0.0, service.samples
    lower_edges, below = (0.0, *service.edges[:-1]), (0.0, *service.counts[:-1])
    for lower_edge, fewer in zip(reversed(lower_edges), reversed(below), strict=True):
        taken = min(left, above - fewer)
        carried_s += taken * lower_edge
        left, above = left - taken, fewer
    return carried_s / service.total if service.total else 0.0


def _moved_on(looks: Looks, tokens: float, spent_s: float) -> Looks:
    """The slow means, moved by this window: from the first one on by 1/2, 1/3 ... down to their gains."""
    anew = not looks.windows or abs(math.log(tokens / looks.tokens)) > OTHER_TOKENS
    share = 1 / (looks.windows + 1)
    gain = max(share, SPAN_GAIN)
    return replace(
        looks,
        tokens=tokens if anew else looks.tokens + max(share, TOKENS_GAIN) * (tokens - looks.tokens),
        mean_running=looks.mean_running + gain * (looks.requests / looks.pods - looks.mean_running),
        mean_spent_s=looks.mean_spent_s + gain * (spent_s / len(looks.members) - looks.mean_spent_s),
        windows=looks.windows + 1,
    )


def _told(unknown: Unknown) -> str:
    return unknown.detail or str(unknown.gap)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a law looks at. `service` has samples and a total above zero."""

    signals: RoleSignals
    service: Histogram
    looks: Looks
    profile: ReplicaProfile
    shape: Shape
    freshness: Freshness


def _prompts(seen: _Seen) -> Window | str:
    tokens = believable(seen.signals.tokens_per_request, seen.freshness)
    if isinstance(tokens, Unknown):
        return _told(tokens)
    a0, a1, a2 = seen.profile.prefill_s
    shared_by = max(1.0, seen.looks.requests / seen.looks.busy) if seen.looks.busy else 1.0
    terms = (a0, a1 * tokens.value, a2 * (1 + seen.shape.cv2) * tokens.value**2)
    return _window(terms, (seen.service.mean or 0.0) / shared_by)


def _steps(seen: _Seen) -> Window | str:
    looks, service = seen.looks, seen.service
    if not looks.mean_running:
        return "nothing was running at any look"
    requests = 1 + looks.mean_running / looks.mean_spent_s * (service.total or 0.0) / len(looks.members)
    b0, b1, b2 = seen.profile.decode_at(requests)
    return _window((b0, b1 * requests, b2 * requests * looks.tokens), service.mean or 0.0)


def _window(terms: Triple, seconds: float) -> Window | str:
    return Window(terms, seconds) if 0 < sum(terms) < math.inf else f"the profile gives {sum(terms):g} s for this point"


@dataclass(frozen=True, slots=True)
class _Law:
    """How a kind of role is measured, and how much of the time its slowest twentieth may take. Prompts differ (39 % where
    their times have cv2 = 5.6, as on Mooncake), the steps of one window hardly do.
    """

    window: Callable[[_Seen], Window | str]
    most_by_slowest: float


_LAWS: Mapping[Sizing, _Law] = {Sizing.QUEUE: _Law(_prompts, 0.5), Sizing.BATCH: _Law(_steps, 0.2)}

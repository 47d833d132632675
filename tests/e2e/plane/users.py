"""Are there users while something is done to the engines, and did any of them notice?"""

from __future__ import annotations

import math
from contextlib import ExitStack

from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.town import Town
from tests.engines.ledger import End
from tests.engines.routing import Router
from tests.engines.traffic import Fate, Traffic

RPS = 30.0
HESITATES_S = 0.3  # from a router's choice until the engine has the request; less than towns settle
QUICK_S = 0.01


def users(town: Town, during: ExitStack, router: Router | None = None) -> Traffic:
    """Requests by this router (the town's own, by label), from now on."""
    traffic = Traffic(router or town.engines.router, town.fleet.ledger, RPS)
    traffic.hesitates_s = HESITATES_S
    during.enter_context(traffic)
    wait_until(lambda: traffic.sent >= RPS, "users are there")
    return traffic


def nobody_noticed(town: Town, traffic: Traffic) -> None:
    """Every request was served, and every leg of it ended well."""
    traffic.finish()
    assert {fate: names for fate in Fate if fate is not Fate.SERVED and (names := traffic.ended(fate))} == {}
    assert len(traffic.fates) == traffic.sent > 0
    assert [end for end in (End.LOST_BY_ACT, End.LOST_BY_FAULT, None) if town.fleet.ledger.ended(end)] == []


def keep_busy(town: Town, *pods: str) -> None:
    """What these engines compute from now on they never end by themselves; each has something."""
    for pod in pods:
        town.engine(pod).takes_s = math.inf
    wait_until(lambda: all(town.engine(pod).open for pod in pods), f"{pods} are busy")


def let_end(town: Town, *pods: str) -> None:
    """What they have is done, and what comes is quick again."""
    for pod in pods:
        engine = town.fleet.engines[pod]
        engine.takes_s = QUICK_S
        engine.release()

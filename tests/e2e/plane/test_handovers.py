"""Does what one controller has begun come to its end if it is killed in the middle, by another one, with nobody the wiser?

Two real controllers under one Lease, a page of canned numbers for Prometheus, stub engines at the pods' addresses. What is
done is decided by the controller itself: it sees a fleet with too many replicas of a role, or with too few of one and too
many of the other and no GPU to spare. Figures are logged (`pytest --log-level=INFO -rP`).
"""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.conftest import FoundTown
from tests.e2e.plane.sites import AT_ONCE, Load, Running
from tests.e2e.plane.test_tick import prometheus, rows
from tests.e2e.plane.town import Town
from tests.e2e.plane.users import keep_busy, let_end, nobody_noticed, users
from tests.e2e.plane.watching import Watching
from tests.e2e.processes import wait_for
from tests.engines.sglang import Sglang
from tests.engines.vllm import Vllm

__all__ = ["prometheus"]  # a fixture

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.plane, pytest.mark.slow]

PREFILL, DECODE = Role.PREFILL, Role.DECODE
QUICK = {"tolerance": 0.05, "stabilizationSeconds": 0, "cooldownSeconds": 0, "step": AT_ONCE}
FAIL_OVER_S = 20.0
SHAPE = {"promptTokens": 2000, "outputTokens": 100}
DECIDES_S = 60.0

Numbers = Callable[[float], None]


def policy(town: Town, down: dict[str, Any], **spec: Any) -> None:
    """A policy that is looked at every second."""
    behaviour = {"tickSeconds": 1, "scaleUp": {"step": AT_ONCE}, "scaleDown": down, "flip": spec.pop("flip", {})}
    town.policy(gateway="llm-d", requestShape=SHAPE, behaviour=behaviour, **spec)


class Pair:
    """Two controllers over one town, the first of which leads."""

    def __init__(self, town: Town, load: Load, folder: Path, during: ExitStack) -> None:
        place = [town.namespace], f"{town.namespace}/pd-autoscaler"
        self.first = Running(folder / "first.log", load, *place)
        during.callback(self.first.close)
        self.first.until_leading()
        self.second = Running(folder / "second.log", load, *place)
        during.callback(self.second.close)

    def kill_the_first(self) -> float:
        """SIGKILL, and the seconds until the second leads."""
        self.first.process.process.send_signal(signal.SIGKILL)
        began_s = time.monotonic()
        self.second.until_leading()
        return time.monotonic() - began_s


@pytest.fixture
def load(prometheus: tuple[str, list[dict[str, Any]]]) -> Load:
    return Load(*prometheus)


def offer(town: Town, load: Load, rps: float, pods: Sequence[str]) -> None:
    """From now on Prometheus tells that so many requests a second arrive, and that these pods are idle."""
    load.put(town.namespace, rows(town.namespace, pods, offered_rps=rps))


def told(town: Town, pair: Pair) -> str:
    status = town.place.kubectl("get", "pda", "chat", "-o", "jsonpath={.status}")
    return f"{status}\n{pair.first.log()[-3000:]}\n{pair.second.log()[-3000:]}"


def test_a_drain_whose_controller_is_killed_is_ended_by_another(
    found_town: FoundTown, during: ExitStack, load: Load, tmp_path: Path
) -> None:
    town = found_town(Vllm)
    town.pools({PREFILL: 1, DECODE: 3}, gone_after="500ms")
    policy(town, QUICK)
    offer(town, load, 1.0, ["prefill-0", *(f"decode-{number}" for number in range(3))])
    traffic = users(town, during)
    keep_busy(town, "decode-2")
    watching = during.enter_context(Watching(town))
    pair = Pair(town, load, tmp_path, during)
    try:
        wait_for(lambda: "draining" in watching.labels("decode-2"), "it decides to shrink", DECIDES_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {told(town, pair)}") from None
    leads_after_s = pair.kill_the_first()
    assert (town.wanted(DECODE), watching.labels("decode-2")) == (3, ["decode", "draining"])
    let_end(town, "decode-2")
    wait_until(lambda: town.wanted(DECODE) == 1, "the drain comes to its end")
    wait_until(lambda: town.place.ready_pods() == {"prefill-0", "decode-0"}, "pods follow")
    nobody_noticed(town, traffic)
    assert watching.busy_when_deleted() == []
    assert watching.labels("decode-1") == watching.labels("decode-2") == ["decode", "draining"]
    assert leads_after_s <= FAIL_OVER_S
    log.info("drain: another controller leads %.1f s after the first was killed", leads_after_s)


def test_a_switch_whose_controller_is_killed_is_ended_by_another(
    found_town: FoundTown, during: ExitStack, load: Load, tmp_path: Path
) -> None:
    town = found_town(Sglang)
    town.pools({PREFILL: 1, DECODE: 3})
    flip = {"enabled": True, "dwellSeconds": 0, "cooldownSeconds": 3600}
    policy(town, {**QUICK, "stabilizationSeconds": 15}, gpuBudget=4, flip=flip, pools__decode__min=2)
    offer(town, load, 40.0, ["prefill-0", *(f"decode-{number}" for number in range(3))])
    traffic = users(town, during)
    engine = town.engine("decode-0")
    engine.switch_s = 6.0
    watching = during.enter_context(Watching(town))
    pair = Pair(town, load, tmp_path, during)
    try:
        wait_for(lambda: engine.turning, "it decides to flip, and the engine switches", DECIDES_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {told(town, pair)}") from None
    leads_after_s = pair.kill_the_first()
    town.until_routed(PREFILL, "decode-0", "prefill-0")
    wait_until(lambda: bool(re.search(r"switch-decode-0-\d+: done", pair.second.log())), "it is over")
    nobody_noticed(town, traffic)
    assert engine.role is PREFILL
    assert watching.labels("decode-0") == ["decode", "draining", "prefill"]
    assert watching.labels("decode-1") == watching.labels("decode-2") == ["decode"]
    assert (town.wanted(PREFILL), town.wanted(DECODE)) == (1, 3)
    assert leads_after_s <= FAIL_OVER_S
    log.info("switch: another controller leads %.1f s after the first was killed", leads_after_s)

"""Does the bench of early rejection play what it says?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from autoscaler.core.outlook import Strategy
from autoscaler.core.rejection import Why
from tests.bench.doors import cases, turned
from tests.bench.doors.played import Fate, Play, Run
from tests.bench.doors.sidecars import DELAY_S, READ_S, Setup

pytestmark = pytest.mark.slow  # some thousand requests each


@pytest.fixture(scope="module")
def burst() -> Play:
    """A minute of twice what the fleet carries, from the first second on."""
    play = cases.ramp()
    late = [one for one in play.requests if one.arrival_s >= 540.0][:2_500]
    return replace(play, requests=[replace(one, id=at, arrival_s=one.arrival_s - 540.0) for at, one in enumerate(late)])


def played(play: Play, strategy: Strategy, sidecars: int = 1, *, recheck: bool = False) -> Run:
    run = Run(play, Setup(cases.alike(strategy, cases.RAMP_S), sidecars, recheck))
    run.finish()
    return run


@pytest.mark.parametrize("sidecars", [1, 16])
def test_every_request_has_one_fate_and_one_verdict(burst: Play, sidecars: int) -> None:
    run = played(burst, Strategy.PREDICTIVE, sidecars)
    fates = Counter(run.tally.fates.values())
    assert fates.total() == len(run.door.verdicts) == len(burst.requests)
    refused = {at for at, verdict in run.door.verdicts.items() if not verdict.admit}
    assert refused == {at for at, fate in run.tally.fates.items() if fate is Fate.REJECTED}
    assert len(refused) > 100
    assert fates[Fate.DROPPED] == 0


def test_nothing_is_known_before_the_first_picture_arrives(burst: Play) -> None:
    verdicts = played(burst, Strategy.PREDICTIVE).door.verdicts
    unknown = [one.arrival_s for one in burst.requests if verdicts[one.id].why is Why.NO_STATE]
    assert 0 < max(unknown) < DELAY_S + READ_S


def test_a_verdict_turned_round_lets_just_that_one_in_and_leaves_the_run_as_it_was(burst: Play) -> None:
    setup = Setup(cases.alike(Strategy.PREDICTIVE, cases.RAMP_S), recheck=False)
    reference = Run(burst, setup)
    reference.finish()
    chosen = next(one for one in burst.requests if reference.tally.fates[one.id] is Fate.REJECTED)
    run = Run(burst, setup)
    run.advance(chosen.arrival_s - 1e-6)
    after = turned.let_in(run, chosen, reference.door.verdicts, 300.0)
    assert after[chosen.id] in {Fate.MET, Fate.LATE}
    refused = {at for at, fate in after.items() if fate is Fate.REJECTED}
    assert refused == {at for at in after if reference.tally.fates[at] is Fate.REJECTED} - {chosen.id}
    run.finish()
    assert run.tally.fates == reference.tally.fates

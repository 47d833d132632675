"""Does a transaction come to its end when something else goes wrong in the middle of it, and is every law kept meanwhile?

Each fault on a case of its own (faults.py), all at the same time. None of them kills a controller; those that do are enumerated
in test_every_write.py.
"""

from __future__ import annotations

import logging
from functools import partial

import pytest

from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.faults import FAULTS
from tests.e2e.plane.chaos.trials import Verdict, all_of

pytestmark = [pytest.mark.plane, pytest.mark.slow, pytest.mark.chaos]

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def verdicts(stage: Stage) -> dict[str, Verdict]:
    return all_of({name: partial(case.verdict, stage, name) for name, case in FAULTS.items()})


@pytest.mark.parametrize("name", FAULTS)
def test_a_transaction_ends_well_though(verdicts: dict[str, Verdict], name: str) -> None:
    found = verdicts[name]
    log.info("%s: %.1f s, %d faults, %d served, %d undone", name, found.took_s, found.faults, found.served, found.undone)
    assert [*found.broken] == []
    assert found.faults > 0
    assert found.served > 0

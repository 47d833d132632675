"""Do sidecars of a fleet do no more than its policy says?"""

from __future__ import annotations

import pytest

from autoscaler.core.rejection import RejectionMode
from autoscaler.roster import managed
from tests.policy_documents import policy


@pytest.mark.parametrize(
    ("mode", "rejection", "dry_run", "told"),
    [
        ("Auto", "enforce", False, RejectionMode.ENFORCE),
        ("Auto", "enforce", True, RejectionMode.SHADOW),
        ("Recommend", "enforce", False, RejectionMode.SHADOW),
        ("Off", "enforce", False, RejectionMode.SHADOW),
        ("Recommend", "shadow", False, RejectionMode.SHADOW),
        ("Auto", "off", True, RejectionMode.OFF),
    ],
)
def test_outside_mode_auto_nobody_is_turned_away(mode: str, rejection: str, dry_run: bool, told: RejectionMode) -> None:
    fleet = managed(policy(mode=mode, rejection={"mode": rejection}), recommend_only=dry_run)
    assert fleet.judged is not None
    assert fleet.judged.rules.mode is told


def test_how_requests_are_judged_is_the_policys_word() -> None:
    fleet = managed(policy(model="llama", enginePort=9000, rejection={"status": 503, "margin": 0.25, "sureness": 0.7}))
    assert fleet.judged is not None
    assert (fleet.judged.status, fleet.judged.model_name, fleet.engine_port) == (503, "llama", 9000)
    assert (fleet.judged.rules.margin, fleet.judged.rules.sureness) == (0.25, 0.7)

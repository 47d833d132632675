"""Is every answer, byte for byte, what it was when it was last looked at? tests/contracts/admission has one file per case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.companion.admission.cluster import asked, webhook

CASES = sorted((Path(__file__).parents[2] / "contracts" / "admission").glob("*.json"))
APP = webhook()


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_a_review_is_answered_as_recorded(case: Path) -> None:
    recorded = json.loads(case.read_text())
    reply = asked(recorded["door"], recorded["asked"], APP)
    assert (reply.status, reply.body) == (200, recorded["answered"])
    assert reply.patch == recorded.get("patch", [])


def test_every_door_has_recorded_admissions_and_denials_where_it_can_deny() -> None:
    seen = {(one["door"], one["answered"]["response"]["allowed"]) for one in (json.loads(case.read_text()) for case in CASES)}
    assert seen == {(door, allowed) for door in ("scale", "load", "policies") for allowed in (True, False)} | {("pods", True)}

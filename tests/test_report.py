"""Does a status read in a terminal of 80 columns, with every number's inputs and all that is under way?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from autoscaler.commands.report import notes, pools, reasons, whole
from autoscaler.core.calendar import WEEK_S, Floor
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Flipping, Phase, Role
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.policy import Policy
from autoscaler.core.status import Status, document, status_of
from tests.fakes import KEY, fleet, policy, pool, signals

COLUMNS = 80
NOW = 1000.0
UNDER_WAY = Flipping("flip-0", Role.PREFILL, Role.DECODE, 1, 2, Phase.DRAINING, NOW - 10.0, NOW - 20.0)


def ticked(said: Signals | None = None, wanted: Policy | None = None) -> Status:
    observation, wanted = Observation(NOW, fleet(), said or signals(fleet(), 14.0)), wanted or policy()
    return status_of(observation, decide(observation, Memory(), wanted), (), wanted)


def printed(what: Any) -> str:
    out = StringIO()
    Console(file=out, width=COLUMNS).print(what)
    return out.getvalue()


def rows(told: Mapping[str, Any]) -> dict[str, list[str]]:
    """The cells of the table by the heading of their row."""
    lines = [line.strip("│\n ").split("│") for line in printed(pools(told)).splitlines() if line.startswith("│")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def test_a_pool_is_told_with_what_is_expected_by_which_model_and_how_fast_it_is() -> None:
    status = ticked()
    earned = {"forecast_error": 120.0, "forecast_coverage": 0.914, "speed_measured": 1.24, "speed_confidence": 0.9}
    told = document(status)
    told["pools"]["prefill"] |= earned | {"speed_applied": 1.21, "demand_soon": 2.75, "demand_lasting": 3.1}
    assert {name: cells[0] for name, cells in rows(told).items()} == {
        "replicas": "2 serving of 2 -> 3",
        "requests": "0 waiting, 0 running",
        "load": "14,000 tokens/s",
        "expected": "14,000-14,000 in 140 s",
        "model": "last-value, bound held 91%",
        "speed": "1.21 x profile, 90% sure",
        "demand": "2.80 replicas (TTFT)",
        "over time": "2.75 soon, 3.10 lasting",
        "latency": "TTFT p95 0.475 of 20 s",
    }


def test_what_is_not_known_reads_as_a_dash_and_never_as_zero() -> None:
    told = rows(document(ticked(Signals.unknown(Gap.TIMEOUT, "dark"))))
    assert (told["load"][0], told["expected"][0], told["model"][0]) == ("- tokens/s", "-", "-")
    assert (told["demand"][0], told["over time"][0]) == ("- replicas", "- soon, - lasting")


def test_every_link_of_the_chain_tells_its_inputs() -> None:
    told = document(ticked())
    text = printed(reasons(told))
    for finding in told["findings"]:
        assert all(f"{name}=" in text for name in finding["inputs"])
    assert "offered_tokens_per_s=14000" in text
    assert "model=last-value" in text


def test_what_is_under_way_and_what_the_calendar_asks_for_is_noted() -> None:
    wanted = replace(policy(), floors={Role.DECODE: (Floor(0.0, WEEK_S, 4),)})
    status = replace(ticked(wanted=wanted), flips=(UNDER_WAY,), asleep=True)
    assert [note.plain for note in notes(document(status))] == [
        "asleep: nobody has asked for anything for long",
        "flip of 1 prefill for 2 decode: draining, begun 20 s ago",
        "decode: the calendar asks for at least 4 now, min is 1",
    ]


def test_users_and_their_cached_prompts_are_told_below_the_table() -> None:
    status = ticked()
    assert status.traffic is not None
    cached = replace(status.traffic, cached_share=0.38, cached_ahead=status.traffic.requests, quarantined=True)
    text = " ".join(printed(pools(document(replace(status, traffic=cached)))).split())
    assert "14.0 requests/s offered, 14.0 expected; 38% of the prompt tokens cached, as expected before; users see TTFT" in text


def test_the_whole_fits_its_columns_and_names_the_fleet() -> None:
    text = printed(whole(document(ticked())))
    assert KEY in text
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_a_fleet_with_no_pool_at_all_still_tells_its_reasons() -> None:
    empty = replace(ticked(), pools={}, traffic=None)
    assert "SignalsOk" in printed(whole(document(empty)))


def test_pools_of_other_sizes_share_one_table() -> None:
    seen = fleet(pool(Role.PREFILL, 3), pool(Role.DECODE, 1))
    observation = Observation(NOW, seen, signals(seen, 14.0))
    status = status_of(observation, decide(observation, Memory(), policy()), (), policy())
    assert rows(document(status))["replicas"] == ["3 serving of 3", "1 serving of 1 -> 3"]

"""What the page makes of frames, run by Node: what is not known stays a gap, and a long run stays bounded."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.parse import quote

import pytest

from autoscaler.apps.live import STATIC
from autoscaler.core.rejection import Why

NODE = shutil.which("node")
DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(NODE is None, reason="no node on PATH to run the page's scripts with")]
POOL: dict[str, Any] = {"waiting": 3, "phases": {"serving": 2}}


def run(script: str, code: str, **given: Any) -> Any:
    """The value of `code`, an expression over the exports of one script (as `page`) and `given`, as JSON."""
    assert NODE is not None
    source = "data:text/javascript," + quote((STATIC / script).read_text(encoding="utf-8"))
    values = "".join(f"const {name} = {json.dumps(value)};" for name, value in given.items())
    program = f"const page = await import({json.dumps(source)}); {values} console.log(JSON.stringify({code}));"
    done = subprocess.run([NODE, "--input-type=module", "-e", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def frame(now: float, pools: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"status": {"now": now, "pools": {"decode": POOL} if pools is None else pools, "findings": [], **more}}


def history(code: str, frames: list[dict[str, Any]]) -> Any:
    return run(
        "history.js",
        f"(() => {{ const h = new page.History(); for (const f of frames) h.add(f); return {code}; }})()",
        frames=frames,
    )


def test_a_pool_that_cannot_be_read_is_null_not_zero() -> None:
    frames = [frame(0.0), frame(15.0, pools={}), frame(30.0, pools={"decode": POOL | {"waiting": None}})]
    assert history('page.poolColumn(h.points, "decode", (pool) => pool.waiting)', frames) == [3, None, None]


def test_ticks_that_are_missing_leave_a_hole() -> None:
    frames = [frame(15.0 * i) for i in [*range(5), *range(40, 45)]]
    points = history("h.window(Infinity).map((point) => [point.now, point.status === null])", frames)
    assert [now for now, hole in points if hole] == [75.0]
    assert history("page.column(h.window(Infinity), () => 1)", frames) == [1] * 5 + [None] + [1] * 5


def test_a_late_tick_leaves_no_hole() -> None:
    frames = [frame(now) for now in (0.0, 15.0, 30.0, 75.0, 90.0)]
    assert history("h.window(Infinity).filter((point) => point.status === null).length", frames) == 0


def test_the_last_frame_of_a_run_replaces_the_tick_it_repeats_and_an_older_one_is_no_news() -> None:
    frames = [frame(0.0), frame(15.0, mode="first"), frame(15.0, mode="second"), frame(0.0, mode="late")]
    assert history("h.points.map((point) => [point.now, point.status.mode])", frames) == [[0.0, None], [15.0, "second"]]


def test_a_long_run_keeps_the_newest_2000_ticks() -> None:
    grow = "const h = new page.History(); for (let now = 0; now < 2500; now += 1) h.add({ status: { now, pools: {} } });"
    assert run("history.js", f"(() => {{ {grow} return [h.points.length, h.points[0].now]; }})()") == [2000, 500]


def test_roles_are_whatever_the_status_names_in_the_order_seen() -> None:
    frames = [frame(0.0, pools={"encode": POOL}), frame(15.0, pools={"decode": POOL, "encode": POOL})]
    assert history("h.roles", frames) == ["encode", "decode"]


SHADOW: dict[str, Any] = {
    "mode": "shadow",
    "verdicts": [
        {"mode": "shadow", "admit": False, "reason": "ttft", "qos": "free", "rps": 3.0},
        {"mode": "shadow", "admit": True, "reason": "fits", "qos": "free", "rps": 37.0},
    ],
    "hindsight": {"rejected": [0.075, 0.075], "could_be_served": [0.05, 0.06], "missed": [0, 0]},
}


def door(**changes: Any) -> str:
    """What is said of these sidecars."""
    told = run("format.js", "page.doorStory(given)", given={"door": SHADOW | changes, "rejected_rps": 1.5})
    return " ".join(told)


def test_shadow_mode_says_what_enforcing_would_have_done_wrongly() -> None:
    assert door() == (
        "Mode shadow: everybody is let in; 7.5 % of 40 verdicts/s would turn a request away. Of all requests 5 % to 6 % would be "
        "turned away though they could be served, 0 % let in and late all the same."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": None}, "Nobody asks now."),
        ({"mode": "off"}, "Mode off: everybody is let in, unjudged."),
        ({"hindsight": {}}, "Mode shadow: everybody is let in; 7.5 % of 40 verdicts/s would turn a request away."),
        (
            {"mode": "enforce"},
            "Mode enforce: 7.5 % of 40 verdicts/s turn a request away. 1.5 requests/s that are not let in later count as load.",
        ),
    ],
)
def test_of_other_sidecars_no_more_is_said_than_is_known(changes: dict[str, Any], said: str) -> None:
    assert door(**changes) == said


def test_a_verdict_reads_as_a_row_and_a_reason_that_is_not_known_as_it_is() -> None:
    rows = run("format.js", "given.verdicts.map((one) => page.verdictRow(one, given.mode))", given=SHADOW)
    assert rows[0] == ["3/s", "would be turned away", "the first token would be late", "free"]
    assert rows[1] == ["37/s", "let in", "fits", "free"]
    other = {**SHADOW["verdicts"][0], "reason": "newer"}
    assert run("format.js", 'page.verdictRow(given, "enforce")', given=other) == ["3/s", "turned away", "newer", "free"]


def test_every_reason_of_a_verdict_has_its_words() -> None:
    text = (STATIC / "format.js").read_text(encoding="utf-8")
    assert [why for why in Why if f' {why}: "' not in text] == []


READS = {
    "page.count(null)": DASH,
    "page.count(NaN)": DASH,
    "page.count(0)": "0",
    "page.count(1234)": "1234",
    "page.count(23456)": "23.5k",
    "page.count(7.2e6)": "7.2M",
    "page.seconds(null)": DASH,
    "page.seconds(0.0312)": "31 ms",
    "page.seconds(0.84)": "840 ms",
    "page.seconds(2.41)": "2.4 s",
    "page.percent(0.9996)": "99.9 %",
    "page.percent(1)": "100 %",
    "page.percent(0.9834)": "98.3 %",
    "page.percentile(0.95)": "p95",
    "page.percentile(0.999)": "p99.9",
    "page.moment(18735)": "05:12:15",
    "page.moment(86400 + 60)": "day 2, 00:01:00",
    "page.timeOfDay(18735)": "05:12",
}


def test_a_pool_tells_what_keeps_its_replicas_away_and_what_else_there_is() -> None:
    short = [{"lack": "NotCreated", "replicas": 2, "text": "exceeded quota"}, {"lack": "Failing", "replicas": 1, "text": ""}]
    pools = [{"shortages": short, "note": "a rollout is under way"}, {"shortages": [], "note": ""}]
    told = ["2 not created: exceeded quota", "1 failing", "a rollout is under way"]
    assert run("format.js", "pools.map(page.troubles)", pools=pools) == [told, []]


def test_numbers_read_short_and_what_is_unknown_reads_as_a_dash() -> None:
    assert run("format.js", f"[{', '.join(READS)}]") == list(READS.values())


AHEAD = {"model": "ar", "horizon_s": 116.2, "error": 667.0, "coverage": 0.9834}


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        pytest.param(AHEAD, "says ar, 116 s ahead, off by 667, bound held 98.3 %", id="earned"),
        pytest.param(AHEAD | {"error": None, "coverage": None}, "says ar, 116 s ahead, unproven yet", id="unproven"),
        pytest.param(AHEAD | {"model": None}, "nothing forecast", id="no model speaks"),
        pytest.param(None, "nothing forecast", id="a pool that cannot be read"),
    ],
)
def test_a_forecast_is_shown_with_the_model_and_by_what_right_it_speaks(ahead: dict[str, Any] | None, text: str) -> None:
    assert run("format.js", "page.earned(ahead)", ahead=ahead) == text


@pytest.mark.parametrize(
    ("applied", "measured", "text"),
    [
        pytest.param(1.21, 1.24, f"work takes 1.24{TIMES} the profile's time (92 % sure), sized with 1.21{TIMES}", id="measured"),
        pytest.param(1.0, None, "speed as in the profile, none measured yet", id="not measured"),
        pytest.param(None, None, "", id="not sized"),
    ],
)
def test_the_engines_speed_is_shown_as_measured_and_as_sized_by(applied: float | None, measured: float | None, text: str) -> None:
    pool = {"speed_applied": applied, "speed_measured": measured, "speed_confidence": 0.92}
    assert run("format.js", "page.pace(pool)", pool=pool) == text


def test_a_flip_is_shown_by_what_becomes_of_how_many() -> None:
    flip = {"from_role": "encode", "to_role": "decode", "from_replicas": 1, "to_replicas": 2}
    assert run("format.js", "page.flipped(flip)", flip=flip) == "1 → 2 decode"


DRAINED: dict[str, Any] = {
    "name": "drain-a-0-1",
    "from_role": "encode",
    "to_role": "encode",
    "done": True,
    "why": "",
    "forced_requests": 0,
    "took_s": 42.0,
}
UNDONE = DRAINED | {"name": "switch-a-1-2", "to_role": "decode", "done": False, "why": "still busy", "took_s": 600.0}
FORCED = DRAINED | {"name": "drain-a-2-3", "why": "3 requests given up after 600 s", "forced_requests": 3}


@pytest.mark.parametrize(
    ("one", "what", "told", "level"),
    [
        pytest.param(DRAINED, "drain of encode", "done in 42 s", "good", id="a drain"),
        pytest.param(UNDONE, "encode to decode", "undone after 600 s: still busy", "warn", id="a flip that came to nothing"),
        pytest.param(FORCED, "drain of encode", "done in 42 s: 3 requests given up after 600 s", "bad", id="requests were lost"),
    ],
)
def test_what_became_of_a_drain_or_a_flip_is_told_with_how_good_that_is(
    one: dict[str, Any], what: str, told: str, level: str
) -> None:
    assert run("format.js", "[page.move(one), page.outcome(one)]", one=one) == [what, {"told": told, "level": level}]


def test_what_is_under_way_is_told_once_whether_it_drains_for_a_flip_or_to_go() -> None:
    flip = {"from_role": "encode", "to_role": "decode", "from_replicas": 1, "phase": "draining", "since_s": 88.0}
    pools = {"encode": {"phases": {"draining": 3}}, "decode": {"phases": {"serving": 2}}}
    status = {"now": 100.0, "flips_in_flight": [flip], "pools": pools}
    told = run("format.js", "page.underWay(status).map((one) => [one.what, one.told])", status=status)
    assert told == [["encode to decode", "draining for 12 s"], ["drain of encode", "2 finishing what they have"]]
    alone = {"now": 100.0, "pools": {"encode": {"phases": {"draining": 1}}, "decode": {"phases": {}}}}
    assert run("format.js", "page.underWay(status).map((one) => one.told)", status=alone) == ["1 finishing what it has"]


def test_the_last_drains_and_flips_are_kept_newest_first_and_each_once() -> None:
    frames = [frame(0.0, ended=[DRAINED, UNDONE]), frame(15.0), frame(30.0, ended=[FORCED]), frame(30.0, ended=[FORCED])]
    told = history("h.ended.map((one) => [one.name, one.now])", frames)
    assert told == [[FORCED["name"], 30.0], [UNDONE["name"], 0.0], [DRAINED["name"], 0.0]]
    many = [frame(float(at), ended=[DRAINED | {"name": f"drain-{at}"}]) for at in range(20)]
    assert history("h.ended.map((one) => one.name)", many) == [f"drain-{at}" for at in range(19, 11, -1)]

"""Does what must outlive a process survive it, small and unharmed, and does nothing else come back with it?"""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.calibration import Calibration, restored
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.flip import MOST_BACK_OFF, FlipTrack
from autoscaler.core.hysteresis import Brakes, Damping, Step, Track
from autoscaler.core.observation import Observation
from autoscaler.core.policy import Policy
from autoscaler.core.reading import MOST_REPLICAS
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.startup import KEPT, LONGEST_S, StartUps
from autoscaler.core.state import FORMAT, MEASURED, MOST_FLIPS, MOST_MOVES, record, resume
from autoscaler.policy.crd.status import STATE_BYTES
from tests.fakes import SHAPE, fleet, policy, pool, signals

NOW = 1_800_000_000.0
PREFILL, DECODE = Role
FULL = Memory(
    SHAPE,
    tracks={DECODE: Track(moves=((NOW - 90.0, 4), (NOW - 30.5001, -1)), desired_last=5, looked_last_s=NOW)},
    startups={DECODE: StartUps((61.0, 74.5)), PREFILL: StartUps((130.0,))},
    speeds={PREFILL: restored((0.02, 5e-5, 1e-9), (1.61803, 1.6, 1.5), NOW - 900.4)},
    flips=FlipTrack(
        lasting={DECODE: ((NOW, 3.0),)},
        begun=((NOW - 70.0, PREFILL, DECODE), (NOW - 10.0004, DECODE, PREFILL)),
        doubled=1,
        reversed_s=NOW - 10.0004,
    ),
    idle_since_s=NOW - 3600.0,
)
FULL_RECORD = {
    "format": 1,
    "memory": {
        "shape": {"prompt_tokens": 1000.0, "uncached_tokens": 1000.0, "output_tokens": 100.0},
        "pools": {
            "prefill": {
                "start_up_s": [130.0],
                "speed": {"profile": [0.02, 5e-5, 1e-9], "factors": [1.62, 1.6, 1.5], "since_s": NOW - 900.0},
            },
            "decode": {"desired": 5, "moves": [[NOW - 90.0, 4], [NOW - 30.5, -1]], "start_up_s": [61.0, 74.5]},
        },
        "flips": {
            "begun": [[NOW - 70.0, "prefill", "decode"], [NOW - 10.0, "decode", "prefill"]],
            "doubled": 1,
            "reversed_s": NOW - 10.0,
        },
    },
}
LEDGERS_SHARE = 512  # bytes: an epoch, and a count per role


def resumed(raw: object, now: float = NOW) -> Memory:
    memory = resume(raw, now)
    assert isinstance(memory, Memory), memory
    return memory


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full record with one value changed, named as "memory.pools.decode.desired"."""
    raw: dict[str, Any] = json.loads(json.dumps(FULL_RECORD))
    *parents, last = path.split(".")
    inside = raw
    for name in parents:
        inside = inside[name]
    inside[last] = value
    return raw


def test_the_record_is_what_it_is_documented_to_be() -> None:
    """Format 1 as it lies on clusters: a change here needs format 2, unless it only adds."""
    assert record(FULL) == FULL_RECORD


def test_what_was_kept_comes_back_and_nothing_that_was_seen() -> None:
    memory = resumed(json.loads(json.dumps(record(FULL))))
    assert memory.shape == SHAPE
    assert memory.startups == FULL.startups
    track = memory.tracks[DECODE]
    assert (track.moves, track.desired_last) == (((NOW - 90.0, 4), (NOW - 30.5, -1)), 5)
    assert (track.recommendations, track.seen_since_s, track.seen_last_s) == ((), None, None)
    assert memory.series == {}
    assert memory.speeds == {PREFILL: restored((0.02, 5e-5, 1e-9), (1.62, 1.6, 1.5), NOW - 900.0)}
    assert memory.flips.begun == ((NOW - 70.0, PREFILL, DECODE), (NOW - 10.0, DECODE, PREFILL))
    assert (memory.flips.doubled, memory.flips.reversed_s, memory.flips.lasting) == (1, NOW - 10.0, {})
    assert memory.idle_since_s is None, "who came while nobody looked is not known"


def test_a_speed_that_is_not_trusted_yet_is_not_kept() -> None:
    assert "pools" not in record(Memory(speeds={PREFILL: Calibration((0.02, 5e-5, 1e-9))}))["memory"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("speed", 3, "memory.pools.prefill.speed: 3 is not an object"),
        ("speed.profile", [1, 2], "speed.profile: 2 numbers, 3 are needed"),
        ("speed.profile", [1, 2, -1], "speed.profile: -1 is not a number from 0 to 60"),
        ("speed.factors", [1, 1e4, 1], "speed.factors: 10000.0 is not a number from 0.001 to 1000"),
        ("speed.factors", [1, math.nan, 1], "speed.factors: nan is not"),
        ("speed.factors", "abc", "speed.factors: 'abc' is not a list"),
        ("speed.since_s", None, "speed.since_s: None is not a number"),
    ],
)
def test_a_speed_that_cannot_be_read_holds_the_fleet(path: str, value: object, where: str) -> None:
    told = resume(changed(f"memory.pools.prefill.{path}", value), NOW)
    assert isinstance(told, Finding)
    assert where in told.text


def test_the_measured_tokens_of_a_shape_are_its_fields() -> None:
    assert [*MEASURED, "cv2", "held_tokens"] == [field.name for field in fields(Shape)]


@pytest.mark.parametrize("raw", [None, {"format": 1}, {"format": 1, "epoch": 7, "desired": {"decode": 3}}])
def test_where_nothing_was_kept_the_memory_is_empty(raw: Any) -> None:
    assert resume(raw, NOW) == Memory()
    assert record(Memory()) == {"format": 1, "memory": {}}


def test_what_another_release_added_to_this_format_is_not_read() -> None:
    raw = changed("memory.later", {"x": 1}) | {"epoch": 4, "desired": {"decode": 5}, "note": "by hand"}
    raw["memory"]["pools"]["encode"] = "a role of tomorrow"
    raw["memory"]["pools"]["decode"]["later"] = [1]
    assert record(resumed(raw)) == FULL_RECORD


# What is refused


BROKEN = [
    pytest.param("format", FORMAT + 1, "2 is of a newer release, this one reads up to 1", id="newer"),
    pytest.param("format", 0, "0 is not a whole number from 1", id="no format has this number"),
    pytest.param("format", None, "None is not a whole number from 1", id="no format"),
    pytest.param("format", True, "True is not a whole number from 1", id="true is no 1"),
    pytest.param("format", 10**5000, "a number of 16610 bits is not a whole number", id="longer than Python prints"),
    pytest.param("memory", [], "a list is not an object", id="a list for an object"),
    pytest.param("memory.shape", {}, "None is not a number from 1 to 1e+09", id="a shape without tokens"),
    pytest.param("memory.shape.prompt_tokens", math.nan, "nan is not a number from 1 to 1e+09", id="NaN"),
    pytest.param("memory.shape.output_tokens", 1e300, "1e+300 is not a number from 1 to 1e+09", id="huge"),
    pytest.param("memory.shape.output_tokens", True, "True is not a number", id="true is no number"),
    pytest.param("memory.pools", "x" * 500, f"{'x' * 39}", id="a long text, cut short"),
    pytest.param("memory.pools.decode", 3, "3 is not an object", id="a number for a pool"),
    pytest.param("memory.pools.decode.desired", -1, "-1 is not a whole number from 0 to 2147483647", id="less than none"),
    pytest.param("memory.pools.decode.desired", 2.5, "2.5 is not a whole number", id="half a replica"),
    pytest.param("memory.pools.decode.moves", {}, "an object is not a list", id="an object for a list"),
    pytest.param("memory.pools.decode.moves", [[NOW]], "a list is not [seconds, change]", id="a move without a change"),
    pytest.param("memory.pools.decode.moves", [[math.inf, 1]], "inf is not a number", id="a move at no time"),
    pytest.param("memory.pools.decode.moves", [[NOW, 2**31]], "2147483648 is not a whole number", id="a move too far"),
    pytest.param("memory.flips", [1], "a list is not an object", id="a list for flips"),
    pytest.param("memory.flips.begun", 3, "3 is not a list", id="a number for flips begun"),
    pytest.param("memory.flips.begun", [[NOW, "prefill"]], "a list is not [seconds, from, to]", id="a flip to nowhere"),
    pytest.param("memory.flips.begun", [[NOW, 1, "decode"]], "a list is not [seconds, from, to]", id="a number for a role"),
    pytest.param("memory.flips.begun", [[math.nan, "prefill", "decode"]], "nan is not a number", id="a flip at no time"),
    pytest.param("memory.flips.doubled", MOST_BACK_OFF + 1, "4 is not a whole number from 0 to 3", id="doubled too often"),
    pytest.param("memory.flips.doubled", True, "True is not a whole number", id="true is no count"),
    pytest.param("memory.flips.reversed_s", None, "None is not a number", id="reversed at no time"),
    pytest.param("memory.pools.decode.start_up_s", [-1], "-1 is not a number from 0 to 86400", id="served before it was born"),
]


@pytest.mark.parametrize(("path", "value", "words"), BROKEN)
def test_a_record_that_is_not_what_it_claims_is_told_by_its_field(path: str, value: Any, words: str) -> None:
    finding = resume(changed(path, value), NOW)
    assert isinstance(finding, Finding)
    assert (finding.stage, finding.reason) == (Stage.OBSERVE, Reason.STATE_UNREADABLE)
    assert path in finding.text
    assert words in finding.text
    assert len(finding.text) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
POOL_FIELDS = [f"memory.pools.decode.{name}" for name in ("desired", "moves", "start_up_s")]
FLIP_FIELDS = ["memory.flips", *(f"memory.flips.{name}" for name in ("begun", "doubled", "reversed_s"))]
PARENTS = ["format", "memory", "memory.shape", "memory.shape.prompt_tokens", "memory.pools", "memory.pools.decode"]
PATHS = [*PARENTS, *POOL_FIELDS, *FLIP_FIELDS]


@given(json_values, st.none() | st.sampled_from(PATHS))
def test_any_json_whatsoever_gives_a_memory_or_a_finding(value: Any, path: str | None) -> None:
    given_back = resume(changed(path, value) if path else value, NOW)
    if isinstance(given_back, Memory):
        assert decide(Observation(NOW, fleet(), signals(fleet(), 9.0)), given_back, policy()).plan.targets
        assert record(resumed(record(given_back))) == record(given_back)
    else:
        assert given_back.reason is Reason.STATE_UNREADABLE


# What is kept of any memory


counts = st.integers(0, MOST_REPLICAS)
deltas = st.integers(-MOST_REPLICAS, MOST_REPLICAS)
times = st.floats(-1e15, NOW)
tracks = st.builds(
    Track,
    recommendations=st.lists(st.tuples(times, counts), max_size=3).map(tuple),
    moves=st.lists(st.tuples(times, deltas), max_size=60).map(tuple),
    seen_since_s=st.none() | times,
    looked_last_s=st.just(NOW),
    desired_last=st.none() | counts,
)
startups = st.builds(StartUps, st.lists(st.floats(0, LONGEST_S), max_size=KEPT).map(tuple))
flip_tracks = st.builds(
    FlipTrack,
    begun=st.lists(st.tuples(times, st.sampled_from(Role), st.sampled_from(Role)), max_size=12).map(tuple),
    doubled=st.integers(0, MOST_BACK_OFF),
    reversed_s=times,
)
tokens = st.floats()
memories = st.builds(
    Memory,
    shape=st.none() | st.builds(Shape, tokens, tokens, tokens),
    tracks=st.dictionaries(st.sampled_from(Role), tracks),
    startups=st.dictionaries(st.sampled_from(Role), startups),
    flips=flip_tracks,
)


@given(memories)
def test_a_record_is_small_and_comes_back_as_it_went(memory: Memory) -> None:
    kept = record(memory)
    text = json.dumps(kept, allow_nan=False)
    assert len(text) + LEDGERS_SHARE <= STATE_BYTES
    assert record(resumed(json.loads(text))) == kept


def test_a_record_with_all_that_it_may_hold_fits_for_twice_as_many_roles() -> None:
    full = Track(moves=((-1.234567890123456e14, -MOST_REPLICAS),) * 500, desired_last=MOST_REPLICAS)
    learned = StartUps((86399.123456,) * KEPT)
    speeds = dict.fromkeys(Role, restored((1.23456789e-5,) * 3, (0.123456,) * 3, -1.234567890123456e14))
    flips = FlipTrack({}, ((-1.234567890123456e14, PREFILL, PREFILL),) * 100, MOST_BACK_OFF, -1.234567890123456e14)
    shape, pools = Shape(1.23456e8, 1.23456e8, 1.23456e8), (dict.fromkeys(Role, full), dict.fromkeys(Role, learned))
    kept = record(Memory(shape, {}, *pools, speeds, flips))
    assert len(kept["memory"]["flips"]["begun"]) == MOST_FLIPS
    assert len(kept["memory"]["pools"]["decode"]["moves"]) <= MOST_MOVES
    assert 2 * len(json.dumps(kept)) + LEDGERS_SHARE <= STATE_BYTES
    assert record(resumed(kept)) == kept


def test_too_many_moves_become_fewer_and_none_grows_older() -> None:
    moves = [(NOW - 100.0 + i, 1 if i % 2 else -2) for i in range(MOST_MOVES + 10)]
    kept = resumed(record(Memory(tracks={DECODE: Track(moves=tuple(moves))}))).tracks[DECODE].moves
    assert len(kept) == MOST_MOVES
    assert kept[2:] == tuple(moves[12:])
    assert kept[:2] == ((NOW - 90.0, -12), (NOW - 89.0, 6))


def test_a_quiet_fleet_has_a_quiet_record() -> None:
    """Looking costs no write: neither the time nor a tremble of the measured shape is in it."""
    memory, kept = Memory(), []
    for number in range(4):
        seen = fleet()
        said = signals(seen, 9.0, shape=replace(SHAPE, prompt_tokens=1004.0 - 3 * number, output_tokens=101.0 + number))
        memory = decide(Observation(15.0 * number, seen, said), memory, policy()).memory
        kept.append(record(memory))
    assert kept == [kept[0]] * 4


# What the next leader does with it


def both(desired: int) -> Fleet:
    return fleet(*(pool(role, desired) for role in Role))


def tick(now: float, desired: int, rps: float, memory: Memory, wanted: Policy | None = None) -> tuple[int, Memory]:
    """The target of both roles after one look, and the memory."""
    seen = both(desired)
    decision = decide(Observation(now, seen, signals(seen, rps)), memory, wanted or policy())
    return decision.plan.targets[DECODE], decision.memory


@pytest.mark.parametrize(("keeps", "target"), [pytest.param(True, 6, id="resumed"), pytest.param(False, 12, id="forgotten")])
def test_the_step_limit_outlives_a_process_that_died_right_after_its_write(keeps: bool, target: int) -> None:
    """2 -> 6 is all that 15 s allow. The write was the last thing done, so the record only knows of the 2."""
    written, memory = tick(NOW, 2, 60.0, Memory())
    assert written == 6
    assert tick(NOW + 5, written, 60.0, resumed(record(memory), NOW + 5) if keeps else Memory())[0] == target


@pytest.mark.parametrize(
    ("keeps", "shrinks_s"), [pytest.param(True, 390, id="resumed"), pytest.param(False, 150, id="forgotten")]
)
def test_the_cooldown_outlives_the_process_and_a_new_window_is_seen_first(keeps: bool, shrinks_s: int) -> None:
    """Window 60 s, cooldown 300 s: 6 -> 5 at 60 s, and the process ends. A new one looks from 90 s on and finds the 5."""
    brakes = Brakes(tolerance=0.1, stabilization_s=60.0, cooldown_s=300.0, step=Step(1, 0.0, 15.0))
    wanted, memory = replace(policy(), damping=dict.fromkeys(Role, Damping(down=brakes))), Memory()
    targets = []
    for now in range(0, 75, 15):
        target, memory = tick(NOW + now, 6, 1.0, memory, wanted)
        targets.append(target)
    assert targets == [6, 6, 6, 6, 5]
    memory = resumed(record(memory), NOW + 90) if keeps else Memory()
    for now in range(90, 600, 15):
        target, memory = tick(NOW + now, 5, 1.0, memory, wanted)
        if target < 5:
            break
    assert now == shrinks_s


def test_a_move_in_the_future_counts_as_now() -> None:
    raw = changed("memory.pools.decode.moves", [[NOW + 3600.0, 4]])
    assert resumed(raw).tracks[DECODE].moves == ((NOW, 4),)


def test_how_widely_requests_differ_is_the_policys_word_of_today() -> None:
    """Policies change while the controller runs, and cv2 is never measured."""
    _, before = tick(NOW, 2, 9.0, Memory())
    _, after = tick(NOW + 15, 2, 9.0, resumed(record(before)), replace(policy(), shape=replace(SHAPE, cv2=9.0)))
    assert (before.shape, after.shape) == (SHAPE, replace(SHAPE, cv2=9.0))

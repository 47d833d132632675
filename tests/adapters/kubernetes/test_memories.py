"""Is a count of ours known before the lists tell it, and nothing taken for ours that is not?"""

from __future__ import annotations

from dataclasses import replace

from autoscaler.adapters.kubernetes.memories import LAG_S, MOST_TOLD, Memories, Memory, Written
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind, Step
from tests.adapters.kubernetes.transactions.standing_fleet import NOW, moving, standing

THREE = standing(3)


def corrected(seen: int, after_s: float, uid: str = "uid-t") -> tuple[int, Written | None]:
    """3 was made 2: what is taken for the count, and what is remembered of it then."""
    memory = Memory(written=Written(uid, 3, 2, NOW))
    return memory.corrected(standing(seen), NOW + after_s).desired, memory.written


def test_the_count_before_ours_is_taken_for_a_late_list() -> None:
    assert corrected(3, 0.5) == (2, Written("uid-t", 3, 2, NOW))


def test_any_other_count_and_any_other_object_are_the_truth() -> None:
    assert corrected(2, 0.5) == (2, None)
    assert corrected(5, 0.5) == (5, None)
    assert corrected(3, 0.5, uid="of another") == (3, None)


def test_no_list_is_so_late_and_a_clock_that_stepped_back_tells_nothing() -> None:
    assert corrected(3, LAG_S) == (3, None)
    assert corrected(3, -1.0) == (3, None)
    assert Memory().corrected(THREE, NOW) is THREE


def test_what_has_ended_is_told_once_and_only_the_newest_of_many() -> None:
    memories = Memories(lambda key: True)
    over = replace(moving(Kind.DRAIN, Step.GONE, ["prefill-2"]), step=Step.DONE, forced=3, why="late")
    for number in range(MOST_TOLD + 1):
        memories.over("k", replace(over, key=f"drain-{number}"), NOW)
    told = memories.told("k")
    assert [one.name for one in told] == [f"drain-{number}" for number in range(1, MOST_TOLD + 1)]
    assert (told[0].done, told[0].forced_requests, told[0].why, told[0].took_s) == (True, 3, "late", 50.0)
    assert memories.told("k") == ()


def test_a_pool_is_remembered_under_its_own_name() -> None:
    memories = Memories(lambda key: True)
    assert memories.of("k", Role.PREFILL) is memories.of("k", Role.PREFILL)
    assert memories.of("k", Role.PREFILL) is not memories.of("k", Role.DECODE)
    assert len(memories) == 2

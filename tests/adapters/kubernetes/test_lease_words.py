"""Do the others hear what the holder of a Lease says of itself, and only while it holds it?"""

from __future__ import annotations

from tests.adapters.kubernetes.test_lease import World

OURS, THEIRS = "http://10.0.0.1:8081", "http://10.0.0.2:8081"


def both() -> World:
    world = World()
    for election, words in zip(world.elections, (OURS, THEIRS), strict=True):
        election.say(states=words)
    return world


def heard(world: World) -> list[str]:
    return [election.said("states") for election in world.elections]


def test_the_others_hear_the_holder_and_it_hears_nobody() -> None:
    world = both()
    world.step(0)
    world.step(1)
    assert heard(world) == ["", OURS]


def test_after_a_change_of_holder_its_words_take_the_place_of_the_old_ones() -> None:
    world = both()
    world.step(0)
    world.step(1)
    world.step(1, after_s=17)
    world.step(0)
    assert world.terms() == [None, 1]
    assert heard(world) == [THEIRS, ""]


def test_nobody_is_heard_of_a_lease_that_was_given_up() -> None:
    world = both()
    world.step(0)
    world.step(1)
    world.elections[0].start()
    world.elections[0].stop()
    assert world.store.lease is not None
    assert world.store.lease["spec"]["holderIdentity"] == ""
    world.links[1].deaf = True  # it takes the Lease and does not hear so
    world.step(1)
    assert heard(world)[1] == ""


def test_a_holder_that_says_nothing_takes_away_what_the_last_one_said_and_no_more() -> None:
    world = World()
    world.elections[0].say(states=OURS)
    world.step(0)
    assert world.store.lease is not None
    world.store.lease["metadata"]["annotations"]["team"] = "serving"
    world.step(1)
    world.step(1, after_s=17)
    assert world.store.lease["metadata"]["annotations"] == {"team": "serving"}


def test_annotations_that_are_none_are_no_words() -> None:
    world = both()
    world.step(0)
    assert world.store.lease is not None
    world.store.lease["metadata"]["annotations"] = None
    world.step(1)
    assert heard(world) == ["", ""]

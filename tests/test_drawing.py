"""Can two of anything in a picture be told apart, by those who see no colours too?"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from autoscaler.commands.drawing import COLOURS, MARKS, mark, sign, steps
from autoscaler.commands.plots import ROLE_COLOURS, ROLE_DASHES, timeline
from autoscaler.core.fleet import Role
from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Timeline

EVERYBODY = (OURS, *PEERS, *REFERENCES)


def test_everybody_has_a_colour_a_mark_and_a_sign_that_nobody_else_has() -> None:
    assert len(EVERYBODY) <= min(len(COLOURS), len(MARKS))
    looks = [mark(place, 0.0, 0.0, "") for place in range(len(EVERYBODY))]
    shapes = {look.replace(COLOURS[place], "") for place, look in enumerate(looks)}
    assert len(shapes) == len({sign(place) for place in range(len(EVERYBODY))}) == len(EVERYBODY)


def test_replicas_of_two_roles_are_told_apart_by_their_dashes() -> None:
    shown = Timeline(60.0, (1.0, 2.0), dict.fromkeys(Role, (1, 2)), dict.fromkeys(Role, (0, 0)))
    lines = ElementTree.fromstring(timeline(shown, "x")).iter("polyline")
    dashes = {line.get("stroke"): line.get("stroke-dasharray") for line in lines}
    assert dashes == {ROLE_COLOURS[role]: ROLE_DASHES[role] for role in Role}
    assert len(set(dashes.values())) == len(Role)


def test_an_axis_is_labelled_at_round_figures_and_at_least_twice() -> None:
    assert steps(0.0, 20.0) == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert steps(0.0, 0.62) == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert steps(7.0, 7.0) == [7.0]

"""Is a move that undoes another seen as that, and one that the traffic asked for not?"""

from __future__ import annotations

from autoscaler.core.fleet import Role
from autoscaler.simulator.moves import Flipped, Move, Scaled, reversals

UP, DOWN = True, False
P, D = Role.PREFILL, Role.DECODE


def undone(*moves: Move, oracle: tuple[Move, ...] = ()) -> list[float]:
    return [move.at_s for move in reversals(moves, 60.0, 300.0, oracle)]


def test_an_opposite_scaling_of_the_same_role_soon_after_is_a_reversal() -> None:
    assert undone(Scaled(0.0, D, UP), Scaled(60.0, D, DOWN), Scaled(121.0, D, UP)) == [60.0]
    assert undone(Scaled(0.0, D, UP), Scaled(10.0, P, DOWN), Scaled(20.0, D, UP)) == []


def test_a_flip_back_within_the_dwell_is_a_reversal() -> None:
    assert undone(Flipped(0.0, P, D), Flipped(300.0, D, P), Flipped(700.0, P, D)) == [300.0]
    assert undone(Flipped(0.0, P, D), Flipped(10.0, P, D)) == []


def test_flips_and_scalings_do_not_undo_each_other() -> None:
    assert undone(Flipped(0.0, P, D), Scaled(10.0, D, DOWN)) == []


def test_what_the_oracle_does_too_is_no_reversal() -> None:
    spike = (Scaled(0.0, D, UP), Scaled(50.0, D, DOWN))
    assert undone(*spike, oracle=(Scaled(80.0, D, DOWN),)) == []
    assert undone(*spike, oracle=(Scaled(80.0, D, UP), Scaled(80.0, P, DOWN), Scaled(111.0, D, DOWN))) == [50.0]

"""Is a value that was stored what it must be?

What comes back from storage was written by another release, or mended by a human. Each reader here takes a value and where
it was found, and gives it back as what it must be, or raises `Refused` with one line: where, what was found, what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FARTHEST_S = 1e15  # 30 million years: what no clock tells
MOST_REPLICAS = 2**31 - 1  # Kubernetes counts replicas in 32 bits
SHOWN = 40  # characters of a value that was refused


class Refused(ValueError):
    """Something stored is not what it must be; the text is for the operator."""


def mapping(raw: object, where: str) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(raw, Mapping):
        raise Refused(f"{where}: {shown(raw)} is not an object")
    return raw


def sequence(raw: object, where: str) -> Sequence[object]:
    """A list of anything."""
    if not isinstance(raw, list | tuple):
        raise Refused(f"{where}: {shown(raw)} is not a list")
    return raw


def whole(raw: object, where: str, least: int, most: int) -> int:
    """A whole number in the range."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not least <= raw <= most:
        raise Refused(f"{where}: {shown(raw)} is not a whole number from {least} to {most}")
    return raw


def number(raw: object, where: str, least: float, most: float) -> float:
    """A finite number in the range; NaN is in no range."""
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not least <= raw <= most:
        raise Refused(f"{where}: {shown(raw)} is not a number from {least:g} to {most:g}")
    return float(raw)


def past(raw: object, where: str, now: float) -> float:
    """A moment; one to come counts as `now`, since the clocks of two leaders differ."""
    return min(number(raw, where, -FARTHEST_S, FARTHEST_S), now)


def text(raw: object, where: str, most: int) -> str:
    """A string of at most so many characters."""
    if not isinstance(raw, str) or len(raw) > most:
        raise Refused(f"{where}: {shown(raw)} is not a text of at most {most} characters")
    return raw


def shown(raw: object) -> str:
    """What was found instead, cut short; a number of thousands of digits, too, is told and does not raise."""
    if isinstance(raw, Mapping | list | tuple):
        return "an object" if isinstance(raw, Mapping) else "a list"
    if isinstance(raw, int) and raw.bit_length() > 64:
        return f"a number of {raw.bit_length()} bits"
    return ascii(raw if not isinstance(raw, str) else raw[:SHOWN])

"""What are all our pictures made of? Lines, words and marks as SVG, in the page's own ink, so that they follow it at night.

Numbers are scaled into a box of fixed size. A line or a mark is known by its shape as well as by its colour: not everybody
sees colours, and not every printer has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

# Of Okabe and Ito, which colour-blind readers can tell apart as far as that goes, and some more.
COLOURS = (
    "var(--ink)",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#b8a800",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#777777",
    "#8b4513",
    "#5f00af",
    "#c2185b",
)
# How each is drawn around its middle, as a path, and the sign that stands for it in a line of text; the last five are hollow.
_ROUND, _SQUARE, _UP, _LOZENGE, _DOWN = (
    "M0-5A5 5 0 1 1-.01-5Z",
    "M-4.5-4.5H4.5V4.5H-4.5Z",
    "M0-6L5.5 4H-5.5Z",
    "M0-6L5.5 0L0 6L-5.5 0Z",
    "M0 6L5.5-4H-5.5Z",
)
MARKS = (
    (_ROUND, "●"),
    (_SQUARE, "■"),
    (_UP, "▲"),
    (_LOZENGE, "◆"),
    (_DOWN, "▼"),
    ("M-5-5L5 5M-5 5L5-5", "✕"),
    ("M0-5.5V5.5M-5.5 0H5.5", "✚"),
    (_ROUND, "○"),
    (_SQUARE, "□"),
    (_UP, "△"),
    (_LOZENGE, "◇"),
    (_DOWN, "▽"),
)
HOLLOW = 7  # the first of them
TICKS = 5  # about so many labels on an axis
NOTHING = 1e-9  # a share that is rounding

Scale = Callable[[float], float]


def scale(low: float, high: float, begin: float, end: float) -> Scale:
    """A straight line from [low, high] to [begin, end]; an empty range goes to the begin."""
    span = high - low
    return lambda value: begin + (end - begin) * (value - low) / span if span else begin


def steps(low: float, high: float) -> list[float]:
    """Where an axis has its labels: at multiples of 1, 2 or 5 times a power of ten."""
    if high - low <= NOTHING * max(abs(low), abs(high), 1.0):
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * (1 - NOTHING))
    return [at * step for at in range(math.ceil(low / step - NOTHING), math.floor(high / step + NOTHING) + 1)]


def colour(place: int) -> str:
    """The colour of the `place`-th of several."""
    return COLOURS[place % len(COLOURS)]


def text(x: float, y: float, words: str, anchor: str) -> str:
    """A line of words; `anchor` says which end of it stands there: start, middle, end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def upwards(x: float, y: float, words: str) -> str:
    """Words along an upright axis, their middle there."""
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{escape(words)}</text>'


def mark(place: int, x: float, y: float, told: str) -> str:
    """The mark of the `place`-th of several, which says what it is when it is pointed at."""
    at, shade = place % len(MARKS), colour(place)
    look = f'd="{MARKS[at][0]}" fill="{shade if at < HOLLOW else "var(--paper)"}" stroke="{shade}" stroke-width="1.4"'
    drawn = f'<path class="mark" transform="translate({x:.1f} {y:.1f})" {look}>'
    return f"{drawn}<title>{escape(told)}</title></path>"


def sign(place: int) -> str:
    """What stands for that mark in a legend."""
    return MARKS[place % len(MARKS)][1]


def svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """The whole picture, as wide as there is room."""
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
    return "\n".join((head, *parts, "</svg>"))

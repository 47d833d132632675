"""How does the simulator's own trial look in a report? A table of what was checked, and its curves.

The trial is the JSON object that `make bench NAME=truth` prints: each check with what was measured, what it should be, what
somebody else published for it, and whether it is met; each curve with its axes. It comes from a file that anybody may have
written, so it is read here as strictly as a policy, and refused with one line if it is something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autoscaler.commands.drawing import colour, mark, scale, steps, svg, text, upwards
from autoscaler.commands.page_style import key
from autoscaler.policy.fields import dotted, objections
from autoscaler.refusal import Refusal

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 420, 230, 66, 12, 34, 10
FIRST = 5  # blue, then vermilion: the two colours that lie furthest apart
MOST_MARKS = 12  # about so many on a line
HEADINGS = ("check", "measured", "should be", "published", "")
WORDS = """
<p>Before a simulator may judge anybody, it is tried itself: against queueing theory, against what papers published, and
against times measured on GPUs. <b>Should be</b> is a formula's value or the bound that was set; <b>published</b> is what others
measured for the same thing on their machines, where the bound is not that figure itself. What is missed is told like the
rest: it says where a result of this report is not to be leaned on.</p>
"""

Coordinate = Annotated[float, Field(ge=-1e12, le=1e12)]
Point = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TrialCheck(_Written):
    """One figure; `tolerance` is a share of the reference."""

    name: str
    claim: str
    measured: float
    reference: float
    tolerance: float = Field(ge=0.0, le=1e6)
    rule: Literal["near", "at least", "at most"]
    published: float | None
    standard_error: float | None
    met: bool


class TrialSeries(_Written):
    """One line of a curve, or dots that are not joined."""

    name: str
    joined: bool
    points: Annotated[list[Point], Field(min_length=1)]


class TrialCurve(_Written):
    """One plot."""

    name: str
    title: str
    x: str
    y: str
    series: Annotated[list[TrialSeries], Field(min_length=1)]
    note: str


class Trial(_Written):
    """The whole object."""

    bench: Literal["truth"]
    requests: int = Field(ge=1, le=10**12)
    checks: Annotated[list[TrialCheck], Field(min_length=1)]
    missed: list[str]
    curves: list[TrialCurve]


def section(trial: Mapping[str, object]) -> str:
    """The trial as HTML, to be put into a page. Raises Refusal, one line, for an object that is no trial."""
    try:
        told = Trial.model_validate(trial)
    except ValidationError as error:
        first = objections(error, Trial)[0]
        raise Refusal(f"not the object that `make bench NAME=truth` prints: {dotted(first.path)}: {first.text}") from error
    met = sum(check.met for check in told.checks)
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    return "\n".join(
        (
            f"<h2>The simulator's own trial</h2>{WORDS}<p>{met} of {len(told.checks)} checks are met.</p>",
            f'<div class="wide"><table><tr>{head}</tr>{"".join(map(_row, told.checks))}</table></div>',
            *map(_figure, told.curves),
        )
    )


def _row(check: TrialCheck) -> str:
    error = "" if check.standard_error is None else f" &plusmn; {check.standard_error:.2g}"
    slack = f" &plusmn; {100 * check.tolerance:.3g} %" if check.tolerance else ""
    wanted = f"{'' if check.rule == 'near' else check.rule + ' '}{check.reference:.4g}{slack}"
    published = "" if check.published is None else f"{check.published:.4g}"
    verdict = "met" if check.met else "<b>missed</b>"
    figures = (f"{check.measured:.4g}{error}", wanted, published, verdict)
    cells = "".join(f'<td style="white-space: nowrap">{figure}</td>' for figure in figures)
    return f'<tr><td style="white-space: normal">{escape(check.claim)}</td>{cells}</tr>'


def _figure(curve: TrialCurve) -> str:
    signs = key({one.name: FIRST + at for at, one in enumerate(curve.series)})
    caption = f"<b>{escape(curve.title)}</b><br>{signs}<br>{escape(curve.note)}"
    return f'<figure style="max-width: {WIDTH}px"><figcaption>{caption}</figcaption>{_plot(curve)}</figure>'


def _plot(curve: TrialCurve) -> str:
    xs = [x for one in curve.series for x, _ in one.points]
    ys = [y for one in curve.series for _, y in one.points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = _range(ys)
    x, y = scale(x_low, x_high, LEFT, WIDTH - RIGHT), scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    parts = [f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="var(--ink)"/>']
    parts += [text(x(at), HEIGHT - BOTTOM + 14, f"{at:.6g}", "middle") for at in steps(x_low, x_high)]
    parts += [text(LEFT - 5, y(at) + 4, f"{at:.6g}", "end") for at in steps(y_low, y_high)]
    parts.append(text((LEFT + WIDTH) / 2, HEIGHT - 4, curve.x, "middle"))
    parts.append(upwards(12, (TOP + HEIGHT - BOTTOM) / 2, curve.y))
    for at, one in enumerate(curve.series):
        placed = [(x(along), y(value)) for along, value in one.points]
        if one.joined:
            parts.append(_line(placed, colour(FIRST + at)))
        parts += _marks(one, placed, FIRST + at)
    return svg(WIDTH, HEIGHT, curve.title, parts)


def _line(placed: Sequence[tuple[float, float]], shade: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline points="{points}" fill="none" stroke="{shade}" stroke-width="1.5"/>'


def _marks(one: TrialSeries, placed: Sequence[tuple[float, float]], place: int) -> Iterator[str]:
    """Each point's, but for a line of many only so many of it."""
    every = max(1, len(placed) // MOST_MARKS) if one.joined else 1
    for (x, y), (at, value) in list(zip(placed, one.points, strict=True))[::every]:
        yield mark(place, x, y, f"{one.name}: {value:.4g} at {at:.4g}")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From 0, unless all is far above it, or something below."""
    low, high = min(values), max(values)
    return (0.0, high) if 0 <= low < high / 2 else (low, high)

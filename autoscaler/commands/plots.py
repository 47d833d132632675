"""How do a frontier and a timeline look as SVG? Plain text, drawn by hand, so that a report needs no script and no library.

`frontier`  one point per run, GPU-hours to the right, attainment upwards; a line joins the points of one policy. The axis of
            attainment is stretched towards 100 %, where policies differ: from 90 to 99 % is as far as from 99 to 99.9 %
`timeline`  one small picture per policy: the offered rate as an area, each role's serving replicas as a step line, and those
            that start or drain on top of it, pale

Numbers are scaled into a box of fixed size; colours are those of Okabe and Ito, which colour-blind readers can tell apart.
What is black on white is white on black for a reader who likes it dark: `--ink` and `--area` are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result, Timeline

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
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 300, 60, 40, 14
SMALL_WIDTH, SMALL_HEIGHT = 420, 110
SHARES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)  # marked on the axis of attainment
PERFECT = 0.0005  # the share missed at the top of that axis

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the frontier plot."""

    name: str
    knob: float | None
    gpu_hours: float
    attainment: float


def colours(results: Sequence[Result]) -> Mapping[str, str]:
    """One colour per policy, the same in every plot of a report."""
    met = {result.contender.name for result in results}
    names = [name for name in (OURS, *PEERS, *REFERENCES) if name in met]
    return {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}


def frontier(results: Sequence[Result], attainment: float, colour: Mapping[str, str]) -> str:
    """The plot of one scenario. The lower bound is an upright line, the required attainment a level one."""
    points = [
        Point(one.contender.name, one.contender.point, one.gpu_hours, one.score.attainment)
        for one in results
        if one.score is not None and one.score.attainment is not None and one.gpu_hours is not None
    ]
    bounds = [one.gpu_hours for one in results if one.score is None and one.gpu_hours is not None]
    most = 1.08 * max([point.gpu_hours for point in points] + bounds, default=1.0) or 1.0
    least = min([point.attainment for point in points] + [attainment], default=0.0)
    floor = max([share for share in SHARES if share < least], default=0.0)
    x, height = _scale(0.0, most, LEFT, WIDTH - 10), _scale(_stretched(floor), _stretched(1.0), HEIGHT - BOTTOM, TOP)

    def y(share: float) -> float:
        return height(_stretched(share))

    parts = _axes(x, y, most, floor)
    parts.append(_line((LEFT, y(attainment)), (WIDTH - 10, y(attainment)), f"required {attainment:.1%}", "4 3"))
    for hours in bounds:
        parts.append(_line((x(hours), TOP), (x(hours), HEIGHT - BOTTOM), f"lower bound {hours:.2f} GPU-hours", "1 3"))
    for name, shade in colour.items():
        mine = sorted((point for point in points if point.name == name), key=lambda point: point.gpu_hours)
        if len(mine) > 1:
            path = " ".join(f"{x(point.gpu_hours):.1f},{y(point.attainment):.1f}" for point in mine)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{shade}" stroke-opacity="0.6"/>')
        parts += [_dot(x(point.gpu_hours), y(point.attainment), shade, point) for point in mine]
    return _svg(WIDTH, HEIGHT, "attainment against GPU-hours", parts)


def timeline(shown: Timeline, title: str, colour: Mapping[str, str]) -> str:
    """The picture of one run. `colour`: of each role by its name."""
    held = [[s + m for s, m in zip(shown.serving[role], shown.moving[role], strict=True)] for role in shown.serving]
    most = max([count for row in held for count in row], default=1) or 1
    rate = max(shown.offered_rps, default=0.0) or 1.0
    steps = len(shown.offered_rps)
    x, y = _scale(0, steps, 30, SMALL_WIDTH - 4), _scale(0, most, SMALL_HEIGHT - 16, 6)
    flow = _scale(0, rate, SMALL_HEIGHT - 16, 6)
    area = _staircase(shown.offered_rps, x, flow)
    parts = [f'<polygon points="{x(0):.1f},{flow(0):.1f} {area} {x(steps):.1f},{flow(0):.1f}" fill="var(--area)"/>']
    for (role, serving), both in zip(shown.serving.items(), held, strict=True):
        shade = colour[role.value]
        parts.append(f'<polyline points="{_staircase(both, x, y)}" fill="none" stroke="{shade}" stroke-opacity="0.35"/>')
        parts.append(f'<polyline points="{_staircase(serving, x, y)}" fill="none" stroke="{shade}" stroke-width="1.6"/>')
    parts.append(_text(26, 12, f"{most}", "end"))
    parts.append(_text(26, SMALL_HEIGHT - 16, "0", "end"))
    parts.append(
        _text(30, SMALL_HEIGHT - 3, f"0 to {steps * shown.step_s / 60:.0f} min; grey: load, up to {rate:.1f} requests/s", "start")
    )
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, title, parts)


def _scale(low: float, high: float, begin: float, end: float) -> Scale:
    """A straight line from [low, high] to [begin, end]; an empty range goes to the begin."""
    span = high - low
    return lambda value: begin + (end - begin) * (value - low) / span if span else begin


def _staircase(values: Sequence[float], x: Scale, y: Scale) -> str:
    """Each value over its whole step."""
    return " ".join(f"{x(at):.1f},{y(value):.1f} {x(at + 1):.1f},{y(value):.1f}" for at, value in enumerate(values))


def _round(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 ... (or tenths, hundredths of them) that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)


def _stretched(share: float) -> float:
    """Where a share of met requests stands: 90 % at 1, 99 % at 2, all of them at 3.3."""
    return -math.log10(max(PERFECT, 1 - share))


def _axes(x: Scale, y: Scale, most: float, floor: float) -> list[str]:
    parts = [
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 10}" fill="none" stroke="var(--ink)"/>',
        _text((LEFT + WIDTH) / 2, HEIGHT - 6, "GPU-hours (left is cheaper); upwards: attainment", "middle"),
    ]
    step = _round(most / 5)
    marks = [tick * step for tick in range(int(most / step) + 1)]
    parts += [_text(x(hours), HEIGHT - BOTTOM + 14, f"{hours:g}", "middle") for hours in marks]
    for share in (share for share in SHARES if share >= floor):
        parts.append(_text(LEFT - 5, y(share) + 4, f"{share * 100:g} %", "end"))
        parts.append(f'<path d="M{LEFT} {y(share):.1f}H{WIDTH - 10}" stroke="var(--area)"/>')
    return parts


def _dot(x: float, y: float, shade: str, point: Point) -> str:
    knob = "" if point.knob is None else f", headroom {point.knob:g}"
    told = escape(f"{point.name}{knob}: {point.attainment:.2%}, {point.gpu_hours:.2f} GPU-hours")
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{shade}"><title>{told}</title></circle>'


def _line(begin: tuple[float, float], end: tuple[float, float], told: str, dash: str) -> str:
    ends = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {ends} stroke="#888" stroke-dasharray="{dash}"><title>{escape(told)}</title></line>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
    return "\n".join((head, *parts, "</svg>"))

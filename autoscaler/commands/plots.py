"""How do a frontier and a timeline look as SVG? Drawn by hand (drawing.py), so that a report needs no script and no library.

`frontier`  one mark per run, GPU-hours to the right, attainment upwards; a line joins the marks of one policy. The axis of
            attainment is stretched towards 100 %, where policies differ: from 90 to 99 % is as far as from 99 to 99.9 %
`timeline`  one small picture per policy: the offered rate as an area, each role's serving replicas as a step line, and those
            that start or drain on top of it, pale. The second role's line is dashed, and drawn over the first's
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from autoscaler.commands.drawing import Scale, colour, mark, scale, steps, svg, text, upwards
from autoscaler.core.fleet import Role
from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result, Timeline

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 300, 74, 40, 14
SMALL_WIDTH, SMALL_HEIGHT = 420, 110
SHARES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)  # marked on the axis of attainment
PERFECT = 0.0005  # the share missed at the top of that axis
ROLE_COLOURS = dict(zip(Role, ("#0072b2", "#d55e00"), strict=True))
ROLE_DASHES = dict(zip(Role, ("none", "5 3"), strict=True))


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the frontier plot."""

    name: str
    knob: float | None
    gpu_hours: float
    attainment: float


def places(results: Sequence[Result]) -> Mapping[str, int]:
    """A number for each policy, which is its colour and its mark, the same in every plot of a report."""
    met = {result.contender.name for result in results}
    return {name: at for at, name in enumerate(name for name in (OURS, *PEERS, *REFERENCES) if name in met)}


def frontier(results: Sequence[Result], attainment: float, placed: Mapping[str, int]) -> str:
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
    x, height = scale(0.0, most, LEFT, WIDTH - 10), scale(_stretched(floor), _stretched(1.0), HEIGHT - BOTTOM, TOP)

    def y(share: float) -> float:
        return height(_stretched(share))

    parts = _axes(x, y, most, floor)
    parts.append(_line((LEFT, y(attainment)), (WIDTH - 10, y(attainment)), f"required {attainment:.1%}", "4 3"))
    for hours in bounds:
        parts.append(_line((x(hours), TOP), (x(hours), HEIGHT - BOTTOM), f"lower bound {hours:.2f} GPU-hours", "1 3"))
    for name, place in placed.items():
        parts += _policy([point for point in points if point.name == name], place, x, y)
    return svg(WIDTH, HEIGHT, "attainment against GPU-hours", parts)


def _policy(points: Sequence[Point], place: int, x: Scale, y: Scale) -> list[str]:
    mine = sorted(points, key=lambda point: point.gpu_hours)
    path = " ".join(f"{x(point.gpu_hours):.1f},{y(point.attainment):.1f}" for point in mine)
    joined = f'<polyline points="{path}" fill="none" stroke="{colour(place)}" stroke-opacity="0.6"/>'
    marks = [mark(place, x(point.gpu_hours), y(point.attainment), _told(point)) for point in mine]
    return [joined, *marks] if len(mine) > 1 else marks


def timeline(shown: Timeline, title: str) -> str:
    """The picture of one run."""
    held = [[s + m for s, m in zip(shown.serving[role], shown.moving[role], strict=True)] for role in shown.serving]
    most = max([count for row in held for count in row], default=1) or 1
    rate = max(shown.offered_rps, default=0.0) or 1.0
    number = len(shown.offered_rps)
    x, y = scale(0, number, 30, SMALL_WIDTH - 4), scale(0, most, SMALL_HEIGHT - 16, 6)
    flow = scale(0, rate, SMALL_HEIGHT - 16, 6)
    area = _staircase(shown.offered_rps, x, flow)
    parts = [f'<polygon points="{x(0):.1f},{flow(0):.1f} {area} {x(number):.1f},{flow(0):.1f}" fill="var(--area)"/>']
    for (role, serving), both in zip(shown.serving.items(), held, strict=True):
        look = f'fill="none" stroke="{ROLE_COLOURS[role]}" stroke-dasharray="{ROLE_DASHES[role]}"'
        parts.append(f'<polyline points="{_staircase(both, x, y)}" {look} stroke-opacity="0.35"/>')
        parts.append(f'<polyline points="{_staircase(serving, x, y)}" {look} stroke-width="1.6"/>')
    told = f"minutes 0 to {number * shown.step_s / 60:.0f}; lines: replicas; grey: load, up to {rate:.1f} requests/s"
    parts += [text(26, 12, f"{most}", "end"), text(26, SMALL_HEIGHT - 16, "0", "end"), text(30, SMALL_HEIGHT - 3, told, "start")]
    return svg(SMALL_WIDTH, SMALL_HEIGHT, title, parts)


def _staircase(values: Sequence[float], x: Scale, y: Scale) -> str:
    """Each value over its whole step."""
    return " ".join(f"{x(at):.1f},{y(value):.1f} {x(at + 1):.1f},{y(value):.1f}" for at, value in enumerate(values))


def _stretched(share: float) -> float:
    """Where a share of met requests stands: 90 % at 1, 99 % at 2, all of them at 3.3."""
    return -math.log10(max(PERFECT, 1 - share))


def _axes(x: Scale, y: Scale, most: float, floor: float) -> list[str]:
    parts = [
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 10}" fill="none" stroke="var(--ink)"/>',
        text((LEFT + WIDTH) / 2, HEIGHT - 6, "GPU-hours, left is cheaper", "middle"),
        upwards(12, (TOP + HEIGHT - BOTTOM) / 2, "attainment, up is better"),
        *(text(x(hours), HEIGHT - BOTTOM + 14, f"{hours:g}", "middle") for hours in steps(0.0, most)),
    ]
    for share in (share for share in SHARES if share >= floor):
        parts.append(text(LEFT - 5, y(share) + 4, f"{share * 100:g} %", "end"))
        parts.append(f'<path d="M{LEFT} {y(share):.1f}H{WIDTH - 10}" stroke="var(--area)"/>')
    return parts


def _told(point: Point) -> str:
    knob = "" if point.knob is None else f", headroom {point.knob:g}"
    return f"{point.name}{knob}: {point.attainment:.2%}, {point.gpu_hours:.2f} GPU-hours"


def _line(begin: tuple[float, float], end: tuple[float, float], told: str, dash: str) -> str:
    ends = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {ends} stroke="#888" stroke-dasharray="{dash}"><title>{escape(told)}</title></line>'

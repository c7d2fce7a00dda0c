"""A chart as SVG: lines over time that hold their value, limits, and marks. Colours come from the page's style."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from killswitch.pictures.traces import Trace

WIDTH: Final = 960
HEIGHT: Final = 280
LEFT: Final = 78
RIGHT: Final = 14
TOP: Final = 26
BOTTOM: Final = 46
HUES: Final = 8
"""Lines of so many colours; the page's style has them."""
APART: Final = 4
"""Marks nearer to each other than this are one; as all lengths here, of a picture that is WIDTH wide."""
TICKS_Y: Final = 5
TICKS_X: Final = 6
NICE_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000),
)
"""Distances between times that people count in, in seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """A trace and what it is called; `hue` from 0 to HUES - 1. `limit`: it is a limit and not a value.

    A limit that is one series' own has that one's hue; one that is for all has None.
    """

    name: str
    trace: Trace
    hue: int | None = 0
    limit: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: `kind` is trip, warning, unknown or start; `text` shows under the pointer."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is in the picture: times and values, and where they lie in it."""

    began: float
    ended: float
    low: float
    high: float

    def x(self, at: float) -> float:
        share = (at - self.began) / (self.ended - self.began)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = value / (self.high - self.low) - self.low / (self.high - self.low)
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)


def svg(title: str, lines: Sequence[Line], marks: Iterable[Mark], began: float, ended: float) -> str:
    """The chart. `title` is what a screen reader says. Times in seconds since 1970; UTC on the axis."""
    frame = _frame(lines, began, ended)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_values(frame),
        *_times(frame),
        *(_mark(frame, mark) for mark in _apart(frame, marks)),
        *(_path(frame, line) for line in lines),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(lines: Sequence[Line], began: float, ended: float) -> _Frame:
    held = [extremes for line in lines if (extremes := line.trace.extremes()) is not None]
    low = min((lowest for lowest, _ in held), default=0.0)
    high = max((highest for _, highest in held), default=1.0)
    if low >= 0 and low <= high / 2:
        low = 0.0  # a line's height then says how much of the limit is used
    if high - low <= 0:
        low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
    margin = (high - low) * 0.06
    return _Frame(began, max(ended, began + 0.001), low if low == 0 else low - margin, high + margin)


def _values(frame: _Frame) -> Iterator[str]:
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{plain(value)}</text>'


def ticks(low: float, high: float) -> list[float]:
    """About five round values from low to high."""
    span = high / TICKS_Y - low / TICKS_Y
    if not 0 < span < math.inf:
        return [low]
    power = math.floor(math.log10(span))
    step = next(s for s in (1.0, 2.0, 5.0, 10.0) if s * 10.0**power >= span * 0.999) * 10.0**power
    if not 0 < step < math.inf:
        return [low]
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step * (1 + 1e-12)) + 1)]


def plain(value: float) -> str:
    """A value at the axis: 0.25, 1,200, 2.5M, 3e+15."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if unit <= size < unit * 1000:
            return f"{value / unit:g}{name}"
    return f"{value:,.0f}" if 1000 <= size < 1e6 else f"{value:.4g}"


def _times(frame: _Frame) -> Iterator[str]:
    span = frame.ended - frame.began
    step = next((s for s in NICE_S if s * TICKS_X >= span), NICE_S[-1])
    foot = HEIGHT - BOTTOM
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{foot}" y2="{foot}"/>'
    at = math.ceil(frame.began / step) * step
    day = ""
    while at <= frame.ended and step > 0:
        x = frame.x(at)
        moment = datetime.fromtimestamp(at, UTC)
        said = _clock(moment, step)
        date = f"{moment:%Y-%m-%d}"
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 5}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{foot + 19}" text-anchor="middle">{said}</text>'
        if date not in (day, said):
            yield f'<text class="tick" x="{x:.1f}" y="{foot + 35}" text-anchor="middle">{date}</text>'
        day = date
        at += step


def _clock(moment: datetime, step_s: float) -> str:
    if step_s >= 86_400:
        return f"{moment:%Y-%m-%d}"
    if step_s >= 60:
        return f"{moment:%H:%M}"
    return f"{moment:%H:%M:%S}" + (f".{moment.microsecond // 1000:03d}" if step_s < 1 else "")


def _path(frame: _Frame, line: Line) -> str:
    """Each step's first, lowest, highest and last value; between steps the last one holds."""
    points: list[str] = []
    for step in line.trace.steps():
        x, until = frame.x(step.at), frame.x(step.until)
        points.append(f"{'H' if points else 'M'}{x:.1f}" + ("" if points else f" {frame.y(step.first):.1f}"))
        points += [f"V{frame.y(value):.1f}" for value in (step.first, step.low, step.high, step.last)]
        if until > x:
            points.append(f"H{until:.1f}")
    if not points:
        return ""
    points.append(f"H{frame.x(frame.ended):.1f}")
    colour = "" if line.hue is None else f" hue{line.hue % HUES}"
    kind = f"{'limit' if line.limit else 'line'}{colour}"
    return f'<path class="{kind}" d="{" ".join(_thinned(points))}"><title>{escape(line.name)}</title></path>'


def _thinned(points: list[str]) -> Iterator[str]:
    before = ""
    for point in points:
        if point != before:
            yield point
        before = point


def _apart(frame: _Frame, marks: Iterable[Mark]) -> list[Mark]:
    """Marks of a kind that would lie on one another become one, which tells of the first and how many there are."""
    heaps: dict[tuple[str, int], list[Mark]] = {}
    for mark in marks:
        heaps.setdefault((mark.kind, int(frame.x(mark.at) / APART)), []).append(mark)
    return [
        heap[0]
        if len(heap) == 1
        else Mark(heap[0].at, heap[0].kind, f"{heap[0].text} (and {len(heap) - 1:,} more here)")
        for heap in heaps.values()
    ]


def _mark(frame: _Frame, mark: Mark) -> str:
    x, head, foot = frame.x(mark.at), TOP - 4, HEIGHT - BOTTOM
    title = f"<title>{escape(mark.text)}</title>"
    kind = escape(mark.kind)
    match mark.kind:
        case "trip":
            return (
                f'<g class="{kind}">{title}<line x1="{x:.1f}" x2="{x:.1f}" y1="{head}" y2="{foot}"/>'
                f'<path d="M{x - 7:.1f} {head - 14} h14 l-7 13 z"/></g>'
            )
        case "warning":
            return f'<g class="{kind}">{title}<path d="M{x - 5:.1f} {foot} h10 l-5 -10 z"/></g>'
        case "start":
            return f'<g class="{kind}">{title}<line x1="{x:.1f}" x2="{x:.1f}" y1="{head}" y2="{foot}"/></g>'
        case _:
            return f'<g class="{kind}">{title}<rect x="{x - 2:.1f}" y="{foot - 8}" width="4" height="8"/></g>'

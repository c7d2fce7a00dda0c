"""What the rules did on a recording, as a page: for each rule its readings, its limit, warnings and trips."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import DrawdownRule, FeedRule
from killswitch.domain.watch import hearts, kinds
from killswitch.domain.watch.findings import Armed, Breach, Found
from killswitch.domain.watch.limit import named
from killswitch.pictures.chart import HUES, Line, Mark, svg
from killswitch.pictures.page import page, table
from killswitch.pictures.traces import Trace
from killswitch.wire.recording import at_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import Rule
    from killswitch.domain.view import Standing

MARKS_MAX: Final = 20_000
"""So many trips and so many warnings of a rule are kept to be drawn; of the rest there is a number."""
ROWS_MAX: Final = 200
"""So many of them stand as rows under the chart."""
SERIES_MAX: Final = 20_000
"""So many series are kept in all; the lines of a chart are those that came nearest to the limit."""

QUIET: Final = frozenset({"heard_again"})


@dataclass(slots=True)
class _Series:
    """One series of a rule: its values, the limits that it was held against, and how near it came."""

    labels: Labels
    values: Trace = field(default_factory=Trace)
    limits: tuple[Trace, ...] = ()
    least: float | None = None


@dataclass(slots=True)
class _Rule:
    series: dict[Labels, _Series] = field(default_factory=dict)
    trips: list[tuple[float, Breach]] = field(default_factory=list)
    tripped: int = 0
    warned: list[tuple[float, str, str]] = field(default_factory=list)  # (at, kind, text)
    counts: dict[str, int] = field(default_factory=dict)  # kind -> how many


class Picture:
    """Watches a rehearsal go by, and draws it in the end. Its memory has a bound, whatever the recording."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: Final = {rule.name: (rule, _Rule()) for rule in rules}
        self._starts: list[float] = []
        self._began: float | None = None
        self._ended = 0.0
        self._kept = self._left_out = 0

    def moment(self, at: float) -> None:
        """The recording has come to this time."""
        self._began = at if self._began is None else min(self._began, at)
        self._ended = max(self._ended, at)

    def started(self, at: float) -> None:
        """The daemon started here: what it knew before is gone."""
        if self._began is not None and len(self._starts) < MARKS_MAX:  # the first one is where the picture begins
            self._starts.append(at)
        self.moment(at)

    def stood(self, at: float, standings: Iterable[Standing]) -> None:
        """How a series stands to its rules."""
        for one in standings:
            held = self._rules[one.rule][1].series
            series = held.get(one.labels)
            if series is None:
                if self._kept >= SERIES_MAX:
                    self._left_out += 1
                    continue
                self._kept += 1
                series = held[one.labels] = _Series(one.labels, limits=tuple(Trace() for _ in one.limits))
            series.values.take(at, float(one.value))
            for trace, limit in zip(series.limits, one.limits, strict=True):
                trace.take(at, float(limit))
            if one.headroom is not None and (series.least is None or one.headroom < series.least):
                series.least = one.headroom

    def found(self, at: float, found: Found) -> None:
        """A breach at its edge, or something that people are told of. What concerns a feed only is not drawn."""
        if isinstance(found, Breach):
            if not found.repeated:
                tripped = self._rules[found.rule][1]
                tripped.tripped += 1
                if len(tripped.trips) < MARKS_MAX:
                    tripped.trips.append((at, found))
            return
        if isinstance(found, Armed) or found.rule is None or found.kind in QUIET:
            return
        held = self._rules[found.rule][1]
        held.counts[found.kind] = held.counts.get(found.kind, 0) + 1
        if len(held.warned) < MARKS_MAX:
            held.warned.append((at, found.kind, found.text))

    # --- drawing

    def html(self, names: Iterable[str], lines: int) -> str:
        """The page. `names`: of the recordings; `lines`: how many were read."""
        files = ", ".join(escape(name) for name in names)
        began, ended = self._began or 0.0, self._ended
        body = [
            "<h1>Replay</h1>",
            f'<p class="quiet">{files}: {lines:,} lines, from {at_text(began)} to {at_text(ended)} (UTC)</p>',
            self._summary(),
        ]
        if self._left_out:
            body.append(f'<p class="warn">More than {SERIES_MAX:,} series: those that came last are not drawn.</p>')
        body += [self._section(rule, held) for rule, held in self._rules.values()]
        if not self._rules:
            body.append("<p>The configuration has no rules.</p>")
        return page("killswitch replay", "\n".join(body))

    def _summary(self) -> str:
        rows = []
        for rule, held in self._rules.values():
            least = min((s.least for s in held.series.values() if s.least is not None), default=None)
            trips = held.tripped
            rows.append(
                (
                    f'<a href="#{escape(rule.name)}">{escape(rule.name)}</a>',
                    escape(rule.kind) + (", in shadow" if rule.mode == "shadow" else ""),
                    f"{len(held.series):,}",
                    f'<span class="{"bad" if trips else "ok"}">{trips:,}</span>',
                    f"{sum(held.counts.values()):,}",
                    _share(least),
                )
            )
        heads = ("Rule", "Kind", "Series", "Trips", "Warnings", "Least headroom")
        return table(heads, rows, numbers=(2, 3, 4, 5)) if rows else ""

    def _section(self, rule: Rule, held: _Rule) -> str:
        drawn = sorted(held.series.values(), key=_nearest_first)[:HUES]
        names = [named(s.labels) or _watched(rule) for s in drawn]
        lines = [Line(name, s.values, hue) for hue, (name, s) in enumerate(zip(names, drawn, strict=True))]
        for name, series in zip(names, drawn, strict=True):
            own = lines[names.index(name)].hue if isinstance(rule, DrawdownRule) else None
            lines += [Line(f"limit, {name}", trace, own, limit=True) for trace in series.limits]
        parts = [
            f'<h2 id="{escape(rule.name)}">{escape(rule.name)}</h2>',
            f"<p>{self._said(rule, held)}</p>",
        ]
        if drawn or held.trips:
            title = f"Rule {rule.name}: {_watched(rule)} over time, its limit, warnings and trips"
            chart = svg(title, lines, self._marks(held), self._began or 0.0, self._ended)
            parts += [f'<div class="wide">{chart}</div>', _key(names, drawn, held)]
        if not drawn and not isinstance(rule, FeedRule):
            parts.append('<p class="quiet">No reading of it is in the recording.</p>')
        return "\n".join([*parts, *_rows(rule, held)])

    def _said(self, rule: Rule, held: _Rule) -> str:
        where = f" where {escape(named(rule.where))}" if rule.where else ""
        owner = f" Owner: {escape(rule.owner)}." if rule.owner else ""
        count = held.tripped
        said = f"{count:,} trip{'s' if count > 1 else ''}." if count else "No trip."
        trips = f'<span class="{"bad" if count else "ok"}">{said}</span>'
        shadow = " In shadow: nothing is cancelled." if rule.mode == "shadow" else ""
        return f"{escape(_watched(rule))}{where}; trips {escape(_limit(rule))}. {trips}{shadow}{owner}"

    def _marks(self, held: _Rule) -> list[Mark]:
        marks = [Mark(at, "start", f"{at_text(at)}: the daemon started") for at in self._starts]
        for at, kind, text in held.warned:
            marks.append(Mark(at, "warning" if kind == "near_limit" else "unknown", f"{at_text(at)}: {text}"))
        return marks + [Mark(at, "trip", f"{at_text(at)}: {trip.text}") for at, trip in held.trips]


def _watched(rule: Rule) -> str:
    return f"feed {rule.feed}" if isinstance(rule, FeedRule) else rule.reading


def _limit(rule: Rule) -> str:
    return hearts.in_words(rule) if isinstance(rule, FeedRule) else kinds.in_words(rule)


def _nearest_first(series: _Series) -> tuple[float, Labels]:
    return (math.inf if series.least is None else series.least, series.labels)


def _share(headroom: float | None) -> str:
    if headroom is None:
        return '<span class="quiet">unknown</span>'
    return f'<span class="{"bad" if headroom <= 0 else "ok"}">{100 * headroom:,.1f} %</span>'


def _key(names: list[str], drawn: list[_Series], held: _Rule) -> str:
    """What the colours mean, and how near each line came."""
    items = [
        f'<li><i class="hue{hue}"></i>{escape(name)}, least headroom {_share(s.least)}</li>'
        for hue, (name, s) in enumerate(zip(names, drawn, strict=True))
    ]
    items.append('<li><i class="dash"></i>limit</li>')
    more = len(held.series) - len(drawn)
    if more:
        items.append(f'<li class="quiet">{more:,} more series, none of them nearer to the limit</li>')
    items.append('<li class="quiet">\u25bc trip, \u25b2 warning, \u25ae unknown or bad</li>')
    return f'<ul class="key">{"".join(items)}</ul>'


def _rows(rule: Rule, held: _Rule) -> list[str]:
    """The trips, and behind a fold the warnings, each in the order of time."""
    cancels = "in shadow, live it cancels" if rule.mode == "shadow" else "cancels"
    trips = [
        (_when(at), f'{escape(one.text)}<br><span class="quiet">{cancels} {escape(one.scope.in_words())}</span>')
        for at, one in held.trips[:ROWS_MAX]
    ]
    warned = [
        (
            _when(at),
            f'<span class="t">{escape(kind.replace("_", " "))}</span>',
            escape(text.removeprefix(f"rule {rule.name}: ")),
        )
        for at, kind, text in held.warned[:ROWS_MAX]
    ]
    parts = []
    if trips:
        parts += [table(("Trip at (UTC)", "Why"), trips), *_more(held.tripped, len(trips))]
    if warned:
        count = sum(held.counts.values())
        kinds_of = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(held.counts.items()))
        said = f"<summary>{count:,} warning{'s' if count > 1 else ''}: {escape(kinds_of)}</summary>"
        rows = table(("Warned at (UTC)", "What", "Why"), warned)
        parts += ["<details>", said, rows, *_more(count, len(warned)), "</details>"]
    return parts


def _when(at: float) -> str:
    return f'<span class="t">{at_text(at)[:23].replace("T", " ")}</span>'


def _more(count: int, shown: int) -> list[str]:
    return [f'<p class="quiet">and {count - shown:,} more</p>'] if count > shown else []

"""Who watches what: the rules, their feeds, the series each rule knows, and how each of them stands.

Watch writes it; the looking from outside reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import Label, LeveledRule, RatioRule, StaleRule, TemplateError
from killswitch.domain.undo import Table
from killswitch.domain.watch import kinds, limit, windows
from killswitch.domain.watch.doubts import IN_WORDS, Doubts
from killswitch.domain.watch.levels import levels_of
from killswitch.domain.watch.peaks import Peaks
from killswitch.domain.watch.readings import START_S, Readings, lanes_of
from killswitch.domain.watch.shown import ALWAYS, PRICE, WORTHS
from killswitch.domain.watch.venue import Venue

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Labels
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import FeedSpec, ReadingRule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.readings import LaneKey, Series, SeriesKey, Silence


@dataclass(frozen=True, slots=True)
class Watched:
    """The rules that watch a series, each with what it trips; `lacking`: those it is bad for."""

    rules: tuple[tuple[ReadingRule, Scope], ...]
    lacking: tuple[ReadingRule, ...]


@dataclass(frozen=True, slots=True)
class Stand:
    """A series is past a rule's limit since then. `breached` False: for_s is still running.

    `said`: what the rule measured and reported last; `worst`: the worst one since then.
    """

    since: float
    breached: bool
    said: kinds.Measured
    worst: kinds.Measured


class Roster:
    """The rules of a configuration, and the tables that Watch keeps about them."""

    def __init__(
        self,
        feeds: tuple[FeedSpec, ...],
        rules: tuple[ReadingRule, ...],
        undo: Undo,
        agenda: Agenda,
        started_at: float,
    ) -> None:
        self.feeds: Final = {feed.name: feed for feed in feeds}
        self.rules: Final = {rule.name: rule for rule in rules}
        self.started_at: Final = started_at
        self.by_lane: Final[dict[LaneKey, tuple[ReadingRule, ...]]] = {
            lane: tuple(rule for rule in rules if _reads(rule, feed, lane)) for feed in feeds for lane in lanes_of(feed)
        }
        self.lanes_of: Final[dict[str, tuple[LaneKey, ...]]] = {
            rule.name: tuple(lane for lane, its in self.by_lane.items() if rule in its) for rule in rules
        }
        self.levels: Final = {rule.name: levels_of(rule) for rule in rules if isinstance(rule, LeveledRule)}
        # What a feed's age and silence are told of: the readings that rules watch, else those it always has.
        self.told: Final[dict[str, tuple[LaneKey, ...]]] = {feed.name: self._told(feed) for feed in feeds}
        self.venue: Final = Venue(feeds, undo)
        self.readings: Final = Readings(feeds, self.venue, undo, agenda, started_at)
        self.doubts: Final = Doubts(undo)
        self.watched: Final[Table[SeriesKey, Watched]] = Table(undo)
        self.paired_by: Final = {
            rule.name: _paired_by(rule) if any(self.feeds[feed].oms for feed, _ in self.lanes_of[rule.name]) else None
            for rule in rules
            if isinstance(rule, RatioRule)
        }
        self.paired: Final[Table[tuple[str, SeriesKey], tuple[SeriesKey, ...]]] = Table(undo)
        self.known: Final[Table[str, int]] = Table(undo)  # rule -> how many series
        self.stands: Final[Table[tuple[str, SeriesKey], Stand]] = Table(undo)
        self.near: Final[Table[tuple[str, SeriesKey], int]] = Table(undo)  # levels of warn_at that hold
        self.windows: Final = windows.Windows(undo)
        self.peaks: Final = Peaks(undo)
        # Since when a window that a restart brought back has been watched: longer than its feed is up here.
        self.since: Final[Table[tuple[str, SeriesKey], float]] = Table(undo)
        self.missed: Final[Table[str, bool]] = Table(undo)  # rules said to know no series
        self.awaited: Final[Table[SeriesKey, bool]] = Table(undo)  # an OMS's that never could be told; True: said so
        self.counts: Final[Table[str, int]] = Table(undo)  # feed -> readings

    def _told(self, feed: FeedSpec) -> tuple[LaneKey, ...]:
        lanes = lanes_of(feed)
        watched = tuple(lane for lane in lanes if self.by_lane[lane])
        return watched or tuple(lane for lane in lanes if feed.kind != "oms" or lane[1] in ALWAYS)

    def feeds_of(self, oms: str) -> tuple[str, ...]:
        return tuple(f.name for f in self.feeds.values() if f.kind == "oms" and f.oms == oms)

    def needs_instruments(self, oms: str) -> bool:
        """Some rule reads what comes of this OMS's prices."""
        return any(self.by_lane.get((feed, name)) for feed in self.feeds_of(oms) for name in (PRICE, *WORTHS))

    def prices_needed(self, oms: str) -> tuple[int, ...]:
        """The instruments whose prices some rule rests on, as far as instruments are known; in order."""
        needed: set[int] = set()
        for feed in self.feeds_of(oms):
            for rule in self.by_lane[feed, PRICE]:
                named = dict(rule.where).get("instrument")
                if named is None:
                    needed.update(self.venue.markets.instruments(oms))
                elif named.isascii() and named.isdigit() and 0 < int(named) < 2**63:
                    needed.add(int(named))
            if any(self.by_lane.get((feed, name)) for name in WORTHS):
                needed.update(self.venue.markets.in_chains(oms))
        return tuple(sorted(needed))

    def due(self, rule: str) -> float:
        """When a rule must know a series."""
        dues = (self.readings.first_due(feed) for feed, _ in self.lanes_of[rule])
        return max(dues, default=self.started_at + START_S)

    def is_silent(self, rule: ReadingRule, lane: LaneKey, now: float) -> bool:
        """Whether what the rule watches there is unknown as a whole.

        A stale rule has its own word on what was ever heard.
        """
        if isinstance(rule, StaleRule) and self.readings.lane(lane).as_of is not None:
            return False
        return self.readings.is_silent(lane, now)

    def is_unknown(self, rule: ReadingRule, key: SeriesKey, series: Series, now: float) -> bool:
        """Whether a series is too old for the rule to judge. To a stale rule it never is: age is what it judges."""
        return not isinstance(rule, StaleRule) and not self.readings.is_fresh(key, series, now)

    def home(self, rule: ReadingRule, key: SeriesKey) -> SeriesKey:
        """The key under which a rule keeps what it knows of a series.

        A ratio pairs two readings by their labels, from whichever feeds they come.
        """
        if not isinstance(rule, RatioRule):
            return key
        by = self.paired_by[rule.name]
        return ("", rule.reading, key[2] if by is None else tuple(pair for pair in key[2] if pair[0] in by))

    def windows_of(self, rule: ReadingRule, key: SeriesKey) -> tuple[SeriesKey, ...]:
        """What the windows stand under that a series has in a rule."""
        home = self.home(rule, key)
        return (home, windows.over(rule, home)) if isinstance(rule, RatioRule) else (home,)

    def members(self, rule: ReadingRule, home: SeriesKey) -> tuple[SeriesKey, ...]:
        """The series of which the rule keeps something under that key."""
        return self.paired.get((rule.name, home)) or () if isinstance(rule, RatioRule) else (home,)

    def watch(self, key: SeriesKey) -> Watched:
        """A series that is met for the first time: who watches it, and with what scope."""
        rules, lacking = [], []
        for rule in self.by_lane[key[:2]]:
            if not concerns(rule, key[2]):
                continue
            scope = scope_of(rule, key[2])
            if scope is None:
                lacking.append(rule)
                continue
            rules.append((rule, scope))
            self.meet(rule, key)
        watched = self.watched[key] = Watched(tuple(rules), tuple(lacking))
        return watched

    def meet(self, rule: ReadingRule, key: SeriesKey) -> None:
        """A series of the rule is known from now on."""
        self.known[rule.name] = (self.known.get(rule.name) or 0) + 1
        if isinstance(rule, RatioRule):
            at = (rule.name, self.home(rule, key))
            self.paired[at] = (*(self.paired.get(at) or ()), key)

    def warm_in_s(self, rule: ReadingRule, key: SeriesKey, now: float) -> float:
        """How long it takes until the rule's window holds all that came; 0 for one that is whole."""
        looks_back_s = kinds.window_s(rule)
        if not looks_back_s:
            return 0.0
        since = [self.watched_since(rule, window) for window in self.windows_of(rule, key)]
        return max(looks_back_s if at is None else max(0.0, at + looks_back_s - now) for at in since)

    def watched_since(self, rule: ReadingRule, window: SeriesKey) -> float | None:
        """From when on all that came is in the rule's window: what came before that nobody here has heard.

        That is when its feeds were up for the first time, or what a restart brought back. None: not at all yet.
        """
        since = self.since.get((rule.name, window))
        if since is not None:
            return since
        feeds = [window[0]]
        if isinstance(rule, RatioRule):
            feeds = [feed for feed, name in self.lanes_of[rule.name] if name == window[1]]
        began = [self.readings.link(feed).first_up for feed in feeds]
        known = [at for at in began if at is not None]
        return max(known, default=None) if len(known) == len(began) else None

    def is_listed(self, rule: ReadingRule) -> bool:
        """A live session listed accounts whose series this rule would watch."""
        account = dict(rule.where).get("account")
        return any(
            (oms := self.feeds[feed].oms) is not None and self.venue.is_listed(oms, name, account)
            for feed, name in self.lanes_of[rule.name]
        )

    def age(self, key: SeriesKey, series: Series, now: float) -> float:
        return max(0.0, now - self.readings.last_look(key, series))

    def newest_age(self, rule: ReadingRule, home: SeriesKey, now: float) -> float:
        """The age of what a rule measures: of the newest reading in it."""
        keys = self.members(rule, home)
        ages = [self.age(key, series, now) for key in keys if (series := self.readings.get(key)) is not None]
        return min(ages, default=0.0)

    def silence_text(self, silence: Silence, series: Series | None, now: float) -> str:
        """Why a series, or a feed as a whole, counts as stale."""
        feed, name = silence.lane
        oms, labels = self.feeds[feed].oms, silence.labels
        why = self.venue.why_not(oms, name, labels, now) if oms is not None and labels is not None else ""
        whose = (f"feed {feed}", *((why,) if why else ()))
        if silence.age_s is None:
            since = now - self.started_at
            where = limit.named(labels or (), *whose, f"{since:.1f} s since the start")
            return f"{name} was never heard ({where})"
        last = () if series is None else (f"last {limit.plain(series.value)}",)
        where = limit.named(labels or (), *whose, *last)
        if series is not None and series.told is not None and series.told.repeats:
            return f"{name} says nothing new for {silence.age_s:.1f} s, only the same with the same time ({where})"
        return f"{name} was not heard for {silence.age_s:.1f} s ({where})"


def bad_text(lane: LaneKey, labels: Labels | None, reason: str) -> str:
    """Why a reading is no value."""
    why = IN_WORDS.get(reason, reason)
    return f"{lane[1]} can't be read: {why} ({limit.named(labels or (), f'feed {lane[0]}')})"


def frozen_text(key: SeriesKey, value: Decimal, age_s: float) -> str:
    """A source that says the same, with the same time, though that is too old by now."""
    where = limit.named(key[2], f"feed {key[0]}")
    return f"{key[1]} stands still: {limit.plain(value)} comes again and again, with a time {age_s:.1f} s ago ({where})"


def concerns(rule: ReadingRule, labels: Labels) -> bool:
    """No label differs from what `where` asks for; one that lacks may be it."""
    held = dict(labels)
    return all(held.get(name, text) == text for name, text in rule.where)


def scope_of(rule: ReadingRule, labels: Labels) -> Scope | None:
    """What a reading with these labels trips; None where a label lacks that scope or `where` needs."""
    held = dict(labels)
    if any(name not in held for name, _ in rule.where):
        return None
    try:
        return rule.scope.fill(labels)
    except TemplateError:
        return None


def _paired_by(rule: RatioRule) -> frozenset[str]:
    """The labels by which events of an OMS are paired: a rejection often says no more than its account, and would
    find no order that has the same labels.
    """
    scope = rule.scope
    parts = (scope.account, scope.user, scope.instrument)
    return frozenset(("account", *dict(rule.where), *(part.name for part in parts if isinstance(part, Label))))


def _reads(rule: ReadingRule, feed: FeedSpec, lane: LaneKey) -> bool:
    """An OMS feed's accounts are those of its OMS: its readings never fill another OMS's scope."""
    return lane[1] in rule.reads and (feed.kind != "oms" or rule.scope.oms == feed.oms)

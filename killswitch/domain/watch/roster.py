"""Who watches what: the rules, their feeds, the series each rule knows, and how each of them stands.

Watch writes it; the looking from outside reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import RatioRule, StaleRule, TemplateError
from killswitch.domain.undo import Table
from killswitch.domain.watch import kinds, limit, windows
from killswitch.domain.watch.doubts import IN_WORDS, Doubts
from killswitch.domain.watch.peaks import Peaks
from killswitch.domain.watch.plan import plan_of
from killswitch.domain.watch.readings import START_S, Readings
from killswitch.domain.watch.shown import PRICE, WORTHS
from killswitch.domain.watch.venue import Venue

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from killswitch.domain.messages import Labels
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import FeedSpec, ReadingRule, Rule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.levels import Level
    from killswitch.domain.watch.plan import Plan
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
        rules: tuple[Rule, ...],
        undo: Undo,
        agenda: Agenda,
        started_at: float,
    ) -> None:
        self._undo: Final = undo
        self.plan = plan_of(feeds, rules)
        self.started_at: Final = started_at
        self.began: Final[Table[str, float]] = Table(undo)  # rules that a reload brought -> since when
        self.venue: Final = Venue(feeds, undo)
        self.readings: Final = Readings(self.plan.feeds, self.venue, undo, agenda, started_at)
        self.doubts: Final = Doubts(undo)
        self.watched: Final[Table[SeriesKey, Watched]] = Table(undo)
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

    # What the plan says, for whoever asks the roster.

    @property
    def feeds(self) -> Mapping[str, FeedSpec]:
        return self.plan.feeds

    @property
    def rules(self) -> Mapping[str, ReadingRule]:
        return self.plan.rules

    @property
    def by_lane(self) -> Mapping[LaneKey, tuple[ReadingRule, ...]]:
        return self.plan.by_lane

    @property
    def lanes_of(self) -> Mapping[str, tuple[LaneKey, ...]]:
        return self.plan.lanes_of

    @property
    def levels(self) -> Mapping[str, tuple[Level, ...]]:
        return self.plan.levels

    @property
    def told(self) -> Mapping[str, tuple[LaneKey, ...]]:
        """What a feed's age and silence are told of: the readings that rules watch, else those it always has."""
        return self.plan.told

    @property
    def paired_by(self) -> Mapping[str, frozenset[str] | None]:
        return self.plan.paired_by

    def change(self, plan: Plan, gone: Gone, now: float) -> None:
        """Go by another plan. What is known of what isn't there any more is let go; all else stays as it is."""
        before = self.plan
        left = self._left(gone)
        self._undo.note(lambda: setattr(self, "plan", before))
        self.plan = plan
        for room in (self.venue, self.doubts, self.windows, self.peaks):
            room.forget(gone)
        self.venue.change(plan.feeds.values())
        for of_series in (self.watched, self.awaited):
            of_series.drop(gone.series)
        for of_both in (self.stands, self.near, self.since, self.paired):
            of_both.drop(gone.at)
        for of_rule in (self.known, self.missed, self.began):
            of_rule.drop(gone.rule)
        for at, since in left.items():
            self.since[at] = since
        self.counts.drop(gone.feed)
        self.readings.change(plan.feeds, gone, now)

    def _left(self, gone: Gone) -> dict[tuple[str, SeriesKey], float]:
        """Since when the windows are watched that others take over."""
        left = {}
        held = (*self.windows.held(), *self.peaks.held(), *self.since) if gone.heirs else ()
        for at in dict.fromkeys(held):
            heirs = gone.left_to(at)
            since = self.watched_since(self.rules[at[0]], at[1]) if heirs else None
            if since is not None:
                left.update(dict.fromkeys(heirs, since))
        return left

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
        began = self.began.get(rule)
        dues = [self.readings.first_due(feed) for feed, _ in self.lanes_of[rule]]
        if began is not None:
            dues += [began + self.feeds[feed].stale_after_s for feed, _ in self.lanes_of[rule]]
        return max(dues, default=(self.started_at if began is None else began) + START_S)

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

        That is when its feeds were up for the first time, or since when there is the rule, or what a restart brought
        back. None: not at all yet.
        """
        since = self.since.get((rule.name, window))
        if since is not None:
            return since
        feeds = [window[0]]
        if isinstance(rule, RatioRule):
            feeds = [feed for feed, name in self.lanes_of[rule.name] if name == window[1]]
        began = [self.readings.link(feed).first_up for feed in feeds]
        known = [at for at in began if at is not None]
        if len(known) < len(began) or not known:
            return None
        return max(*known, self.began.get(rule.name) or known[0])

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
            since = now - self.readings.began(feed)
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

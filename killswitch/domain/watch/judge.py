"""Judging: whether a series is in breach of a rule now, since when, and what there is to say of it.

A rule breaches on the edge: once when a series goes past its limit, and again only after it was back inside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from killswitch.domain.settings import DrawdownRule, LimitRule, RateRule, RatioRule, StaleRule
from killswitch.domain.watch import kinds, levels, limit
from killswitch.domain.watch.findings import Breach, Found, warned
from killswitch.domain.watch.roster import Stand, scope_of

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Merged
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import LeveledRule, ReadingRule
    from killswitch.domain.undo import Agenda
    from killswitch.domain.watch.kinds import Measured
    from killswitch.domain.watch.memory import Memory
    from killswitch.domain.watch.readings import Series, SeriesKey
    from killswitch.domain.watch.roster import Roster
    from killswitch.domain.watch.windows import Counting

    Came: TypeAlias = tuple[SeriesKey, Decimal, int]  # for which window, their sum, how many


class Judge:
    """How every series stands to every rule that watches it."""

    def __init__(self, roster: Roster, memory: Memory, agenda: Agenda) -> None:
        self._roster: Final = roster
        self._memory: Final = memory
        self._agenda: Final = agenda

    def reading(
        self,
        rule: ReadingRule,
        scope: Scope,
        key: SeriesKey,
        series: Series,
        now: float,
        *,
        arrived: bool,
        merged: Merged | None = None,
    ) -> list[Found]:
        """A reading came. `arrived` False: nobody knows when it was made, so that it is none to count.

        `merged`: what arrived just before it and is known by its count and sum only.
        """
        self._memory.recall(rule, key, now)
        match rule:
            case LimitRule():
                return self._look(rule, scope, key, kinds.Measured(series.value), now)
            case RateRule() | RatioRule():
                home = self._roster.home(rule, key)
                window = (home[0], key[1], home[2])
                return self._count(rule, scope, home, now, came=_came(window, series, merged, arrived=arrived))
            case DrawdownRule():
                return self._replace(rule, scope, key, series, now)
            case StaleRule():
                return self._aged(rule, scope, key, series, now)
            case _:
                assert_never(rule)

    def wake(self, rule: ReadingRule, key: SeriesKey, now: float) -> list[Found]:
        """Time alone may have made it a breach."""
        match rule:
            case LimitRule():
                return self._held_long(rule, key, now)
            case RateRule() | RatioRule():
                self._memory.recall(rule, key, now)
                scope = scope_of(rule, key[2])
                return [] if scope is None else self._count_by_now(rule, scope, key, now)
            case DrawdownRule():
                return []  # with time it falls less
            case StaleRule():
                return self._aged_by_now(rule, key, now)
            case _:
                assert_never(rule)

    def _look(self, rule: LeveledRule, scope: Scope, key: SeriesKey, measured: Measured, now: float) -> list[Found]:
        """What was measured, against the limit and the levels before it."""
        found = self._place(rule, scope, key, measured, now)
        return found + self._near(rule, key, measured, now) if rule.warn_at else found

    def _place(self, rule: ReadingRule, scope: Scope, key: SeriesKey, measured: Measured, now: float) -> list[Found]:
        at = (rule.name, key)
        stand = self._roster.stands.get(at)
        if not kinds.is_past(rule, measured):
            if stand is not None:
                self._end(rule, key)
            return []
        if stand is None:
            for_s = rule.for_s if isinstance(rule, LimitRule) else 0.0
            stand = Stand(since=now, breached=for_s <= 0, said=measured, worst=measured)
            self._roster.stands[at] = stand
            if not stand.breached:
                self._agenda.set(("watch", "for", *at), now + for_s)
            return [self._breach(rule, scope, key, now)] if stand.breached else []
        worst = kinds.worse(rule, stand.worst, measured)
        if stand.breached and measured == stand.said:
            return []
        self._roster.stands[at] = replace(stand, said=measured, worst=worst)
        if stand.breached:
            return [self._breach(rule, scope, key, now, repeated=True)]
        return self._held_long(rule, key, now) if isinstance(rule, LimitRule) else []

    def _end(self, rule: ReadingRule, key: SeriesKey) -> None:
        """The series is inside its limit: the next time past it is an edge."""
        if self._roster.stands.pop((rule.name, key)) is not None:
            self._agenda.clear(("watch", "for", rule.name, key))

    def _count(self, rule: Counting, scope: Scope, key: SeriesKey, now: float, *, came: Came | None) -> list[Found]:
        """For a rule that counts readings. `came` None: time alone went on."""
        windows = self._roster.windows
        windows.expire(rule, key, now)
        found = self._look_back(rule, scope, key, now)
        if came is not None:
            window, total, count = came
            windows.add(rule, window, total, now, count=count)
            self._memory.add(rule, window, total, now, count=count)
        found += self._look(rule, scope, key, self._measure(rule, key, now), now)
        grows_at = windows.grows_at(rule, key)
        if grows_at is None:
            self._agenda.clear(("watch", "sum", rule.name, key))
        else:
            self._agenda.set(("watch", "sum", rule.name, key), grows_at)
        return found

    def _count_by_now(self, rule: Counting, scope: Scope, key: SeriesKey, now: float) -> list[Found]:
        """Time alone went on. Whoever wakes us may be late: what left the window is taken at its own time, so that a
        breach that was over by now isn't passed by.
        """
        found: list[Found] = []
        while (at := self._roster.windows.grows_at(rule, key)) is not None and at < now:
            found += self._count(rule, scope, key, at, came=None)
        return found + self._count(rule, scope, key, now, came=None)

    def _replace(self, rule: DrawdownRule, scope: Scope, key: SeriesKey, series: Series, now: float) -> list[Found]:
        """A value for a rule that compares it with its highest."""
        peaks = self._roster.peaks
        peaks.expire(rule, key, now)
        found = self._look_back(rule, scope, key, now)
        self._memory.replace(rule, key, series.value, now)
        peaks.add(rule, key, series.value, now)
        return found + self._look(rule, scope, key, self._measure(rule, key, now), now)

    def _look_back(self, rule: Counting | DrawdownRule, scope: Scope, key: SeriesKey, now: float) -> list[Found]:
        """What time alone ended before this reading is over, so that after it a breach is a new one; and what it
        began has begun, though nobody was woken in time.
        """
        measured = self._measure(rule, key, now)
        if (rule.name, key) in self._roster.stands and kinds.is_past(rule, measured):
            return []
        return self._look(rule, scope, key, measured, now)

    def _measure(self, rule: ReadingRule, key: SeriesKey, now: float) -> Measured:
        return kinds.measure(rule, key, self._roster, now)

    def _aged(self, rule: StaleRule, scope: Scope, key: SeriesKey, series: Series, now: float) -> list[Found]:
        """Whether the series is heard. Its entry moves lazily: it is set where there is none."""
        at, entry = (rule.name, key), ("watch", "old", rule.name, key)
        looked_at = self._roster.readings.last_look(key, series)
        due = looked_at + rule.older_than_s
        if now < due:
            self._end(rule, key)
            if self._agenda.when(entry) is None:
                self._agenda.set(entry, due)
            return []
        if self._roster.feeds[key[0]].kind == "oms":
            # A live session may prove it without a word of its own. A proof holds for older_than_s, so that none
            # falls between two looks, nor the next breach after it.
            self._agenda.set(entry, now + rule.older_than_s)
        if at in self._roster.stands:
            return []
        silent = self._measure(rule, key, now)
        self._roster.stands[at] = Stand(since=now, breached=True, said=silent, worst=silent)
        return [self._breach(rule, scope, key, now)]

    def _aged_by_now(self, rule: StaleRule, key: SeriesKey, now: float) -> list[Found]:
        series, watched = self._roster.readings.get(key), self._roster.watched.get(key)
        if series is None or watched is None:
            return []
        scopes = [scope for its, scope in watched.rules if its is rule]
        return [f for scope in scopes for f in self._aged(rule, scope, key, series, now)]

    def _near(self, rule: LeveledRule, key: SeriesKey, measured: Measured, now: float) -> list[Found]:
        """Whether it came to a level of warn_at. A breach says more than a warning beside it would."""
        at, steps = (rule.name, key), self._roster.levels[rule.name]
        before = self._roster.near.get(at) or 0
        held = levels.reached(rule, steps, before, measured)
        if held == before:
            return []
        self._roster.near[at] = held
        stand = self._roster.stands.get(at)
        if held < before or (stand is not None and stand.breached):
            return []
        age_s = self._roster.newest_age(rule, key, now)
        text = levels.sentence(rule, steps[held - 1], measured, key[2], age_s)
        return [warned("near_limit", rule, key[0] or None, text)]

    def _held_long(self, rule: LimitRule, key: SeriesKey, now: float) -> list[Found]:
        """for_s is over, or may be: a value back inside would have ended it."""
        stand, watched = self._roster.stands.get((rule.name, key)), self._roster.watched.get(key)
        if stand is None or stand.breached or watched is None:
            return []
        entry = ("watch", "for", rule.name, key)
        if now < stand.since + rule.for_s:
            self._agenda.set(entry, stand.since + rule.for_s)
            return []
        self._agenda.clear(entry)
        self._roster.stands[rule.name, key] = replace(stand, breached=True)
        return [self._breach(rule, scope, key, now) for its, scope in watched.rules if its is rule]

    def _breach(
        self,
        rule: ReadingRule,
        scope: Scope,
        key: SeriesKey,
        now: float,
        *,
        repeated: bool = False,
    ) -> Breach:
        stand = self._roster.stands[rule.name, key]
        return Breach(
            rule=rule.name,
            kind=rule.kind,
            scope=scope,
            labels=key[2],
            text=kinds.sentence(rule, stand.said, key[2], self._roster.newest_age(rule, key, now)),
            value=limit.plain(stand.said.amount),
            repeated=repeated,
            worst=limit.plain(stand.worst.amount),
        )


def _came(window: SeriesKey, series: Series, merged: Merged | None, *, arrived: bool) -> Came | None:
    """What a rule that counts has to count of a reading, and of what was merged before it."""
    total, count = (series.value, 1) if arrived else (limit.ZERO, 0)
    if merged is not None:
        total, count = limit.EXACT.add(total, merged.total), count + merged.count
    return (window, total, count) if count else None

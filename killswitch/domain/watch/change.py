"""A change of rules and feeds while it runs: what is the same goes on as if nothing had been, what is new begins now.

A new or changed rule begins as at a start: what is known of the series that it watches is judged at once, so that a
value beyond a new limit trips without waiting for the next one. Its windows are empty and warming, but where it looks
back on the same readings as before: those it takes over, as over a restart, so that no edit makes a fall forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import OnUnknown, RatioRule, StaleRule
from killswitch.domain.watch import limit
from killswitch.domain.watch.doubts import LACKS_LABEL
from killswitch.domain.watch.findings import Breach, Found, unknown
from killswitch.domain.watch.plan import Wanted, next_plan
from killswitch.domain.watch.readings import Silence
from killswitch.domain.watch.roster import Watched, bad_text, concerns, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from killswitch.domain.messages import Labels
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import ReadingRule
    from killswitch.domain.undo import Agenda
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.hearts import Hearts
    from killswitch.domain.watch.judge import Judge
    from killswitch.domain.watch.memory import Memory
    from killswitch.domain.watch.plan import Plan
    from killswitch.domain.watch.readings import LaneKey, SeriesKey
    from killswitch.domain.watch.roster import Roster


class Change:
    """Puts another plan in the place of the one that Watch goes by."""

    def __init__(
        self,
        roster: Roster,
        judge: Judge,
        hearts: Hearts,
        memory: Memory,
        agenda: Agenda,
        *,
        link_up: Callable[[str, float], None],
        stray: Callable[[LaneKey, Labels, str, tuple[ReadingRule, ...], float], list[Found]],
    ) -> None:
        self._roster: Final = roster
        self._judge: Final = judge
        self._hearts: Final = hearts
        self._memory: Final = memory
        self._agenda: Final = agenda
        self._link_up: Final = link_up
        self._stray: Final = stray

    def take(self, wanted: Wanted, now: float) -> list[Found]:
        """What there is to say of the new rules."""
        plan, gone = next_plan(self._roster.plan, wanted)
        found, lacking = self._of_readings(plan, gone, now)
        found += self._hearts.change(plan.hearts, gone, now)
        for feed in plan.feeds.values():
            link = self._roster.readings.link(feed.name)
            if feed.oms is not None and link.first_up is None and self._roster.venue.is_up(feed.oms):
                self._link_up(feed.name, now)
        for key, rule in lacking:
            found += self._stray(key[:2], key[2], LACKS_LABEL, (rule,), now)
        return found

    def release(self, bound: frozenset[str], now: float) -> None:
        """Let go of rules that were removed or changed and that no latched trip waits for any more."""
        plan = self._roster.plan
        if any(origin not in bound for origin in plan.retired.values()):
            held = plan.every_rule()
            rules = tuple(held[name] for name in plan.order)
            self.take(Wanted(feeds=tuple(plan.feeds.values()), rules=rules, bound=bound), now)

    def _of_readings(
        self, plan: Plan, gone: Gone, now: float
    ) -> tuple[list[Found], list[tuple[SeriesKey, ReadingRule]]]:
        """The series that lack a label which a new rule needs, too."""
        roster, before = self._roster, self._roster.plan
        self._agenda.drop(gone.entry)
        new = tuple(name for name in plan.rules if name not in before.rules or gone.rule(name))
        roster.change(plan, gone, now)
        self._memory.forget(gone, now)
        for name in new:
            roster.began[name] = now
        changed = frozenset(lane for lane, its in plan.by_lane.items() if its != before.by_lane.get(lane))
        lacking = self._watch_again(changed, frozenset(new))
        moved = (name for name, lanes in plan.lanes_of.items() if _is_moved(lanes, before.lanes_of.get(name), gone))
        self._count_known(frozenset((*new, *moved)), now)
        found: list[Found] = []
        known = self._known_to(frozenset(new))
        for name in new:
            found += self._introduce(plan.rules[name], known.get(name, []), now)
        return found, lacking

    def _watch_again(self, lanes: frozenset[LaneKey], new: frozenset[str]) -> list[tuple[SeriesKey, ReadingRule]]:
        """Who watches the known series of these lanes now. Only what is new is held against each of them."""
        roster = self._roster
        places = {lane: {rule.name: n for n, rule in enumerate(roster.by_lane[lane])} for lane in lanes}
        brought = {lane: _Asked(rule for rule in roster.by_lane[lane] if rule.name in new) for lane in lanes}
        lacking_now: list[tuple[SeriesKey, ReadingRule]] = []
        for key in dict.fromkeys((*roster.watched, *roster.readings.idle())):
            place = places.get(key[:2])
            if place is None:
                continue
            before = roster.watched.get(key) or Watched((), ())
            rules = [(rule, scope) for rule, scope in before.rules if rule.name in place and rule.name not in new]
            lacking = [rule for rule in before.lacking if rule.name in place and rule.name not in new]
            for rule in brought[key[:2]].of(key[2]):
                scope = scope_of(rule, key[2])
                if scope is None:
                    lacking.append(rule)
                    lacking_now.append((key, rule))
                else:
                    rules.append((rule, scope))
            rules.sort(key=lambda one: place[one[0].name])
            lacking.sort(key=lambda rule: place[rule.name])
            roster.watched[key] = Watched(tuple(rules), tuple(lacking))
            if rules:
                roster.readings.rouse(key)
            else:
                roster.readings.rest(key)
        return lacking_now

    def _count_known(self, names: frozenset[str], now: float) -> None:
        """How many series each of these rules knows; one that knows none is looked at again.

        Each is written once: a write a series would hold the loop for seconds where rules watch ten thousand.
        """
        roster = self._roster
        roster.paired.drop(lambda at: at[0] in names)
        knew = {name for name in names if roster.known.pop(name)}
        met: dict[str, int] = {}
        pairs: dict[tuple[str, SeriesKey], list[SeriesKey]] = {}
        for key, watched in roster.watched.items() if names else ():
            for rule, _ in watched.rules:
                if rule.name in names:
                    met[rule.name] = met.get(rule.name, 0) + 1
                    if isinstance(rule, RatioRule):
                        pairs.setdefault((rule.name, roster.home(rule, key)), []).append(key)
        for name in sorted(met):
            roster.known[name] = met[name]
        for at, keys in pairs.items():
            roster.paired[at] = tuple(keys)
        for name in sorted(names):
            if name not in roster.known:
                self._agenda.set(("watch", "rule", name), max(roster.due(name), now))
            elif name not in knew:
                roster.missed.pop(name)

    def _known_to(self, names: frozenset[str]) -> dict[str, list[tuple[SeriesKey, Scope]]]:
        """The series that each of these rules watches, looked for once for all of them."""
        known: dict[str, list[tuple[SeriesKey, Scope]]] = {}
        for key, watched in self._roster.watched.items() if names else ():
            for rule, scope in watched.rules:
                if rule.name in names:
                    known.setdefault(rule.name, []).append((key, scope))
        return known

    def _introduce(self, rule: ReadingRule, known: list[tuple[SeriesKey, Scope]], now: float) -> list[Found]:
        """What is known already, to a rule that is new."""
        roster, found = self._roster, list[Found]()
        for lane in roster.lanes_of[rule.name]:
            if roster.readings.lane(lane).failed:
                as_of = roster.readings.lane(lane).as_of
                silence = Silence(lane, None, None if as_of is None else now - as_of)
                text = roster.silence_text(silence, None, now)
                if isinstance(rule, StaleRule):
                    if as_of is not None:
                        continue  # how old what was heard may become it says itself
                    roster.missed[rule.name] = True
                found += unknown(rule, rule.fallback, "stale", text, feed=lane[0])
        for key, scope in sorted(known, key=lambda one: one[0]):
            found += self._judge_known(rule, scope, key, now)
        return found

    def _judge_known(self, rule: ReadingRule, scope: Scope, key: SeriesKey, now: float) -> list[Found]:
        series = self._roster.readings.get(key)
        if series is None:
            return []
        if series.bad is not None:
            if rule.on_bad is not OnUnknown.TRIP:
                return []
            text = bad_text(key[:2], key[2], series.bad)
            return [Breach(rule.name, rule.kind, scope, key[2], text, limit.plain(series.value), repeated=False)]
        if series.stale and not isinstance(rule, StaleRule):
            silence = Silence(key[:2], key[2], self._roster.age(key, series, now))
            text = self._roster.silence_text(silence, series, now)
            value = limit.plain(series.value)
            return unknown(rule, scope, "stale", text, labels=key[2], value=value, feed=key[0])
        # No reading came now: nothing is counted, and a value that fell due just now is judged by its age.
        return self._judge.reading(rule, scope, key, series, now, arrived=False)


def _is_moved(lanes: tuple[LaneKey, ...], before: tuple[LaneKey, ...] | None, gone: Gone) -> bool:
    """The rule reads other feeds now, or what one of them said was let go: it may know fewer series."""
    return lanes != before or any(gone.series(lane) for lane in lanes)


class _Asked:
    """Rules by what their `where` asks for, so that a series meets those only that may watch it."""

    def __init__(self, rules: Iterable[ReadingRule]) -> None:
        self._of_all: list[ReadingRule] = []
        self._by_label: dict[str, dict[str, list[ReadingRule]]] = {}
        for rule in rules:
            if rule.where:
                name, text = rule.where[0]
                self._by_label.setdefault(name, {}).setdefault(text, []).append(rule)
            else:
                self._of_all.append(rule)

    def of(self, labels: Labels) -> Iterator[ReadingRule]:
        """Those that concern a series with these labels, also where it lacks one that they need."""
        yield from self._of_all
        held = dict(labels) if self._by_label else {}
        for name, by_text in self._by_label.items():
            some = by_text.values() if name not in held else filter(None, [by_text.get(held[name])])
            for rules in some:
                yield from (rule for rule in rules if concerns(rule, labels))

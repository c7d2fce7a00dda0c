"""Watch: turns readings and their age into breaches.

It stands apart from trips and latches, so that it can be driven alone and no latch swallows a breach: a rule
breaches on the edge, per series, and again only after that series was back inside. What can't be read or is
not heard any more is unknown, and each rule says what unknown means to it.

A reading reaches only the rules that watch its series: they are found when the series is first seen and kept
with it, so what other rules there are costs a known series nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import BadReading, Beat, FeedDown, FeedUp, Reading, SessionDown, SessionUp
from killswitch.domain.settings import LimitRule, OnUnknown, StaleRule
from killswitch.domain.watch import kinds, limit, outlook
from killswitch.domain.watch.bad import Bad
from killswitch.domain.watch.change import Change as ChangeOfRules
from killswitch.domain.watch.doubts import DUPLICATE, FROZEN, LACKS_LABEL, NOT_FINITE, OUT_OF_ORDER
from killswitch.domain.watch.findings import Armed, Breach, Found, Warned, unknown, warned
from killswitch.domain.watch.hearts import Hearts
from killswitch.domain.watch.judge import Judge
from killswitch.domain.watch.memory import Memory
from killswitch.domain.watch.readings import HEART, Silence, lanes_of
from killswitch.domain.watch.roster import Roster, frozen_text
from killswitch.domain.watch.shown import ALWAYS, COUNTED
from killswitch.domain.watch.times import Timing
from killswitch.domain.watch.untold import Untold

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from killswitch.domain.messages import Event, Labels, Merged
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import FeedSpec, ReadingRule, Rule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.view import FeedView, RuleView, Standing
    from killswitch.domain.watch.plan import Wanted
    from killswitch.domain.watch.readings import Change, LaneKey, SeriesKey
    from killswitch.domain.watch.shown import Shown

__all__ = ["Armed", "Breach", "Found", "Warned", "Watch"]


class Watch:
    """All rules of a configuration over all its feeds.

    Everything that changes lives in tables of `undo`: the caller commits (also after building this) or rolls
    back. Agenda entries of its own are tuples that begin with "watch" (for `wake`) and, where it `keeps` what must
    outlive the process, with "keep" (for its memory); the caller takes them when they are due. `armed`: (rule, feed)
    of dead-men that their first beat armed before.
    """

    def __init__(
        self,
        feeds: tuple[FeedSpec, ...],
        rules: tuple[Rule, ...],
        undo: Undo,
        agenda: Agenda,
        started_at: float,
        *,
        keeps: bool = False,
        armed: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._agenda: Final = agenda
        self._roster: Final = Roster(feeds, rules, undo, agenda, started_at)
        self._readings: Final = self._roster.readings
        self._venue: Final = self._roster.venue
        self._doubts: Final = self._roster.doubts
        self._bad: Final = Bad(self._roster)
        self.memory: Final = Memory(self._roster, undo, agenda, keeps=keeps)
        self._untold: Final = Untold(self._roster, agenda)
        self._judge: Final = Judge(self._roster, self.memory, agenda)
        self._hearts: Final = Hearts(self._roster.plan.hearts, self._readings, undo, agenda, started_at, armed=armed)
        self._change: Final = ChangeOfRules(
            self._roster, self._judge, self._hearts, self.memory, agenda, link_up=self._link_up, stray=self._bad.stray
        )
        for name in self._roster.rules:
            agenda.set(("watch", "rule", name), self._roster.due(name))

    # --- in ------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> tuple[Found, ...]:
        """What an event means to the rules. Events that are none of theirs, or of no feed, give ()."""
        return self._of_the_living(self._handle(event, now))

    def change(self, wanted: Wanted, now: float) -> tuple[Found, ...]:
        """Other feeds and rules: those that are equal to what there was keep all that is known of them."""
        return self._of_the_living(self._change.take(wanted, now))

    def release(self, bound: frozenset[str], now: float) -> None:
        """Only these rules are waited for by a latched trip from now on."""
        self._change.release(bound, now)

    def _of_the_living(self, found: Iterable[Found]) -> tuple[Found, ...]:
        retired = self._roster.plan.retired
        return tuple(f for f in found if f.rule not in retired) if retired else tuple(found)

    def _handle(self, event: Event, now: float) -> Iterable[Found]:
        match event:
            case Reading(feed=feed) if feed in self._roster.feeds:
                return tuple(self._on_reading(event, now))
            case Beat(feed=feed, retained=False) if feed in self._roster.feeds:
                return tuple(self._on_beat(event, now))
            case BadReading(feed=feed) if feed in self._roster.feeds:
                self._doubts.add(feed, event.reason, event.merged)
                return self._bad.read((feed, event.name), event.labels, event.reason, now)
            case FeedUp(feed=feed) if feed in self._roster.feeds:
                self._link_up(feed, now)
            case FeedDown(feed=feed) if feed in self._roster.feeds:
                self._link_down(feed)
            case SessionUp():
                if self._venue.session_up(event.session, event.oms):
                    for feed in self._roster.feeds_of(event.oms):
                        self._link_up(feed, now)
            case SessionDown():
                oms = self._venue.session_down(event.session)
                if oms is not None and not self._venue.is_up(oms):
                    for feed in self._roster.feeds_of(oms):
                        self._link_down(feed)
            case _:
                return self._on_oms(event, now)
        return ()

    def wake(self, what: Hashable, now: float) -> tuple[Found, ...]:
        """An entry of the agenda that begins with "watch" is due. Too early, twice or unknown is harmless."""
        return self._of_the_living(self._wake(what, now))

    def _wake(self, what: Hashable, now: float) -> Iterable[Found]:
        match what:
            case ("watch", "rule", str(name)) if name in self._roster.rules:
                return self._look_for_series(self._roster.rules[name], now)
            case ("watch", "await", (str(feed), str(of), tuple(labels))):
                return self._untold.look((feed, of, labels), now)
            case ("watch", "for" | "sum" | "old", str(name), (str(feed), str(of), tuple(labels))) if (
                name in self._roster.rules
            ):
                return self._judge.wake(self._roster.rules[name], (feed, of, labels), now)
            case ("watch", "settle", str(oms)):
                return self._on_shown(self._venue.settle(oms, now), now)
            case ("watch", "heart", str(name)):
                return self._hearts.wake(name, now)
        return self._told(self._readings.wake(what, now), now)

    # --- what must be asked for ----------------------------------------------------------------------------

    def needs_instruments(self, oms: str) -> bool:
        """Some rule reads what comes of this OMS's prices."""
        return self._roster.needs_instruments(oms)

    def prices_needed(self, oms: str) -> tuple[int, ...]:
        """The instruments whose prices some rule rests on, as far as instruments are known; in order."""
        return self._roster.prices_needed(oms)

    # --- readings ------------------------------------------------------------------------------------------

    def _on_reading(self, event: Reading, now: float) -> list[Found]:
        lane = (event.feed, event.name)
        value = limit.exact(event.value)
        if value is None:
            return self._bad.read(lane, event.labels, NOT_FINITE, now)
        merged = event.merged
        more = 0 if merged is None else merged.count + merged.older + merged.repeated
        self._roster.counts[event.feed] = (self._roster.counts.get(event.feed) or 0) + 1 + more
        if merged is not None:
            self._doubts.add(event.feed, OUT_OF_ORDER, merged.older)
            self._doubts.add(event.feed, DUPLICATE, merged.repeated)
        if lane not in self._roster.by_lane:
            return []
        if self._readings.link(event.feed).first_up is None:
            self._link_up(event.feed, now)  # a reading came over it
        timing = self._readings.timing(event, value, now)
        if timing.odd is not None:
            self._doubts.count(event.feed, timing.odd)
        found = self._take((*lane, event.labels), value, now, timing, merged=merged)
        if event.fresh and not event.retained:
            found += self._hearts.beat(event.feed, now)
        return found + self._hearts.heard(event.feed, now)

    def _on_beat(self, event: Beat, now: float) -> list[Found]:
        feed = event.feed
        self._roster.counts[feed] = (self._roster.counts.get(feed) or 0) + 1 + event.merged
        if self._readings.link(feed).first_up is None:
            self._link_up(feed, now)  # it came over it
        if (feed, HEART) in self._roster.by_lane:
            self._readings.heard((feed, HEART), now, now)
        return [*self._hearts.beat(feed, now), *self._hearts.heard(feed, now)]

    def _on_oms(self, event: Event, now: float) -> list[Found]:
        look = self._venue.take(event, now)
        return [] if look is None else self._on_shown(look, now)

    def _on_shown(self, look: Shown, now: float) -> list[Found]:
        found: list[Found] = []
        if look.settles_at is not None:
            self._agenda.set(("watch", "settle", look.oms), look.settles_at)
        for feed in self._roster.feeds_of(look.oms):
            if look.seen:
                self._roster.counts[feed] = (self._roster.counts.get(feed) or 0) + len(look.seen)
            for seen in look.seen:
                value = limit.exact(seen.value)
                if value is None:
                    found += self._bad.read((feed, seen.name), seen.labels, NOT_FINITE, now)
                else:
                    key = (feed, seen.name, seen.labels)
                    as_of = now if seen.as_of is None and look.alive else seen.as_of
                    found += self._take(key, value, now, Timing(None, as_of))
            for doubt in look.doubts:
                found += self._bad.read((feed, doubt.name), doubt.labels, doubt.reason, now)
            for lack in look.lacks:
                self._untold.expect((feed, lack.name, lack.labels), now)
            for name, as_of in look.proven:
                if name in ALWAYS or self._roster.by_lane[feed, name]:
                    found += self._told(self._readings.heard((feed, name), now, as_of), now)
            if look.alive:
                found += self._hearts.beat(feed, now)
            found += self._hearts.heard(feed, now)
        return found

    def _take(
        self, key: SeriesKey, value: Decimal, now: float, timing: Timing, *, merged: Merged | None = None
    ) -> list[Found]:
        lane, found = key[:2], list[Found]()
        if not self._roster.by_lane[lane]:
            self._readings.note(key, value, timing)
            return self._lives(lane, now, timing)
        watched = self._roster.watched.get(key)
        if watched is None or key in self._roster.awaited:
            watched = watched or self._roster.watch(key)
            found += self._untold.known(key, watched)
        if not watched.rules:  # nobody watches it, but its lane lives
            self._readings.note(key, value, timing)
            found += self._lives(lane, now, timing)
        elif timing.counts:
            found += self._judge_all(key, value, now, timing, merged=merged)
        elif timing.odd != OUT_OF_ORDER:
            found += self._again(key, now, timing)
        if watched.lacking:
            found += self._bad.stray(lane, key[2], LACKS_LABEL, watched.lacking, now)
        return found

    def _lives(self, lane: LaneKey, now: float, timing: Timing) -> list[Found]:
        return [] if timing.as_of is None else self._told(self._readings.heard(lane, now, timing.as_of), now)

    def _judge_all(
        self, key: SeriesKey, value: Decimal, now: float, timing: Timing, *, merged: Merged | None
    ) -> list[Found]:
        old, watched = self._readings.get(key), self._roster.watched[key]
        found = self._told(self._readings.observe(key, value, now, timing), now)
        self._doubts.good(
            key,
            was_bad=old is not None and (old.bad is not None or (old.told is not None and old.told.frozen)),
            rules=[rule.name for rule, _ in watched.rules],
            now=now,
            quiet_s=self._roster.feeds[key[0]].stale_after_s,
        )
        series = self._readings.get(key)
        assert series is not None
        arrived = timing.as_of is not None
        for rule, scope in watched.rules:
            found += self._judge.reading(rule, scope, key, series, now, arrived=arrived, merged=merged)
        return found

    def _again(self, key: SeriesKey, now: float, timing: Timing) -> list[Found]:
        """The same again is no arrival and makes nothing younger: a source that stands still must not look alive."""
        found = self._told(self._readings.again(key, now, timing), now)
        series = self._readings.get(key)
        if timing.odd == FROZEN and series is not None and self._doubts.is_news(key[0], FROZEN, key, now):
            text = frozen_text(key, series.value, self._roster.age(key, series, now))
            found.append(Warned("bad_reading", None, key[0], text))
        return found

    # --- silence -------------------------------------------------------------------------------------------

    def _link_down(self, feed: str) -> None:
        self._readings.link_down(feed)
        self._hearts.link_down(feed)

    def _link_up(self, feed: str, now: float) -> None:
        self._hearts.link_up(feed, now)
        if self._readings.link_up(feed, now):
            for lane in lanes_of(self._roster.feeds[feed]):
                self._look_later(lane, 0.0)

    def _look_later(self, lane: LaneKey, at_least: float) -> None:
        for rule in self._roster.by_lane[lane]:
            if rule.name not in self._roster.known and rule.name not in self._roster.missed:
                due = max(self._roster.due(rule.name), at_least)
                self._agenda.set(("watch", "rule", rule.name), due)

    def _told(self, changes: list[Change], now: float) -> list[Found]:
        """What silences and returns mean to the rules that they concern."""
        found: list[Found] = []
        for change in changes:
            lane, key = change.lane, (*change.lane, change.labels or ())
            rules: tuple[tuple[ReadingRule, Scope | None], ...]
            if change.labels is None:
                rules = tuple((rule, rule.fallback) for rule in self._roster.by_lane[lane])
            else:
                rules = self._roster.watched[key].rules
            if isinstance(change, Silence):
                series = None if change.labels is None else self._readings.get(key)
                text = self._roster.silence_text(change, series, now)
                value = limit.plain(series.value) if series is not None else ""
                for rule, scope in rules:
                    if isinstance(rule, StaleRule):
                        if change.age_s is not None:
                            continue  # how old what was heard may become it says itself
                        self._roster.missed[rule.name] = True  # it is said once, and again when a series is heard
                    found += unknown(rule, scope, "stale", text, labels=change.labels or (), value=value, feed=lane[0])
                continue
            if change.labels is None:
                self._look_later(lane, now + self._roster.feeds[lane[0]].stale_after_s)
            text = f"{lane[1]} is heard again ({limit.named(change.labels or (), f'feed {lane[0]}')})"
            found += [
                warned("heard_again", rule, lane[0], text)
                for rule, _ in rules
                if self._is_back(rule) and rule.on_stale is OnUnknown.WARN
            ]
        return found

    def _is_back(self, rule: ReadingRule) -> bool:
        """Whether a return ends what was said of the rule. Of a stale rule that is only that nothing was ever heard,
        and ends with its first series; or now, where all that was known of that was what a broker had retained.
        """
        if not isinstance(rule, StaleRule):
            return True
        return rule.name in self._roster.known and self._roster.missed.pop(rule.name) is not None

    def _look_for_series(self, rule: ReadingRule, now: float) -> list[Found]:
        if rule.name in self._roster.known or rule.name in self._roster.missed:
            return []
        lanes = self._roster.lanes_of[rule.name]
        due = self._roster.due(rule.name)
        if now < due:
            self._agenda.set(("watch", "rule", rule.name), due)
            return []
        if any(self._readings.is_silent(lane, now) for lane in lanes):
            return []  # the lane says so itself; when it is back the rule is looked at again
        if not frozenset(COUNTED).isdisjoint(rule.reads) and self._roster.is_listed(rule):
            return []  # nothing happened yet, and that is known
        self._roster.missed[rule.name] = True
        text = f"no series of {kinds.subject(rule)} that this rule watches was heard by now"
        if self._roster.is_listed(rule):
            # An OMS that lists nothing of it has nothing of it: known to be none, but perhaps misspelt.
            return [warned("unknown_series", rule, None, f"{text}: the lists show none")]
        return unknown(rule, rule.fallback, "unknown_series", text)

    # --- looking from outside ------------------------------------------------------------------------------

    def worse(self, rule: str, one: str, other: str) -> str:
        """That of two values, as breaches told them, which is further past the rule's limit; the later one of equals.

        Of a rule that isn't there any more, and of what is no number: the later one.
        """
        held = self._roster.rules.get(rule)
        if held is None or not one or not other:
            return other or one
        first, second = Decimal(one), Decimal(other)
        worst = limit.worse(held, first, second) if isinstance(held, LimitRule) else max(first, second)
        return other if worst == second else one

    def uncalm(self, rule: str, labels: Labels, now: float) -> str | None:
        """Why a rule's series isn't calm, for a reset: None when it is inside its limit and fresh.

        `labels` as a Breach gave them. Unknown (stale, bad, never heard) isn't calm. None for a rule that isn't
        there. One that a reload removed or changed under a trip is asked as it was, too.
        """
        aliases = [alias for alias, origin in self._roster.plan.retired.items() if origin == rule]
        # One that was changed may know no such series, and never will: what it was stands for it then.
        if not aliases or rule in self._hearts or not labels or self.standing(rule, labels, now):
            trouble = self._uncalm(rule, labels, now)
            if trouble is not None:
                return trouble
        troubles = (self._uncalm(alias, labels, now) for alias in aliases)
        trouble = next((trouble for trouble in troubles if trouble is not None), None)
        return trouble and f"{trouble}: so rule {rule} says as it was when it tripped"

    def _uncalm(self, name: str, labels: Labels, now: float) -> str | None:
        if name in self._hearts:
            return self._hearts.uncalm(name, now)
        return outlook.uncalm(self._roster, name, labels, now)

    def is_retired(self, rule: str) -> bool:
        """A rule of that name was removed or changed under a latched trip, and is judged on as it was."""
        return rule in self._roster.plan.retired.values()

    def view(self, now: float) -> tuple[tuple[RuleView, ...], tuple[FeedView, ...]]:
        """The rules and feeds in the order of the configuration. It looks at every series."""
        seen, feeds = outlook.view(self._roster, now)
        views = {view.rule: view for view in (*seen, *self._hearts.view(now))}
        return tuple(views[name] for name in self._roster.plan.order), feeds

    def standings(self, key: SeriesKey, now: float) -> tuple[Standing, ...]:
        """How a series (feed, reading, labels), and its feed as a whole, stand to their rules, for a picture."""
        return (*outlook.standings(self._roster, key, now), *self._hearts.standings(key[0], now))

    def standings_of_feed(self, feed: str, now: float) -> tuple[Standing, ...]:
        """How a feed as a whole stands to its rules."""
        return self._hearts.standings(feed, now)

    def standing(self, rule: str, labels: Labels, now: float) -> tuple[Standing, ...]:
        """How a series of a rule stands to it, by its labels as a Breach gives them; () where none is known."""
        if rule in self._hearts:
            found = (one for feed in self._roster.feeds for one in self.standings_of_feed(feed, now))
            return tuple(one for one in found if one.rule == rule)
        held = self._roster.rules.get(rule)
        return () if held is None else outlook.standing(self._roster, held, labels, now)

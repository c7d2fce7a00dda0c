"""Rules on a feed as a whole: whether anything of it is heard, and whether its heart beats.

Silence is plain: nothing of the feed was heard for so long, whoever is to blame. A dead-man looks at the source
alone. A beat is a message that isn't retained, at its arrival. While our own link to the source is down the heart
is unknown, not dead: only time with the link up is silence of the heart, so that it is dead `silent_s` after the
last beat or, if that came later, after the link was back or the start. But where the link was down since the last
beat, silent_s and RECONNECT_S after that beat are enough to say that nobody knows (on_stale), so that no link
that goes up and down hides a dead heart for ever.

Cost: a message looks at the rules of its own feed and leaves the agenda alone. Entries move lazily: each looks
again when it comes due.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

from killswitch.domain.settings import DeadmanRule, OnUnknown, SilenceRule
from killswitch.domain.undo import Table
from killswitch.domain.view import RuleView, Standing
from killswitch.domain.watch import ages, limit
from killswitch.domain.watch.findings import Armed, Breach, Found, warned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from killswitch.domain.settings import FeedRule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.readings import Readings

RECONNECT_S: Final = 10.0
"""What a reconnect under way may take beyond silent_s, before the heart counts as unknown."""

Said: TypeAlias = Literal["silent", "unknown", "dead"]
"""What was found of a rule since its feed was heard last."""


def in_words(rule: FeedRule) -> str:
    """Its limit."""
    match rule:
        case SilenceRule():
            return f"not heard for {limit.seconds(rule.older_than_s)}"
        case DeadmanRule():
            return f"no beat for {limit.seconds(rule.silent_s)}"
        case _:
            assert_never(rule)


@dataclass(frozen=True, slots=True)
class Line:
    """Our own link to a feed's source. `back_at`: when it was made last; None: never yet."""

    up: bool = False
    back_at: float | None = None


def _by_feed(rules: Mapping[str, FeedRule]) -> dict[str, tuple[FeedRule, ...]]:
    of_feed: dict[str, tuple[FeedRule, ...]] = {}
    for rule in rules.values():
        of_feed[rule.feed] = (*of_feed.get(rule.feed, ()), rule)
    return of_feed


def _origin(rule: FeedRule) -> str:
    """The name that a rule had that is only judged any more."""
    return rule.name.partition("~")[0]


class Hearts:
    """How every such rule stands. Its findings have no labels: they concern the feed as a whole.

    `armed`: (rule, feed) of those that their first beat armed before.
    """

    def __init__(
        self,
        rules: Mapping[str, FeedRule],
        readings: Readings,
        undo: Undo,
        agenda: Agenda,
        started_at: float,
        *,
        armed: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._rules = rules
        self._undo: Final = undo
        self._readings: Final = readings
        self._agenda: Final = agenda
        self._started_at: Final = started_at
        self._of_feed = _by_feed(rules)
        self._began: Final[Table[str, float]] = Table(undo)  # rules that a reload brought -> since when
        self._lines: Final[Table[str, Line]] = Table(undo)
        self._beats: Final[Table[str, float]] = Table(undo)  # feed -> its last beat
        self._armed: Final[Table[str, bool]] = Table(undo)
        self._said: Final[Table[str, Said]] = Table(undo)
        known = frozenset(armed)
        for rule in rules.values():
            self._lines[rule.feed] = Line()
            if isinstance(rule, DeadmanRule) and (rule.arm == "start" or (rule.name, rule.feed) in known):
                self._armed[rule.name] = True
            self._plan(rule)

    def change(self, rules: Mapping[str, FeedRule], gone: Gone, now: float) -> list[Found]:
        """Other rules: those that are the same go on, the others begin now, and hear at once what is known."""
        before, armed = self._rules, {rule for rule in self._rules if rule in self._armed}
        self._undo.note(lambda: self._take(before))
        self._take(rules)
        began = dict(self._began.items())
        for of_rule in (self._armed, self._said, self._began):
            of_rule.drop(gone.rule)
        for of_feed in (self._lines, self._beats):
            of_feed.drop(lambda feed: feed not in self._of_feed or gone.feed(feed))
        found: list[Found] = []
        for rule in rules.values():
            if rule.name not in before or gone.rule(rule.name):
                self._begin(rule, before, armed, began.get(_origin(rule)), now)
            elif not gone.feed(rule.feed):
                continue
            if rule.feed not in self._lines:
                up = self._readings.link(rule.feed).up
                self._lines[rule.feed] = Line(up=up, back_at=now if up else None)
            self._said.pop(rule.name)
            self._agenda.clear(("watch", "heart", rule.name))
            self._plan(rule)
            found += self.wake(rule.name, now)
        return found

    def _begin(
        self, rule: FeedRule, before: Mapping[str, FeedRule], armed: set[str], began: float | None, now: float
    ) -> None:
        """A rule that is new; or one that is only judged from now on, under another name, as long as it was there."""
        origin = before.get(_origin(rule))
        if _origin(rule) == rule.name:
            self._began[rule.name] = now
        elif began is not None:
            self._began[rule.name] = began
        # A dead-man that its first beat armed stays armed, whatever else of it is changed: as over a restart.
        same = isinstance(origin, DeadmanRule) and origin.feed == rule.feed and origin.name in armed
        if isinstance(rule, DeadmanRule) and (rule.arm == "start" or same):
            self._armed[rule.name] = True

    def _take(self, rules: Mapping[str, FeedRule]) -> None:
        self._rules, self._of_feed = rules, _by_feed(rules)

    def __contains__(self, rule: str) -> bool:
        return rule in self._rules

    # --- what happens --------------------------------------------------------------------------------------

    def link_up(self, feed: str, now: float) -> None:
        """A link was made: from now on silence is the source's."""
        if feed in self._of_feed:
            self._lines[feed] = Line(up=True, back_at=now)
            for rule in self._of_feed[feed]:
                self._plan(rule)

    def link_down(self, feed: str) -> None:
        """Nothing is dead by this, nor unknown yet: the link may be back before anything is missed."""
        if feed in self._of_feed:
            self._lines[feed] = Line(up=False, back_at=self._lines[feed].back_at)
            for rule in self._of_feed[feed]:
                self._plan(rule)

    def beat(self, feed: str, now: float) -> list[Found]:
        """A message of that feed that a broker didn't keep."""
        found: list[Found] = []
        if feed not in self._of_feed:
            return found
        self._beats[feed] = now
        for rule in self._of_feed[feed]:
            if not isinstance(rule, DeadmanRule):
                continue
            if rule.name not in self._armed:
                self._armed[rule.name] = True
                found.append(Armed(rule.name, feed))
            said = self._said.pop(rule.name)
            if said == "dead" or (said == "unknown" and rule.on_stale is not OnUnknown.IGNORE):
                found.append(warned("heard_again", rule, feed, f"the heart of feed {feed} beats again"))
            self._plan(rule)
        return found

    def heard(self, feed: str, now: float) -> list[Found]:
        """Something of that feed arrived, whether or not it says anything about the present."""
        found: list[Found] = []
        for rule in self._of_feed.get(feed, ()):
            if isinstance(rule, SilenceRule):
                found += self._look_at_silence(rule, now)
        return found

    def wake(self, name: str, now: float) -> list[Found]:
        """A rule's entry of the agenda is due, or may be."""
        rule = self._rules.get(name)
        match rule:
            case None:
                return []
            case SilenceRule():
                return self._look_at_silence(rule, now)
            case DeadmanRule():
                return self._look_at_heart(rule, now)
            case _:
                assert_never(rule)

    def _plan(self, rule: FeedRule) -> None:
        """See that the rule is looked at when something may be due; an entry that comes too early moves itself."""
        entry = ("watch", "heart", rule.name)
        due, planned = self._due(rule), self._agenda.when(entry)
        if due is not None and (planned is None or due < planned):
            self._agenda.set(entry, due)

    def _due(self, rule: FeedRule) -> float | None:
        said = self._said.get(rule.name)
        match rule:
            case SilenceRule():
                return None if said else self._last_heard(rule) + rule.older_than_s
            case DeadmanRule():
                if rule.name not in self._armed or said == "dead":
                    return None
                dues = (self._dead_at(rule), None if said else self._unknown_at(rule))
                return min((due for due in dues if due is not None), default=None)
            case _:
                assert_never(rule)

    # --- silence -------------------------------------------------------------------------------------------

    def _look_at_silence(self, rule: SilenceRule, now: float) -> list[Found]:
        if now < self._last_heard(rule) + rule.older_than_s:
            self._said.pop(rule.name)
            self._plan(rule)
            return []
        if rule.name in self._said:
            return []
        self._said[rule.name] = "silent"
        silent = self._silent_s(rule, now)
        return [_breach(rule, self._silence_text(rule, silent), silent)]

    def _heard_at(self, feed: str) -> float | None:
        """The newest look at anything of the feed."""
        looks = [self._readings.lane(lane).as_of for lane in self._readings.lanes(feed)]
        return max((as_of for as_of in looks if as_of is not None), default=None)

    def _last_heard(self, rule: SilenceRule) -> float:
        heard_at = self._heard_at(rule.feed)
        return self._since(rule) if heard_at is None else heard_at

    def _since(self, rule: FeedRule) -> float:
        """Since when there is something to be heard: the start, or a reload that brought the rule or its feed."""
        return max(self._began.get(rule.name) or self._started_at, self._readings.began(rule.feed))

    def _silence_text(self, rule: SilenceRule, silent: Decimal) -> str:
        if self._heard_at(rule.feed) is None:
            said = f"feed {rule.feed} was never heard for {silent:.1f} s since the start"
        else:
            said = f"feed {rule.feed} was not heard for {silent:.1f} s"
        return f"{said}, the limit is {limit.seconds(rule.older_than_s)}"

    # --- hearts --------------------------------------------------------------------------------------------

    def _last_beat(self, rule: DeadmanRule) -> float:
        """Or the start, from which a heart has its full time."""
        return max(self._beats.get(rule.feed) or self._started_at, self._since(rule))

    def _dead_at(self, rule: DeadmanRule) -> float | None:
        """When the heart is dead unless it beats; None while the link is down."""
        line = self._lines[rule.feed]
        if not line.up or line.back_at is None:
            return None
        return max(self._last_beat(rule), line.back_at) + rule.silent_s

    def _unknown_at(self, rule: DeadmanRule) -> float | None:
        """When nobody knows any more; None where the link stood all the time since the last beat."""
        line, last = self._lines[rule.feed], self._last_beat(rule)
        if line.up and line.back_at is not None and line.back_at <= last:
            return None
        return last + rule.silent_s + RECONNECT_S

    def _look_at_heart(self, rule: DeadmanRule, now: float) -> list[Found]:
        if rule.name not in self._armed:
            return []
        said, dead_at, unknown_at = self._said.get(rule.name), self._dead_at(rule), self._unknown_at(rule)
        found: list[Found] = []
        if said != "dead" and dead_at is not None and now >= dead_at:
            self._said[rule.name] = "dead"
            found = [self._dead(rule, now, known=said == "unknown" and _trips_alike(rule))]
        elif said is None and unknown_at is not None and now >= unknown_at:
            self._said[rule.name] = "unknown"
            found = self._unknown(rule, now)
        self._plan(rule)
        return found

    def _dead(self, rule: DeadmanRule, now: float, *, known: bool) -> Breach:
        """`known`: the same scope was tripped already, when nobody knew."""
        silent = self._silent_s(rule, now)
        return _breach(rule, self._heart_text(rule, silent), silent, repeated=known)

    def _unknown(self, rule: DeadmanRule, now: float) -> list[Found]:
        silent = self._silent_s(rule, now)
        text = self._unknown_text(rule, silent)
        match rule.on_stale:
            case OnUnknown.TRIP:
                scope = rule.fallback or rule.scope.fill(())
                return [Breach(rule.name, rule.kind, scope, (), text, limit.plain(silent), repeated=False)]
            case OnUnknown.WARN:
                return [warned("stale", rule, rule.feed, text)]
            case OnUnknown.IGNORE:
                return []
            case _:
                assert_never(rule.on_stale)

    def _heart_text(self, rule: DeadmanRule, silent: Decimal) -> str:
        since = "" if rule.feed in self._beats else " since the start"
        most = limit.seconds(rule.silent_s)
        return f"the heart of feed {rule.feed} did not beat for {silent:.1f} s{since}, the limit is {most}"

    def _unknown_text(self, rule: DeadmanRule, silent: Decimal) -> str:
        since = "" if rule.feed in self._beats else " since the start"
        link = "was down meanwhile" if self._lines[rule.feed].up else "is down"
        return (
            f"nobody knows whether the heart of feed {rule.feed} beats: not heard for {silent:.1f} s{since}, "
            f"the limit is {limit.seconds(rule.silent_s)}, and our own link to it {link}"
        )

    # --- looking from outside ------------------------------------------------------------------------------

    def standings(self, feed: str, now: float) -> tuple[Standing, ...]:
        """How the feed stands to each rule on it."""
        found = []
        for rule in self._of_feed.get(feed, ()):
            if isinstance(rule, DeadmanRule) and rule.name not in self._armed:
                continue  # its silence means nothing yet
            most_s = rule.older_than_s if isinstance(rule, SilenceRule) else rule.silent_s
            silent = max(self._silent_s(rule, now), limit.ZERO)
            share = ages.share_left(most_s, silent)
            found.append(Standing(rule.name, (), silent, (Decimal(repr(most_s)),), share))
        return tuple(found)

    def _silent_s(self, rule: FeedRule, now: float) -> Decimal:
        match rule:
            case SilenceRule():
                return ages.silent_s(self._last_heard(rule), rule.older_than_s, now)
            case DeadmanRule():
                return ages.silent_s(self._last_beat(rule), rule.silent_s, now)
            case _:
                assert_never(rule)

    def _is_dead(self, rule: DeadmanRule, now: float) -> bool:
        dead_at = self._dead_at(rule)
        return self._said.get(rule.name) == "dead" or (dead_at is not None and now >= dead_at)

    def uncalm(self, name: str, now: float) -> str | None:
        """Why a rule isn't calm, for a reset; None when its feed is heard, its heart beats, or it isn't armed.

        Never heard since the start isn't calm: it is unknown.
        """
        rule = self._rules[name]
        silent = self._silent_s(rule, now)
        match rule:
            case SilenceRule():
                past = ages.is_past(rule.older_than_s, silent) or self._heard_at(rule.feed) is None
                return self._silence_text(rule, silent) if past else None
            case DeadmanRule() if rule.name not in self._armed:
                return None
            case DeadmanRule():
                if not ages.is_past(rule.silent_s, silent) and rule.feed in self._beats:
                    return None
                dead = self._is_dead(rule, now) or self._unknown_at(rule) is None
                return self._heart_text(rule, silent) if dead else self._unknown_text(rule, silent)
            case _:
                assert_never(rule)

    def view(self, now: float) -> tuple[RuleView, ...]:
        """The rules in the order of the configuration."""
        return tuple(self._view_of(rule, now) for rule in self._rules.values())

    def _view_of(self, rule: FeedRule, now: float) -> RuleView:
        match rule:
            case SilenceRule():
                silent = self._silent_s(rule, now)
                past = ages.is_past(rule.older_than_s, silent)
                seen = _Seen(ages.share_left(rule.older_than_s, silent), breaching=past)
            case DeadmanRule():
                seen = self._seen_of(rule, now)
            case _:
                assert_never(rule)
        return RuleView(
            rule=rule.name,
            owner=rule.owner,
            kind=rule.kind,
            limit=in_words(rule),
            series=1,
            headroom=seen.headroom,
            worst=None if seen.headroom is None else (),
            breaching=((),) if seen.breaching else (),
            unknown=((),) if seen.unknown else (),
            armed=seen.armed,
            mode=rule.mode,
        )

    def _seen_of(self, rule: DeadmanRule, now: float) -> _Seen:
        """While the link is down nobody knows how much is left."""
        if rule.name not in self._armed:
            return _Seen(armed=False)
        dead_at, dead = self._dead_at(rule), self._is_dead(rule, now)
        left = None
        if dead_at is not None:
            left = ages.share_left(rule.silent_s, ages.silent_s(dead_at - rule.silent_s, rule.silent_s, now))
        unknown = not dead and ages.is_past(rule.silent_s, self._silent_s(rule, now))
        return _Seen(left, breaching=dead, unknown=unknown, armed=True)


@dataclass(frozen=True, slots=True)
class _Seen:
    headroom: float | None = None
    breaching: bool = False
    unknown: bool = False
    armed: bool | None = None


def _breach(rule: FeedRule, text: str, silent: Decimal, *, repeated: bool = False) -> Breach:
    return Breach(rule.name, rule.kind, rule.scope.fill(()), (), text, limit.plain(silent), repeated=repeated)


def _trips_alike(rule: DeadmanRule) -> bool:
    """What trips when nobody knows is what trips when it is dead."""
    return rule.on_stale is OnUnknown.TRIP and (rule.fallback or rule.scope.fill(())) == rule.scope.fill(())

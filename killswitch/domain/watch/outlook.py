"""Looking at rules and feeds from outside: headroom, ages, what isn't calm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.settings import LimitRule, RatioRule, StaleRule
from killswitch.domain.view import FeedView, RuleView, Standing
from killswitch.domain.watch import kinds, limit
from killswitch.domain.watch.readings import Silence
from killswitch.domain.watch.roster import bad_text

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import FeedSpec, ReadingRule
    from killswitch.domain.watch.readings import Series, SeriesKey
    from killswitch.domain.watch.roster import Roster


def uncalm(roster: Roster, name: str, labels: Labels, now: float) -> str | None:
    """Why a rule's series is in breach or unknown; None when it is inside its limit and fresh."""
    rule = roster.rules.get(name)
    if rule is None:
        return None
    known = []
    paired = roster.members(rule, ("", rule.reading, labels)) if isinstance(rule, RatioRule) else ()
    for key in paired or [(*lane, labels) for lane in roster.lanes_of[name]]:
        series, watched = roster.readings.get(key), roster.watched.get(key)
        if series is None or watched is None or all(its is not rule for its, _ in watched.rules):
            continue
        known.append(key)
        trouble = _of_series(roster, rule, key, series, now)
        if trouble is not None:
            return trouble
    for key in known:
        trouble = _of_warmth(roster, rule, key, now)
        if trouble is not None:
            return trouble
    if not labels:
        return _of_rule(roster, rule, now)
    return None if known else _of_absent(roster, rule, labels, now)


def _of_series(roster: Roster, rule: ReadingRule, key: SeriesKey, series: Series, now: float) -> str | None:
    if series.bad is not None:
        return bad_text(key[:2], key[2], series.bad)
    age_s = roster.age(key, series, now)
    if roster.is_unknown(rule, key, series, now):
        return roster.silence_text(Silence(key[:2], key[2], age_s), series, now)
    home = roster.home(rule, key)
    measured = kinds.measure(rule, home, roster, now)
    if kinds.is_past(rule, measured):
        return kinds.sentence(rule, measured, key[2], roster.newest_age(rule, home, now))
    return None


def _of_warmth(roster: Roster, rule: ReadingRule, key: SeriesKey, now: float) -> str | None:
    """A window that isn't whole yet is no knowledge."""
    left_s = roster.warm_in_s(rule, key, now)
    if not left_s:
        return None
    where = limit.named(key[2], f"feed {key[0]}")
    whole = f"its window of {limit.seconds(kinds.window_s(rule))} is whole in {left_s:.1f} s"
    return f"{kinds.subject(rule)} is warming: {whole} ({where})"


def _of_rule(roster: Roster, rule: ReadingRule, now: float) -> str | None:
    """What concerns no single series: a feed that is silent as a whole, a stray, or nothing known."""
    for lane in roster.lanes_of[rule.name]:
        if roster.is_silent(rule, lane, now):
            as_of = roster.readings.lane(lane).as_of
            age_s = None if as_of is None else now - as_of
            return roster.silence_text(Silence(lane, None, age_s), None, now)
        stray = roster.doubts.stray(rule.name, lane[0])
        if stray is not None:
            return f"{bad_text(lane, None, stray.reason)}, {now - stray.at:.1f} s ago"
    if rule.name in roster.known or roster.is_listed(rule):
        return None
    return f"no series of {kinds.subject(rule)} that this rule watches was heard yet"


def _of_absent(roster: Roster, rule: ReadingRule, labels: Labels, now: float) -> str | None:
    """A series that was never heard: 0 where a live session listed its account without it."""
    account = dict(labels).get("account")
    for feed, name in roster.lanes_of[rule.name]:
        oms = roster.feeds[feed].oms
        if oms is None or account is None or not roster.venue.is_listed(oms, name, account):
            continue
        proven_at = roster.readings.proven_at((feed, name, labels))
        lasts_s = rule.older_than_s if isinstance(rule, StaleRule) else roster.feeds[feed].stale_after_s
        if proven_at is not None and now < proven_at + lasts_s:
            if kinds.is_past(rule, kinds.NOTHING):
                return kinds.sentence(rule, kinds.NOTHING, labels, now - proven_at)
            return _of_warmth(roster, rule, (feed, name, labels), now)
    for feed, name in roster.lanes_of[rule.name]:
        oms = roster.feeds[feed].oms
        if oms is not None and (why := roster.venue.why_not(oms, name, labels, now)):
            return f"{kinds.subject(rule)} was never heard ({limit.named(labels, why)})"
    return f"{kinds.subject(rule)} was never heard ({limit.named(labels)})"


def view(roster: Roster, now: float) -> tuple[tuple[RuleView, ...], tuple[FeedView, ...]]:
    """The rules that watch readings, and the feeds, in the order of the configuration."""
    series_of: dict[str, list[tuple[SeriesKey, Series]]] = {name: [] for name in roster.rules}
    untold: dict[str, list[Labels]] = {name: [] for name in roster.rules}
    for key, watched in sorted(roster.watched.items(), key=lambda item: item[0]):
        series = roster.readings.get(key)
        if series is not None:
            for rule, _ in watched.rules:
                series_of[rule.name].append((key, series))
        elif key in roster.awaited:
            for rule, _ in watched.rules:
                untold[rule.name].append(key[2])
    rules = tuple(
        _view_of_rule(roster, rule, series_of[name], untold[name], now)
        for name, rule in roster.rules.items()
        if name not in roster.plan.retired
    )
    return rules, tuple(_view_of_feed(roster, feed, now) for feed in roster.feeds.values())


def _view_of_rule(
    roster: Roster, rule: ReadingRule, held: list[tuple[SeriesKey, Series]], untold: list[Labels], now: float
) -> RuleView:
    rooms, breaching = [], []
    homes = dict.fromkeys(roster.home(rule, key) for key, _ in held)
    for home in homes:
        measured = kinds.measure(rule, home, roster, now)
        room = kinds.headroom(rule, measured)
        if room is not None:
            rooms.append((room, home[2]))
        stand = roster.stands.get((rule.name, home))
        # What a window held may have left it since: nothing came, so nothing was judged.
        if stand is not None and stand.breached and (isinstance(rule, LimitRule) or kinds.is_past(rule, measured)):
            breaching.append(home[2])
    worst = min(rooms, default=None)
    unknown = [k[2] for k, s in held if s.bad is not None or roster.is_unknown(rule, k, s, now)] + untold
    silent = any(roster.is_silent(rule, lane, now) for lane in roster.lanes_of[rule.name])
    if silent or rule.name in roster.missed:
        unknown.append(())  # the rule as a whole
    warming = {roster.home(rule, key) for key, _ in held if roster.warm_in_s(rule, key, now) > 0}
    return RuleView(
        rule=rule.name,
        owner=rule.owner,
        kind=rule.kind,
        limit=kinds.in_words(rule),
        series=len(homes),
        headroom=None if worst is None else worst[0],
        worst=None if worst is None else worst[1],
        breaching=tuple(dict.fromkeys(breaching)),
        unknown=tuple(dict.fromkeys(unknown)),
        warming=len(warming),
    )


def _view_of_feed(roster: Roster, feed: FeedSpec, now: float) -> FeedView:
    """The age is the oldest of the readings that rules watch, or of those it always has where none does."""
    used = roster.told[feed.name]
    looks = [roster.readings.lane(lane).as_of for lane in used]
    heard = [as_of for as_of in looks if as_of is not None]
    whole = len(heard) == len(looks) and bool(looks)
    silent = tuple(lane[1] for lane in used if roster.readings.is_silent(lane, now))
    return FeedView(
        feed=feed.name,
        up=roster.readings.link(feed.name).up,
        heard=whole,
        age_s=max(0.0, now - (min(heard) if whole else roster.readings.began(feed.name))),
        stale=bool(silent),
        readings=roster.counts.get(feed.name) or 0,
        bad=roster.doubts.of(feed.name),
        watched=tuple(lane[1] for lane in used),
        unheard=tuple(lane[1] for lane, as_of in zip(used, looks, strict=True) if as_of is None),
        silent=silent,
    )


def standings(roster: Roster, key: SeriesKey, now: float) -> tuple[Standing, ...]:
    """How a series stands to each rule that watches it; () where it isn't known."""
    watched = roster.watched.get(key)
    if roster.readings.get(key) is None or watched is None:
        return ()
    return tuple(_standing(roster, rule, roster.home(rule, key), now) for rule, _ in watched.rules)


def standing(roster: Roster, rule: ReadingRule, labels: Labels, now: float) -> tuple[Standing, ...]:
    """How a rule's series stands to it, by the labels that a Breach gives; () where none is known."""
    homes: list[SeriesKey] = [(*lane, labels) for lane in roster.lanes_of[rule.name]]
    if isinstance(rule, RatioRule):
        homes = [("", rule.reading, labels)]
    known = [home for home in homes if any(roster.readings.get(key) for key in roster.members(rule, home))]
    return tuple(_standing(roster, rule, home, now) for home in known[:1])


def _standing(roster: Roster, rule: ReadingRule, home: SeriesKey, now: float) -> Standing:
    measured = kinds.measure(rule, home, roster, now)
    value, limits = kinds.drawn(rule, measured)
    return Standing(rule.name, home[2], value, limits, kinds.headroom(rule, measured))

"""The latest value of every series, its age, and when a series or a whole feed counts as stale.

A series is (feed, reading, labels). A lane is (feed, reading): an OMS feed has one for each built-in reading,
any other feed one. A lane that fails as a whole is one fact, however many series it has; a series goes stale by itself
only once its lane has been heard again after the series fell due, so that a source that stops speaking never
looks like a thousand series stopping one by one. That may take as long as stale_after_s once more: by then the
lane was heard or has failed itself.

Times are `now`, the monotonic clock: a look's time is its arrival less the lag of its source, and what that
clock never went back over can't be made old by a step of the wall clock.

Cost: a reading changes its series and its lane and leaves the agenda alone. Entries move lazily: each looks
again when it comes due.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.undo import Table
from killswitch.domain.watch.shown import BUILT_IN, WORTHS
from killswitch.domain.watch.times import Before, judge

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from decimal import Decimal

    from killswitch.domain.messages import Labels, Reading
    from killswitch.domain.settings import FeedSpec
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.times import Timing, Told
    from killswitch.domain.watch.venue import Venue

LaneKey: TypeAlias = tuple[str, str]
SeriesKey: TypeAlias = "tuple[str, str, Labels]"

HEART: Final = ""
"""The lane of a feed that gives no reading: of its beats."""

START_S: Final = 30.0
"""How long a feed may take to come up before its silence counts."""

CLOCKS_S: Final = 0.1
"""So exactly it is kept for a feed how our clocks stood to each other: it is written when they moved, not each time."""

GRACES: Final = 3
"""After its link came back a silent series gets stale_after_s once more: so often, until it is heard."""


@dataclass(frozen=True, slots=True)
class Series:
    """`as_of`: the newest look's time. `told`: of its source's time, where that gives one.

    `bad`: why the newest look was no value. `stale`: it was said so.
    """

    value: Decimal
    as_of: float
    told: Told | None
    bad: str | None = None
    stale: bool = False
    graces: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """`as_of`: the newest look's time. `heard_at`: the last arrival that wasn't stale already."""

    back_at: float
    as_of: float | None = None
    heard_at: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Our own link to a feed's source. `began`: since when there is the feed."""

    began: float
    up: bool = False
    first_up: float | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """A lane (labels None) or a series has gone stale: said once. `age_s` None: it was never heard."""

    lane: LaneKey
    labels: Labels | None
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Return:
    """A lane (labels None) or a series that was stale is heard again."""

    lane: LaneKey
    labels: Labels | None


Change: TypeAlias = Silence | Return


def lanes_of(feed: FeedSpec) -> tuple[LaneKey, ...]:
    """The readings that a feed gives."""
    if feed.kind == "oms":
        return tuple((feed.name, name) for name in BUILT_IN if feed.numeraire is not None or name not in WORTHS)
    return ((feed.name, feed.reading or HEART),)


class Readings:
    """Everything that was read, with its age. The caller commits what building it wrote."""

    def __init__(
        self, feeds: Mapping[str, FeedSpec], venue: Venue, undo: Undo, agenda: Agenda, started_at: float
    ) -> None:
        self._feeds = feeds
        self._undo: Final = undo
        self._venue: Final = venue
        self._agenda: Final = agenda
        self._links: Table[str, Link] = Table(undo)
        self._lanes: Table[LaneKey, Lane] = Table(undo)
        self._series: Table[SeriesKey, Series] = Table(undo)
        # feed -> how our clocks stood to each other: level and seen of times.py, as one of its series had them last
        self._clocks: Table[str, tuple[float, float]] = Table(undo)
        # Series that fell due and wait for a sign that their lane lives: a table a lane.
        self._suspects: dict[LaneKey, Table[SeriesKey, bool]] = {}
        self._idle: Table[SeriesKey, Series] = Table(undo)  # series that no rule watches
        for feed in feeds.values():
            self._begin(feed, started_at)

    def _begin(self, feed: FeedSpec, now: float) -> None:
        """A feed that is watched from now on."""
        self._links[feed.name] = Link(began=now)
        for lane in lanes_of(feed):
            self._lanes[lane] = Lane(back_at=now)
            self._suspects[lane] = Table(self._undo)
            self._undo.note(partial(self._suspects.pop, lane, None))
            self._agenda.set(("watch", "lane", lane), self.first_due(feed.name))

    def change(self, feeds: Mapping[str, FeedSpec], gone: Gone, now: float) -> None:
        """Other feeds: those that are the same go on, the others begin now."""
        before, self._feeds = self._feeds, feeds
        self._undo.note(lambda: setattr(self, "_feeds", before))
        self._links.drop(gone.feed)
        for of_series in (self._series, self._idle):
            of_series.drop(gone.series)
        self._lanes.drop(gone.series)
        self._clocks.drop(gone.feed)
        for lane in [lane for lane in self._suspects if gone.series(lane)]:
            self._undo.note(partial(self._suspects.__setitem__, lane, self._suspects.pop(lane)))
        for feed in feeds.values():
            if feed.name not in self._links:
                self._begin(feed, now)

    # --- looking -------------------------------------------------------------------------------------------

    def link(self, feed: str) -> Link:
        return self._links[feed]

    def lanes(self, feed: str) -> tuple[LaneKey, ...]:
        return lanes_of(self._feeds[feed])

    def began(self, feed: str) -> float:
        """Since when there is the feed: the start, or a reload."""
        return self._links[feed].began

    def lane(self, lane: LaneKey) -> Lane:
        return self._lanes[lane]

    def get(self, key: SeriesKey) -> Series | None:
        return self._series.get(key)

    def first_due(self, feed: str) -> float:
        """When something must have been heard: stale_after_s after the link first stood.

        A link that takes its time gets START_S, or stale_after_s where that is longer: what nobody could
        have heard in less isn't missing.
        """
        stale_after_s = self._feeds[feed].stale_after_s
        link = self._links[feed]
        latest = link.began + max(START_S, stale_after_s)
        first_up = link.first_up
        return latest if first_up is None else min(first_up + stale_after_s, latest)

    def lane_due(self, lane: LaneKey) -> float:
        """When the lane fails unless it is heard before."""
        as_of, first = self._lanes[lane].as_of, self.first_due(lane[0])
        return first if as_of is None else max(as_of + self._feeds[lane[0]].stale_after_s, first)

    def is_silent(self, lane: LaneKey, now: float) -> bool:
        return self._lanes[lane].failed or now >= self.lane_due(lane)

    def last_look(self, key: SeriesKey, series: Series) -> float:
        """When the value was last known to hold: as read, or proven since by a live session."""
        return max(series.as_of, self.proven_at(key) or series.as_of)

    def proven_at(self, key: SeriesKey) -> float | None:
        """The last proven look at an OMS's series, read or not; None for other feeds."""
        oms = self._feeds[key[0]].oms
        return None if oms is None else self._venue.proven_at(oms, key[1], key[2])

    def is_fresh(self, key: SeriesKey, series: Series, now: float) -> bool:
        return now < self.last_look(key, series) + self._feeds[key[0]].stale_after_s

    # --- what happens --------------------------------------------------------------------------------------

    def link_up(self, feed: str, now: float) -> bool:
        """True the first time. Series get stale_after_s from now on: theirs may have been lost on the way."""
        link = self._links[feed]
        self._links[feed] = replace(link, up=True, first_up=now if link.first_up is None else link.first_up)
        for key in lanes_of(self._feeds[feed]):
            lane = self._lanes[key]
            self._lanes[key] = replace(lane, back_at=now)
            if lane.as_of is None and not lane.failed:
                self._agenda.set(("watch", "lane", key), self.lane_due(key))
        return link.first_up is None

    def link_down(self, feed: str) -> None:
        """Nothing is stale by this alone: the link may be back before anything is."""
        self._links[feed] = replace(self._links[feed], up=False)

    def timing(self, event: Reading, value: Decimal, now: float) -> Timing:
        """What a reading's own time is worth."""
        key = (event.feed, event.name, event.labels)
        series = self._series.get(key)
        before = None if series is None else Before(series.value, series.as_of, series.told)
        clocks, stale_after_s = self._clocks.get(event.feed), self._feeds[event.feed].stale_after_s
        timing = judge(event, value, before, now, clocks=clocks, stale_after_s=stale_after_s)
        told = timing.told
        if told is not None and (clocks is None or abs(told.seen - clocks[1]) > CLOCKS_S):
            self._clocks[event.feed] = (told.level, told.seen)
        return timing

    def observe(self, key: SeriesKey, value: Decimal, now: float, timing: Timing) -> list[Change]:
        """A value that counts. A timing whose `as_of` is None: it is known, but not since when."""
        lane, old, as_of = key[:2], self._series.get(key), timing.as_of
        before = old.as_of if old else self._known_since(key[0])
        newest = before if as_of is None or old is None else max(before, as_of)
        new = Series(
            value=value,
            as_of=as_of if old is None and as_of is not None else newest,
            told=timing.told if timing.told is not None else (old.told if old else None),
            stale=old.stale if old else False,
            graces=0 if as_of is not None or old is None else old.graces,
        )
        changes: list[Change] = []
        if new.stale and self.is_fresh(key, new, now):
            new = replace(new, stale=False)
            changes.append(Return(lane, key[2]))
        self._series[key] = new
        if old is None or old.stale != new.stale:
            self._agenda.set(("watch", "series", key), self._due(key, new))
        if as_of is not None:
            changes += self.heard(lane, now, as_of)
        return changes

    def again(self, key: SeriesKey, now: float, timing: Timing) -> list[Change]:
        """The same value with the same time: its lane lives as far as that is young, and nothing else is new."""
        series = self._series[key]
        if series.told is not None:
            told = replace(series.told, repeats=series.told.repeats + 1, frozen=timing.odd == "frozen")
            self._series[key] = replace(series, told=told)
        return self.heard(key[:2], now, series.as_of)

    def _known_since(self, feed: str) -> float:
        """The time of a value whose own nobody knows."""
        link = self._links[feed]
        return link.began if link.first_up is None else link.first_up

    def note(self, key: SeriesKey, value: Decimal, timing: Timing) -> None:
        """A value of a series that no rule watches: kept for a rule that a reload may bring."""
        old, told = self._idle.get(key), timing.told
        if old is not None and old.told is not None and told is not None and told.newest_at < old.told.newest_at:
            return
        before = old.as_of if old else self._known_since(key[0])
        newest = before if timing.as_of is None else (max(before, timing.as_of) if old else timing.as_of)
        self._idle[key] = Series(value, newest, told if told is not None else (old.told if old else None))

    def idle(self) -> tuple[SeriesKey, ...]:
        """Known series that no rule watches."""
        return tuple(self._idle)

    def rouse(self, key: SeriesKey) -> None:
        """A rule watches this series from now on."""
        series = self._idle.pop(key)
        if series is not None:
            self._series[key] = series
            self._agenda.set(("watch", "series", key), self._due(key, series))

    def rest(self, key: SeriesKey) -> None:
        """No rule watches this series any more."""
        series = self._series.pop(key)
        if series is not None:
            self._idle[key] = replace(series, stale=False, graces=0)
            self._suspects[key[:2]].pop(key)

    def doubt_idle(self, key: SeriesKey, reason: str) -> None:
        """The newest look at a series that no rule watches was no value."""
        series = self._idle.get(key)
        if series is not None and series.bad is None:
            self._idle[key] = replace(series, bad=reason)

    def doubt(self, key: SeriesKey, reason: str) -> bool:
        """The newest look at a known series was no value. True when the one before it was."""
        series = self._series[key]
        self._series[key] = replace(series, bad=reason)
        return series.bad is None

    def heard(self, key: LaneKey, now: float, as_of: float) -> list[Change]:
        """Something of the lane is known as of that time."""
        lane, stale_after_s = self._lanes[key], self._feeds[key[0]].stale_after_s
        in_time = now < as_of + stale_after_s
        back = lane.failed and in_time
        self._lanes[key] = Lane(
            back_at=now if back else lane.back_at,
            as_of=as_of if lane.as_of is None else max(lane.as_of, as_of),
            heard_at=now if in_time else lane.heard_at,
            failed=lane.failed and not in_time,
        )
        if back or (lane.as_of is None and not lane.failed):
            self._agenda.set(("watch", "lane", key), self.lane_due(key))
        changes: list[Change] = [Return(key, None)] if back else []
        suspects = self._suspects[key]
        if in_time and len(suspects):
            for series_key in sorted(suspects):
                del suspects[series_key]
                changes += self._look_at_series(series_key, now)
        return changes

    def wake(self, what: Hashable, now: float) -> list[Change]:
        """An agenda entry ("watch", "lane" or "series", its key) is due, or may be."""
        match what:
            case ("watch", "lane", (str(feed), str(name))) if (feed, name) in self._lanes:
                return self._look_at_lane((feed, name), now)
            case ("watch", "series", (str(feed), str(name), tuple(labels))):
                key = (feed, name, labels)
                return self._look_at_series(key, now) if key in self._series else []
        return []

    # --- judging -------------------------------------------------------------------------------------------

    def _due(self, key: SeriesKey, series: Series) -> float:
        back_at = self._lanes[key[:2]].back_at
        return max(self.last_look(key, series), back_at) + self._feeds[key[0]].stale_after_s

    def _look_at_lane(self, key: LaneKey, now: float) -> list[Change]:
        if self._lanes[key].failed:
            return []
        due = self.lane_due(key)
        if now >= due:
            return self._fail(key, now)
        self._agenda.set(("watch", "lane", key), due)
        return []

    def _fail(self, key: LaneKey, now: float) -> list[Change]:
        """The lane is silent as a whole; its series are silent with it and not one by one."""
        lane = self._lanes[key]
        self._lanes[key] = replace(lane, failed=True)
        suspects = self._suspects[key]
        for series_key in suspects:
            del suspects[series_key]
        return [Silence(key, None, None if lane.as_of is None else now - lane.as_of)]

    def _look_at_series(self, key: SeriesKey, now: float) -> list[Change]:
        """Whether a series is silent by itself. At most one look again is set."""
        series, lane_key = self._series[key], key[:2]
        lane, stale_after_s = self._lanes[lane_key], self._feeds[key[0]].stale_after_s
        again: Hashable = ("watch", "series", key)
        if self.is_silent(lane_key, now):
            # The lane first, whichever entry of one instant is taken first: a rollback may change their order.
            self._agenda.set(again, now + stale_after_s)
            return self._look_at_lane(lane_key, now)
        fresh = self.is_fresh(key, series, now)
        # Without an end to this a link that goes up and down would hide a silent series for ever.
        spared = fresh or series.graces < GRACES
        due = self._due(key, series) if spared else self.last_look(key, series) + stale_after_s
        if series.stale and fresh:  # a live session proved it, without a value of its own
            self._series[key] = replace(series, stale=False, graces=0)
            self._agenda.set(again, due)
            return [Return(lane_key, key[2])]
        if series.stale:
            if self._feeds[key[0]].kind == "oms":
                self._agenda.set(again, now + stale_after_s)
            return []
        if now < due:
            self._series[key] = replace(series, graces=0 if fresh else series.graces + 1)
            self._agenda.set(again, due)
            return []
        if lane.heard_at is None or lane.heard_at < due:
            self._suspects[lane_key][key] = True
            self._agenda.set(again, self.lane_due(lane_key))
            return []
        self._series[key] = replace(series, stale=True)
        if self._feeds[key[0]].kind == "oms":
            self._agenda.set(again, now + stale_after_s)
        return [Silence(lane_key, key[2], now - self.last_look(key, series))]

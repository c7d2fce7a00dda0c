"""What must outlive the process: the windows of the rules, in slices, as far as they changed.

A window is told in at most so many slices of its length, kept step by step beside it, so that telling it costs
the same however much came. A slice leaves with the newest reading in it; what lessens the measure (what is below 0 in
a sum, what a share is of) with the oldest. So what was brought back never measures less than what was kept, and each
reading counts, or doesn't, at most a slice's width too long.

Nobody hears what comes while there is no daemon: it is in no window that was brought back.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from killswitch.domain.messages import KeptWindow, Slice
from killswitch.domain.settings import DrawdownRule, LimitRule, RateRule, RatioRule, StaleRule
from killswitch.domain.undo import Queue, Table
from killswitch.domain.watch import kinds
from killswitch.domain.watch.limit import EXACT, ZERO
from killswitch.domain.watch.roster import concerns
from killswitch.domain.watch.windows import length_s

if TYPE_CHECKING:
    from collections.abc import Hashable
    from decimal import Decimal

    from killswitch.domain.messages import Keep
    from killswitch.domain.settings import ReadingRule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.readings import SeriesKey
    from killswitch.domain.watch.roster import Roster
    from killswitch.domain.watch.windows import Counting

SLICES: Final = 60
"""A window is told in slices of this fraction of its length."""
EVERY_S: Final = 1.0
AT_ONCE_MAX: Final = 200
"""So many windows are told at a time, those that have waited longest; the rest a second later."""
LOOK_EVERY_S: Final = 10.0
"""A window that was told and doesn't change is looked at again after this, or a quarter of its length: all of it may
have left, and a value that holds on is told to."""

AWAY_MAX: Final = 0.25
"""So much of its length nobody need have watched for a window to be whole; else it warms up, with what was kept in it.
A ratio begins anew then: what is left of its two counts is of different times, and could trip for nothing, while a
share of what comes from then on is true as soon as it is of enough."""
RECALLED_PER_S: Final = 1000
"""Windows that may grow by themselves are brought back so many in a second: a sweep that begins can't wait for them."""

At: TypeAlias = "tuple[str, SeriesKey]"


class Memory:
    """Which windows changed since they were told, and their slices. `keeps` False: nothing is ever told.

    Its entries of the agenda are tuples that begin with "keep".
    """

    def __init__(self, roster: Roster, undo: Undo, agenda: Agenda, *, keeps: bool) -> None:
        self._roster: Final = roster
        self._undo: Final = undo
        self._agenda: Final = agenda
        self._keeps: Final = keeps
        # What adds to a window's measure, and what lessens it. Empty ones left behind by a rollback say nothing.
        self._slices: Final[dict[tuple[At, bool], Queue[Slice]]] = {}
        self._changed: Final[Table[At, bool]] = Table(undo)
        self._told: Final[Table[str, float]] = Table(undo)
        # What an earlier life kept of series that weren't heard yet in this one, and how far its times must be moved.
        self._kept: Final[Table[At, tuple[KeptWindow, float]]] = Table(undo)

    def add(self, rule: Counting, key: SeriesKey, value: Decimal, now: float, count: int = 1) -> None:
        """A reading came into a window; or so many of this sum."""
        if not self._keeps:
            return
        at, lessens, span_s = (rule.name, key), _lessens(rule, key, value), length_s(rule)
        slices, value = self._queue(at, span_s, now, lessens=lessens), value if _adds(rule) else ZERO
        last = slices.last()
        if last is None or now - last.began >= span_s / SLICES:
            slices.append(Slice(now, now, count, value))
        else:
            slices.pop()
            until = last.began if lessens else now
            slices.append(Slice(last.began, until, last.count + count, EXACT.add(last.total, value)))
        self._change(at, now)

    def replace(self, rule: DrawdownRule, key: SeriesKey, value: Decimal, now: float) -> None:
        """A value is about to replace the one that a drawdown's window holds."""
        at, before = (rule.name, key), self._roster.peaks.value(rule, key)
        if not self._keeps or value == before:
            return
        slices = self._queue(at, rule.window_s, now)
        highest = value if before is None else max(value, before)
        while (last := slices.last()) is not None and last.total <= highest:
            slices.pop()
        if before is not None and value < before:
            if last is None or now - last.began >= rule.window_s / SLICES:
                slices.append(Slice(now, now, 1, before))
            else:
                slices.pop()
                slices.append(Slice(last.began, now, 1, last.total))
        self._change(at, now)

    def wake(self, what: Hashable, now: float) -> tuple[KeptWindow, ...]:
        """An entry of the agenda is due: what is to be kept now. Too early, twice or unknown is harmless."""
        match what:
            case ("keep", "changed"):
                self._told["at"] = now
                return self._tell(now, AT_ONCE_MAX)
            case ("keep", "look", (str(name), (str(feed), str(of), tuple(labels)))):
                self._look((name, (feed, of, labels)), now)
        return ()

    def all(self, now: float) -> tuple[KeptWindow, ...]:
        """Whatever changed, however much: for the end."""
        return self._tell(now, len(self._changed))

    def tell_again(self, now: float) -> None:
        """The wall clock was set: on disk are times of it, and by these a restart would get all ages wrong."""
        for at in dict.fromkeys((*(at for at, _ in self._slices), *self._kept)):
            self._change(at, now)

    # --- the next life

    def put_back(self, kept: tuple[Keep, ...], now: float, wall: float, last_wall: float) -> None:
        """What was kept, at the start. What fits no rule any more, and what has left its window, is forgotten.

        `last_wall`: when a sign of life was written last, if not by one of these. A wall clock that went back since
        then makes a window no younger than it was. A window is brought back with its series' first reading: of ten
        thousand most can wait, and a sweep can't.
        """
        away_s = wall - max((last_wall, *(keep.wall for keep in kept)))
        for keep in kept:
            moved_s = now - max(0.0, wall - keep.wall) - keep.clock_s
            for window in keep.windows:
                at, rule = (window.rule, _key(window)), self._roster.rules.get(window.rule)
                fits = rule is not None and self._fits(rule, window, away_s)
                if rule is None or not fits or not _is_left(window, moved_s, rule, now):
                    self._change(at, now)  # nothing is held of it: it is told to be forgotten
                    continue
                self._kept[at] = (window, moved_s)
                if away_s <= kinds.window_s(rule) * AWAY_MAX:
                    self._roster.since[at] = min(window.since + moved_s, now)
                self._expect(rule, at, now)

    def _expect(self, rule: ReadingRule, at: At, now: float) -> None:
        """See that what waits for its series is looked at if that isn't heard."""
        self._agenda.set(("keep", "look", at), now + _look_every_s(rule))
        if isinstance(rule, RatioRule) or (isinstance(rule, RateRule) and rule.sum):
            # What left meanwhile, or leaves before anything is heard, may make it a breach.
            home = self._roster.home(rule, at[1])
            self._agenda.set(("watch", "sum", rule.name, home), now + len(self._kept) / RECALLED_PER_S)

    def forget(self, gone: Gone, now: float) -> None:
        """Rules and feeds went: so must what was kept of their windows, but for the heirs'."""
        slices = [((h, less), q.copy()) for (at, less), q in self._slices.items() for h in gone.left_to(at)]
        kept = [(heir, held) for at, held in self._kept.items() for heir in gone.left_to(at)]
        for held in [held for held in self._slices if gone.at(held[0])]:
            self._undo.note(partial(self._slices.__setitem__, held, self._slices.pop(held)))
            self._change(held[0], now)
        for at in self._kept:
            if gone.at(at):
                del self._kept[at]
                self._change(at, now)
        for key, queue in slices:
            self._slices[key] = queue
            self._undo.note(partial(self._slices.pop, key))
            self._change(key[0], now)
        for at, window in kept:
            self._kept[at] = window
            self._expect(self._roster.rules[at[0]], at, now)
            self._change(at, now)

    def recall(self, rule: ReadingRule, key: SeriesKey, now: float) -> None:
        """A series is heard: from now on its windows are what was kept of them. Its own reading comes after this."""
        if len(self._kept):
            for window in self._roster.windows_of(rule, key):
                self._recall(rule, window, now)

    def _recall(self, rule: ReadingRule, key: SeriesKey, now: float) -> None:
        found = self._kept.pop((rule.name, key))
        if found is None:
            return
        at, span_s = (rule.name, key), kinds.window_s(rule)
        slices = _moved(*found, span_s, now)
        self._change(at, now)
        match rule:
            case _ if not slices:
                pass
            case LimitRule() | StaleRule():
                pass
            case RateRule() | RatioRule():
                for held in slices:
                    self._queue(at, span_s, now, lessens=_lessens(rule, key, held.total)).append(held)
                self._roster.windows.put_back(rule, key, slices)
            case DrawdownRule():
                for held in slices[:-1]:  # the last is the value that held, and isn't replaced yet
                    self._queue(at, span_s, now).append(held)
                self._roster.peaks.put_back(rule, key, slices)
            case _:
                assert_never(rule)

    def _fits(self, rule: ReadingRule, window: KeptWindow, away_s: float) -> bool:
        if isinstance(rule, RatioRule):
            if away_s > rule.window_s * AWAY_MAX:
                return False
            is_its = window.feed == "" and window.reading in rule.reads  # as Roster.home says
        else:
            is_its = rule in self._roster.by_lane.get((window.feed, window.reading), ())
        return is_its and concerns(rule, window.labels) and window.definition == kinds.definition(rule) != ""

    # --- telling

    def _change(self, at: At, now: float) -> None:
        if not self._keeps or at in self._changed:
            return
        self._changed[at] = True
        if self._agenda.when(("keep", "changed")) is None:
            told_at = self._told.get("at")
            self._agenda.set(("keep", "changed"), now if told_at is None else max(now, told_at + EVERY_S))

    def _tell(self, now: float, at_most: int) -> tuple[KeptWindow, ...]:
        windows = []
        for at in tuple(islice(self._changed, at_most)):
            del self._changed[at]
            windows.append(self._window(at, now))
        if len(self._changed):
            self._agenda.set(("keep", "changed"), now + EVERY_S)
        return tuple(windows)

    def _window(self, at: At, now: float) -> KeptWindow:
        (name, key), rule = at, self._roster.rules.get(at[0])
        slices = self._held(rule, key, now) if rule is not None else ()
        since = self._roster.watched_since(rule, key) if rule is not None and slices else None
        look = ("keep", "look", at)
        if rule is not None and slices and self._agenda.when(look) is None:
            self._agenda.set(look, now + _look_every_s(rule))
        return KeptWindow(
            rule=name,
            definition="" if rule is None else kinds.definition(rule),
            feed=key[0],
            reading=key[1],
            labels=key[2],
            since=now if since is None else since,
            slices=slices,
        )

    def _look(self, at: At, now: float) -> None:
        """Whether all that was told of a window has left it, or holds for longer than was told."""
        rule, kept = self._roster.rules.get(at[0]), self._kept.get(at)
        if rule is not None and kept is not None:
            if _is_left(*kept, rule, now):
                self._agenda.set(("keep", "look", at), now + _look_every_s(rule))
            else:
                del self._kept[at]
                self._roster.since.pop(at)
                self._change(at, now)
            return
        held = self._held(rule, at[1], now) if rule is not None else ()
        if rule is None or not held or isinstance(rule, DrawdownRule):
            self._change(at, now)
        else:
            left_at = max(s.at for s in held) + kinds.window_s(rule)
            self._agenda.set(("keep", "look", at), max(left_at, now + _look_every_s(rule)))

    # --- slices

    def _queue(self, at: At, span_s: float, now: float, *, lessens: bool = False) -> Queue[Slice]:
        """Slices of one window; what has left it is gone."""
        slices = self._slices.get((at, lessens))
        if slices is None:
            slices = self._slices[at, lessens] = Queue(self._undo)
        while (first := slices.first()) is not None and first.at + span_s <= now:
            slices.popleft()
        return slices

    def _held(self, rule: ReadingRule, key: SeriesKey, now: float) -> tuple[Slice, ...]:
        at, span_s = (rule.name, key), kinds.window_s(rule)
        kept = self._kept.get(at)
        if kept is not None:
            return tuple(_moved(*kept, span_s, now))
        held = tuple(self._queue(at, span_s, now))
        if isinstance(rule, DrawdownRule):
            value = self._roster.peaks.value(rule, key)
            return held if value is None else (*held, Slice(now, now, 1, value))
        return (*held, *self._queue(at, span_s, now, lessens=True)) if (at, True) in self._slices else held


def _key(window: KeptWindow) -> SeriesKey:
    return (window.feed, window.reading, window.labels)


def _moved(window: KeptWindow, moved_s: float, span_s: float, now: float) -> list[Slice]:
    """Its slices by our clock, as far as they are in the window yet, in the order in which they leave it."""
    moved = (Slice(min(s.began + moved_s, now), min(s.at + moved_s, now), s.count, s.total) for s in window.slices)
    return sorted((s for s in moved if s.at + span_s > now), key=lambda s: (s.at, s.began))


def _is_left(window: KeptWindow, moved_s: float, rule: ReadingRule, now: float) -> bool:
    """Something of it is in its window yet."""
    span_s = kinds.window_s(rule)
    return any(min(s.at + moved_s, now) + span_s > now for s in reversed(window.slices))


def _adds(rule: Counting) -> bool:
    return isinstance(rule, RateRule) and rule.sum


def _lessens(rule: Counting, key: SeriesKey, value: Decimal) -> bool:
    """Whether the measure is less for it, so that it grows when this leaves."""
    return key[1] == rule.over if isinstance(rule, RatioRule) else rule.sum and value < 0


def _look_every_s(rule: ReadingRule) -> float:
    return max(LOOK_EVERY_S, kinds.window_s(rule) / 4)

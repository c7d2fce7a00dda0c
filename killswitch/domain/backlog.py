"""Events that wait for the loop, bounded: what comes faster than it is judged.

Pure, so that the links of all kinds of feeds and the loop's inbox keep one; who waits for whom is their affair.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import BadReading, Beat, FeedDown, FeedUp, Merged, PositionSeen, PriceSeen, Reading
from killswitch.domain.watch.limit import EXACT, ZERO

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from killswitch.domain.messages import Event, Number

WAITING_MAX: Final = 10_000

Mergeable: TypeAlias = Reading | BadReading | Beat | PositionSeen | PriceSeen


class Backlog:
    """Events that wait, in order of arrival.

    Below its limit it drops and merges nothing. At the limit each series keeps its first, lowest, highest and
    last reading, and both ends of its deepest fall, so that a spike stays a spike; the others are merged into the next
    one that is kept, which says how many they were and their sum. Bad readings keep the first and the last of each
    series and reason. What is none of these waits beside them, as it came. So it holds at most its limit and a few of
    each series, however long a flood lasts; `conflated` counts what was merged.
    """

    def __init__(self, limit: int = WAITING_MAX) -> None:
        self.conflated = 0
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._bunches: dict[Hashable, _Bunch] = {}
        self._apart: list[_Kept] = []
        self._place = 0  # of the newest event, in order of arrival
        self._held = 0  # in bunches and apart
        self._told = False

    def __len__(self) -> int:
        return len(self._waiting) + self._held

    def put(self, events: Iterable[Event]) -> bool:
        """Add them. True: too many wait, and from here on some are merged; once, until they are taken."""
        begins = False
        for event in events:
            if not self._held and len(self._waiting) < self._limit:
                self._waiting.append(event)
            else:
                begins = self._crowd(event) or begins
        return begins

    def pop(self) -> Event | None:
        """The oldest, or None."""
        if not self._waiting:
            self._line_up()
        return self._waiting.popleft() if self._waiting else None

    def take(self, most: int) -> list[Event]:
        """The oldest, at most `most`."""
        taken: list[Event] = []
        while len(taken) < most and (event := self.pop()) is not None:
            taken.append(event)
        return taken

    def forget(self, feeds: frozenset[str]) -> None:
        """These feeds are no more, or read from elsewhere: what they said is nobody's."""
        self._line_up()
        held = Reading | BadReading | Beat | FeedUp | FeedDown
        self._waiting = deque(e for e in self._waiting if not (isinstance(e, held) and e.feed in feeds))

    def _crowd(self, event: Event) -> bool:
        self._place += 1
        series = _series(event)
        if series is None or not isinstance(event, Mergeable):
            self._apart.append(_Kept(self._place, event))
            self._held += 1
            return False
        bunch = self._bunches.get(series)
        if bunch is None:
            bunch = self._bunches[series] = _Bunch()
        if not bunch.add(self._place, event):
            self._held += 1
            return False
        self.conflated += 1
        begins, self._told = not self._told, True
        return begins

    def _line_up(self) -> None:
        """What was merged goes behind what is older, in order of arrival."""
        if not self._held:
            return
        kept = [*self._apart, *(one for bunch in self._bunches.values() for one in bunch.kept)]
        self._waiting.extend(one.whole() for one in sorted(kept, key=_place))
        self._bunches.clear()
        self._apart.clear()
        self._held, self._told = 0, False


class _Kept:
    """An event that is kept, and what was merged into it."""

    __slots__ = ("count", "event", "older", "place", "repeated", "total")

    def __init__(self, place: int, event: Event) -> None:
        self.place, self.event = place, event
        self.count = self.older = self.repeated = 0
        self.total = ZERO
        if isinstance(event, Reading) and event.merged is not None:  # it was merged before it came here
            self.count, self.total = event.merged.count, event.merged.total
            self.older, self.repeated = event.merged.older, event.merged.repeated
        elif isinstance(event, BadReading | Beat | PositionSeen | PriceSeen):
            self.count = event.merged

    def take_in(self, gone: _Kept) -> None:
        self.count += gone.count
        self.older += gone.older
        self.repeated += gone.repeated
        total = gone.total
        match gone.event:
            case Reading(fresh=True, value=value):
                self.count += 1
                total = EXACT.add(total, _exact(value))
            case Reading():
                pass  # nobody knows when it was made: it never counted as an arrival
            case _:
                self.count += 1
        if total:
            self.total = EXACT.add(self.total, total)

    def whole(self) -> Event:
        match self.event:
            case Reading() as reading:
                merged = Merged(self.count, self.total, self.older, self.repeated)
                return replace(reading, merged=merged) if merged != _NOTHING else reading
            case BadReading() | Beat() | PositionSeen() | PriceSeen() as event:
                return replace(event, merged=self.count) if self.count else event
            case event:
                return event


_NOTHING: Final = Merged(0, ZERO)


class _Bunch:
    """What is kept of one series, in order of arrival."""

    __slots__ = ("kept", "newest_at")

    def __init__(self) -> None:
        self.kept: list[_Kept] = []
        self.newest_at = -math.inf

    def add(self, place: int, event: Mergeable) -> bool:
        """True: as many are kept as before."""
        if isinstance(event, Reading) and event.source_at is not None and self._is_odd(event, event.source_at):
            return True
        self.kept.append(_Kept(place, event))
        numbers = _numbers(event)
        if len(self.kept) <= 2 + 2 * len(numbers):
            return False
        ends = {0, len(self.kept) - 1}
        for n in range(len(numbers)):
            there = [(number, at) for at, one in enumerate(self.kept) if (number := _numbers(one.event)[n]) is not None]
            ends |= {min(there)[1], max(there)[1], *_deepest_fall(there)} if there else set()
        at = next((at for at in range(len(self.kept)) if at not in ends), None)
        if at is None:  # its deepest fall is between others than these
            return False
        self.kept[at + 1].take_in(self.kept.pop(at))
        return True

    def _is_odd(self, event: Reading, source_at: float) -> bool:
        """What the rules would pass over must not stand in for what they wouldn't."""
        last = self.kept[-1] if self.kept else None
        if last is not None and source_at < self.newest_at:
            last.older += 1
            return True
        match last:
            case _Kept(event=Reading(source_at=before, value=value)) if (before, value) == (source_at, event.value):
                last.repeated += 1
                return True
        self.newest_at = max(self.newest_at, min(source_at, event.wall))
        return False


def _deepest_fall(there: list[tuple[Number, int]]) -> tuple[int, ...]:
    """Where it begins and ends; () where nothing falls. Those that are kept have it: the highest is among them."""
    found: tuple[int, ...] = ()
    top, deepest = there[0], ZERO
    for number, at in there:
        fall = EXACT.subtract(_exact(top[0]), _exact(number))
        if fall > deepest:
            deepest, found = fall, (top[1], at)
        if number > top[0]:
            top = (number, at)
    return found


def _place(kept: _Kept) -> int:
    return kept.place


def _series(event: Event) -> Hashable | None:
    """What an event may be merged with; None: with nothing."""
    match event:
        case Reading(value=value):
            # NaN is neither lowest nor highest; it is for the rules to say that it is no value.
            return ("reading", event.feed, event.name, event.labels) if _is_finite(value) else None
        case BadReading():
            return ("bad", event.feed, event.name, event.labels, event.reason)
        case Beat():
            return ("beat", event.feed, event.retained)
        case PositionSeen():
            return ("position", event.oms, event.session, event.row.account, event.row.product)
        case PriceSeen(call=None):  # what answers a call is waited for
            return ("price", event.oms, event.session, event.instrument)
        case _:
            return None


def _numbers(event: Event) -> tuple[Number | None, ...]:
    """What of an event may be an extreme: as many for each event of a series, None where one lacks."""
    match event:
        case Reading():
            return (event.value,)
        case PositionSeen():
            return (event.row.amount, event.row.hold)
        case PriceSeen():
            return (event.bid, event.ask, event.last)
        case _:
            return ()


def _is_finite(value: Number) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def _exact(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(value))

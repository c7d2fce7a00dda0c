"""Readings that wait for the loop, bounded: what a feed's link reads faster than it is judged.

Pure, so that the links of all kinds of feeds keep one; who waits for whom is their own affair.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import BadReading, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

WAITING_MAX: Final = 10_000

Waiting: TypeAlias = Reading | BadReading


class Backlog:
    """Readings that wait for the loop, in order of arrival.

    Below its limit it drops and merges nothing. At the limit each series keeps its first, lowest, highest and
    last reading, so that a spike stays a spike, and a bad one its first and last of each reason; `conflated`
    counts what went. It then holds at most four of each series, and the limit is never below twice that, so
    merging stays cheap however many series there are.
    """

    def __init__(self, limit: int = WAITING_MAX) -> None:
        self.conflated = 0
        self._smallest, self._limit = limit, limit
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, readings: Iterable[Waiting]) -> bool:
        """Add them. True: too many waited, and some were merged."""
        self._waiting.extend(readings)
        if len(self._waiting) <= self._limit:
            return False
        self._conflate()
        return True

    def take(self, most: int) -> list[Waiting]:
        """The oldest, at most `most`."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _conflate(self) -> None:
        series: dict[object, list[tuple[int, Waiting]]] = {}
        for place in enumerate(self._waiting):
            match place[1]:
                case Reading(feed=feed, name=name, labels=labels):
                    series.setdefault((feed, name, labels), []).append(place)
                case BadReading(feed=feed, name=name, labels=labels, reason=reason):
                    series.setdefault((feed, name, labels, reason), []).append(place)
        kept = dict(itertools.chain.from_iterable(map(_extremes, series.values())))
        self.conflated += len(self._waiting) - len(kept)
        self._waiting = deque(kept[place] for place in sorted(kept))
        self._limit = max(self._smallest, 2 * len(self._waiting))


def _extremes(places: list[tuple[int, Waiting]]) -> set[tuple[int, Waiting]]:
    kept = {places[0], places[-1]}
    values = [(reading.value, place) for place, reading in places if isinstance(reading, Reading)]
    if values:
        by_place = dict(places)
        for _, place in (min(values), max(values)):
            kept.add((place, by_place[place]))
    return kept

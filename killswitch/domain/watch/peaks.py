"""The highest value of the last seconds, per rule and series, for drawdowns. Kept step by step.

A value holds from its reading until the next one replaces it, and leaves the window `window_s` after that: not
after its reading, so that an account whose value doesn't change keeps its highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.undo import Queue, Table
from killswitch.domain.watch.limit import ZERO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from killswitch.domain.messages import Slice
    from killswitch.domain.settings import DrawdownRule
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.readings import SeriesKey

PARTS_MAX: Final = 65_536
"""Beyond so many peaks a value that is replaced joins the newest peak when that is younger than this fraction of the
window, which then stays as long as that value would have: never too short."""

At: TypeAlias = "tuple[str, SeriesKey]"


@dataclass(frozen=True, slots=True)
class Peak:
    """A value, and when a lower one replaced it. `began`: when the first of those did that share it."""

    value: Decimal
    began: float
    until: float


class Peaks:
    """The highest values of all drawdown rules.

    Of the values that were replaced only those are held which nothing higher followed: each is below the one
    before it and above the value that holds now, so that the first is the highest.
    """

    def __init__(self, undo: Undo) -> None:
        self._undo: Final = undo
        # A queue a window. An empty one left behind by a rollback says nothing.
        self._peaks: Final[dict[At, Queue[Peak]]] = {}
        self._held: Final[Table[At, Decimal]] = Table(undo)  # the value that holds now

    def add(self, rule: DrawdownRule, key: SeriesKey, value: Decimal, now: float) -> None:
        """From now on it is this value."""
        at = (rule.name, key)
        self.expire(rule, key, now)
        peaks = self._peaks.setdefault(at, Queue(self._undo))
        before = self._held.get(at)
        self._held[at] = value
        if before is not None and value < before:
            last, peak = peaks.last(), Peak(before, now, now)
            if last is not None and len(peaks) >= PARTS_MAX and now - last.began < rule.window_s / PARTS_MAX:
                peaks.pop()
                peak = Peak(last.value, last.began, now)
            peaks.append(peak)
            return
        while (last := peaks.last()) is not None and last.value <= value:
            peaks.pop()

    def value(self, rule: DrawdownRule, key: SeriesKey) -> Decimal | None:
        """The value that holds now."""
        return self._held.get((rule.name, key))

    def put_back(self, rule: DrawdownRule, key: SeriesKey, slices: Sequence[Slice]) -> None:
        """What a window held before a restart, into one that holds nothing yet: last the value that held then."""
        at = (rule.name, key)
        peaks = self._peaks.setdefault(at, Queue(self._undo))
        *gone, held = slices
        for peak in gone:
            if peak.total > held.total:
                peaks.append(Peak(peak.total, peak.began, peak.at))
        self._held[at] = held.total

    def measure(self, rule: DrawdownRule, key: SeriesKey, now: float) -> tuple[Decimal, Decimal]:
        """The value and its highest, at any `now` that isn't before the last reading. Changes nothing."""
        at = (rule.name, key)
        value, peaks = self._held.get(at), self._peaks.get(at)
        if value is None or peaks is None:
            return ZERO, ZERO
        return value, next((peak.value for peak in peaks if peak.until + rule.window_s > now), value)

    def expire(self, rule: DrawdownRule, key: SeriesKey, now: float) -> None:
        """Let go of what has left the window."""
        peaks = self._peaks.get((rule.name, key))
        if peaks is None:
            return
        while (first := peaks.first()) is not None and first.until + rule.window_s <= now:
            peaks.popleft()

    def forget(self, gone: Gone) -> None:
        """Rules and feeds went; the heirs take over."""
        left = [
            (heir, queue.copy(), self._held.get(at)) for at, queue in self._peaks.items() for heir in gone.left_to(at)
        ]
        for at in [at for at in self._peaks if gone.at(at)]:
            self._undo.note(partial(self._peaks.__setitem__, at, self._peaks.pop(at)))
        self._held.drop(gone.at)
        for at, queue, held in left:
            self._peaks[at] = queue
            self._undo.note(partial(self._peaks.pop, at))
            if held is not None:
                self._held[at] = held

    def held(self) -> tuple[At, ...]:
        """Under what there is a window."""
        return tuple(self._peaks)

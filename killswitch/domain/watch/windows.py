"""What came within the last seconds, per rule and series: how many readings, and their sum. Kept step by step.

A reading that arrived at `at` is in the window until `at + per_s`, and not at that instant any more. A rule of the
kind ratio has two windows a series, of which it takes the counts: one for each of its readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.settings import RateRule, RatioRule
from killswitch.domain.undo import Queue, Table
from killswitch.domain.watch.limit import EXACT, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Slice
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.readings import SeriesKey

PARTS_MAX: Final = 65_536
"""Readings of one instant share a part. Beyond so many parts a reading also joins the newest part when that is
younger than this fraction of the window, and stays as long as the part's newest reading: never too short."""

At: TypeAlias = "tuple[str, SeriesKey]"

Counting: TypeAlias = RateRule | RatioRule
"""Rules that count readings."""


@dataclass(frozen=True, slots=True)
class Part:
    """Readings that leave together. `began`, `at`: the first and the last arrival."""

    began: float
    at: float
    count: int
    total: Decimal


@dataclass(frozen=True, slots=True)
class Sums:
    """Of all parts of a window; exact, so that what leaves it takes its own share with it.

    `minus`: parts whose total is below 0, so that the sum grows when they leave.
    """

    count: int = 0
    total: Decimal = ZERO
    minus: int = 0

    def plus(self, part: Part) -> Sums:
        total = EXACT.add(self.total, part.total)
        return Sums(self.count + part.count, total, self.minus + (part.total < 0))

    def less(self, part: Part) -> Sums:
        total = EXACT.subtract(self.total, part.total)
        return Sums(self.count - part.count, total, self.minus - (part.total < 0))


_EMPTY: Final = Sums()


def length_s(rule: Counting) -> float:
    return rule.per_s if isinstance(rule, RateRule) else rule.window_s


def over(rule: RatioRule, key: SeriesKey) -> SeriesKey:
    """Beside the window of a ratio's `reading` that of its `over`."""
    return (key[0], rule.over, key[2])


class Windows:
    """The windows of all rules that count."""

    def __init__(self, undo: Undo) -> None:
        self._undo: Final = undo
        # A queue a window. An empty one left behind by a rollback says nothing.
        self._parts: Final[dict[At, Queue[Part]]] = {}
        self._sums: Final[Table[At, Sums]] = Table(undo)

    def add(self, rule: Counting, key: SeriesKey, value: Decimal, now: float, *, count: int = 1) -> None:
        """A reading arrived, or `count` of them whose sum is the value."""
        at = (rule.name, key)
        self._expire(at, length_s(rule), now)
        parts = self._parts.setdefault(at, Queue(self._undo))
        sums = self._sums.get(at) or _EMPTY
        part = Part(now, now, count, value)
        last = parts.last()
        if last is not None and (
            last.at == now or (len(parts) >= PARTS_MAX and now - last.began < length_s(rule) / PARTS_MAX)
        ):
            parts.pop()
            sums = sums.less(last)
            part = Part(last.began, now, last.count + count, EXACT.add(last.total, value))
        parts.append(part)
        self._sums[at] = sums.plus(part)

    def put_back(self, rule: Counting, key: SeriesKey, slices: Iterable[Slice]) -> None:
        """What a window held before a restart, into one that holds nothing yet."""
        at = (rule.name, key)
        parts = self._parts.setdefault(at, Queue(self._undo))
        sums = _EMPTY
        for held in sorted(slices, key=lambda s: s.at):
            part = Part(held.began, held.at, held.count, held.total)
            parts.append(part)
            sums = sums.plus(part)
        self._sums[at] = sums

    def measure(self, rule: Counting, key: SeriesKey, now: float) -> Decimal:
        """What the rule compares, at any `now` that isn't before the last reading. Changes nothing."""
        at = (rule.name, key)
        sums, parts = self._sums.get(at), self._parts.get(at)
        if sums is None or parts is None:
            return ZERO
        last, per_s = parts.last(), length_s(rule)
        if last is None or last.at + per_s <= now:
            return ZERO
        for part in parts:
            if part.at + per_s > now:
                break
            sums = sums.less(part)
        return sums.total if isinstance(rule, RateRule) and rule.sum else Decimal(sums.count)

    def grows_at(self, rule: Counting, key: SeriesKey) -> float | None:
        """When to look again though nothing came: a sum grows when what is below 0 leaves it, a share when what it
        is a share of does.
        """
        at = (rule.name, key)
        sums, firsts = self._sums.get(at), [self._first(at)]
        if sums is None:
            return None
        if isinstance(rule, RateRule):
            grows = rule.sum and sums.minus > 0
        else:  # nothing of nothing stays nothing
            grows = sums.count > 0
            firsts.append(self._first((rule.name, over(rule, key))))
        # Not only by what makes it grow: what makes it less in between ends a breach, and the next is a new one.
        return min((f.at + length_s(rule) for f in firsts if f is not None), default=None) if grows else None

    def expire(self, rule: Counting, key: SeriesKey, now: float) -> None:
        """Let go of what has left the window."""
        self._expire((rule.name, key), length_s(rule), now)
        if isinstance(rule, RatioRule):
            self._expire((rule.name, over(rule, key)), length_s(rule), now)

    def _first(self, at: At) -> Part | None:
        parts = self._parts.get(at)
        return parts.first() if parts is not None else None

    def forget(self, gone: Gone) -> None:
        """Rules and feeds went; the heirs take over."""
        left = [
            (heir, queue.copy(), self._sums.get(at)) for at, queue in self._parts.items() for heir in gone.left_to(at)
        ]
        for at in [at for at in self._parts if gone.at(at)]:
            self._undo.note(partial(self._parts.__setitem__, at, self._parts.pop(at)))
        self._sums.drop(gone.at)
        for at, queue, held in left:
            self._parts[at] = queue
            self._undo.note(partial(self._parts.pop, at))
            if held is not None:
                self._sums[at] = held

    def held(self) -> tuple[At, ...]:
        """Under what there is a window."""
        return tuple(self._parts)

    def _expire(self, at: At, per_s: float, now: float) -> None:
        parts = self._parts.get(at)
        if parts is None:
            return
        sums = before = self._sums.get(at) or _EMPTY
        while (first := parts.first()) is not None and first.at + per_s <= now:
            parts.popleft()
            sums = sums.less(first)
        if sums is not before:
            self._sums[at] = sums if len(parts) else _EMPTY

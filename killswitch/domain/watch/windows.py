"""What came within the last seconds, per rule and series: how many readings, and their sum. Kept step by step.

A reading that arrived at `at` is in the window until `at + per_s`, and not at that instant any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.undo import Queue, Table
from killswitch.domain.watch.limit import EXACT, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Slice
    from killswitch.domain.settings import RateRule
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.readings import SeriesKey

PARTS_MAX: Final = 65_536
"""Readings of one instant share a part. Beyond so many parts a reading also joins the newest part when that is
younger than this fraction of the window, and stays as long as the part's newest reading: never too short."""

At: TypeAlias = "tuple[str, SeriesKey]"


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


class Windows:
    """The windows of all rate rules."""

    def __init__(self, undo: Undo) -> None:
        self._undo: Final = undo
        # A queue a window. An empty one left behind by a rollback says nothing.
        self._parts: Final[dict[At, Queue[Part]]] = {}
        self._sums: Final[Table[At, Sums]] = Table(undo)

    def add(self, rule: RateRule, key: SeriesKey, value: Decimal, now: float, *, count: int = 1) -> None:
        """A reading arrived, or `count` of them whose sum is the value."""
        at = (rule.name, key)
        self._expire(at, rule.per_s, now)
        parts = self._parts.setdefault(at, Queue(self._undo))
        sums = self._sums.get(at) or _EMPTY
        part = Part(now, now, count, value)
        last = parts.last()
        if last is not None and (
            last.at == now or (len(parts) >= PARTS_MAX and now - last.began < rule.per_s / PARTS_MAX)
        ):
            parts.pop()
            sums = sums.less(last)
            part = Part(last.began, now, last.count + count, EXACT.add(last.total, value))
        parts.append(part)
        self._sums[at] = sums.plus(part)

    def put_back(self, rule: RateRule, key: SeriesKey, slices: Iterable[Slice]) -> None:
        """What a window held before a restart, into one that holds nothing yet."""
        at = (rule.name, key)
        parts = self._parts.setdefault(at, Queue(self._undo))
        sums = _EMPTY
        for held in sorted(slices, key=lambda s: s.at):
            part = Part(held.began, held.at, held.count, held.total)
            parts.append(part)
            sums = sums.plus(part)
        self._sums[at] = sums

    def measure(self, rule: RateRule, key: SeriesKey, now: float) -> Decimal:
        """What the rule compares, at any `now` that isn't before the last reading. Changes nothing."""
        at = (rule.name, key)
        sums, parts = self._sums.get(at), self._parts.get(at)
        if sums is None or parts is None:
            return ZERO
        last = parts.last()
        if last is None or last.at + rule.per_s <= now:
            return ZERO
        for part in parts:
            if part.at + rule.per_s > now:
                break
            sums = sums.less(part)
        return sums.total if rule.sum else Decimal(sums.count)

    def grows_at(self, rule: RateRule, key: SeriesKey) -> float | None:
        """When to look again though nothing came: a sum grows when what is below 0 leaves it."""
        at = (rule.name, key)
        sums, parts = self._sums.get(at), self._parts.get(at)
        first = parts.first() if parts is not None else None
        if not rule.sum or sums is None or not sums.minus or first is None:
            return None
        return first.at + rule.per_s

    def expire(self, rule: RateRule, key: SeriesKey, now: float) -> None:
        """Let go of what has left the window."""
        self._expire((rule.name, key), rule.per_s, now)

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

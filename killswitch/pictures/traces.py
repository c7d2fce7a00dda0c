"""A trace: how a value went over time, in as many steps as a picture can show, however long it was.

Of each step the first, lowest, highest and last value are kept, so that no peak is lost by drawing it small. When
there are too many steps, two and two become one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS_MAX: Final = 1200
FIRST_WIDTH_S: Final = 0.001
LARGEST: Final = 1e300
"""What is larger is drawn as this, so that no difference of two values is infinite."""


@dataclass(slots=True)
class Step:
    """What happened within one step. Times in seconds since 1970; all values are finite."""

    at: float
    until: float
    first: float
    low: float
    high: float
    last: float

    def take(self, at: float, value: float) -> None:
        """One more value, not before the last one."""
        self.until = at
        self.low, self.high, self.last = min(self.low, value), max(self.high, value), value

    def join(self, later: Step) -> None:
        """What came right after it becomes part of it."""
        self.until, self.last = later.until, later.last
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)


class Trace:
    """One line of a picture. A value holds until the next one, or until `end`."""

    def __init__(self) -> None:
        self._width_s = FIRST_WIDTH_S
        self._steps: dict[int, Step] = {}
        self._newest = -math.inf

    def __bool__(self) -> bool:
        return bool(self._steps)

    def take(self, at: float, value: float) -> None:
        """A value at a time; a time before the newest one counts as that. NaN is passed over."""
        if math.isnan(value):
            return
        value = min(max(value, -LARGEST), LARGEST)
        at = self._newest = max(at, self._newest)
        slot = math.floor(at / self._width_s)
        step = self._steps.get(slot)
        if step is not None:
            step.take(at, value)
            return
        self._steps[slot] = Step(at, at, value, value, value, value)
        while len(self._steps) > STEPS_MAX:
            self._halve()

    def steps(self) -> Iterator[Step]:
        """In the order of time."""
        return iter(self._steps.values())

    def extremes(self) -> tuple[float, float] | None:
        """The lowest and the highest value; None where there is none."""
        if not self._steps:
            return None
        return min(s.low for s in self._steps.values()), max(s.high for s in self._steps.values())

    def _halve(self) -> None:
        self._width_s *= 2
        joined: dict[int, Step] = {}
        for slot, step in self._steps.items():
            held = joined.get(slot // 2)
            if held is None:
                joined[slot // 2] = step
            else:
                held.join(step)
        self._steps = joined

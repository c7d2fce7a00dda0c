"""Accepted cancels that wait to be carried out, one after the other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from killswitch.simulator.orders import Order


@dataclass(frozen=True, slots=True)
class Cancel:
    """One order to cancel at `at`. `why` is the call's name, `request` its number in the log."""

    at: float
    order: Order
    why: str
    request: int | None


class CancelQueue:
    """`latency_s` after a cancel was accepted it is carried out, at most `rate` of them a second.

    Both may be changed at any time and count for what is accepted afterwards; `rate` None is no limit.
    """

    def __init__(self, rate: float | None, latency_s: float) -> None:
        self.rate = rate
        self.latency_s = latency_s
        self._waiting: deque[Cancel] = deque()
        self._free_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, order: Order, now: float, why: str, request: int | None) -> None:
        """Accept a cancel; an order that already waits to be cancelled isn't queued twice."""
        if order.cancelling:
            return
        # Never before what was accepted earlier, so the queue stays in order of time.
        at = max(now + self.latency_s, self._free_at)
        self._free_at = at + (1 / self.rate if self.rate else 0.0)
        order.cancelling = True
        self._waiting.append(Cancel(at, order, why, request))

    def due(self) -> float | None:
        """When the first one is to be carried out."""
        return self._waiting[0].at if self._waiting else None

    def pop(self) -> Cancel:
        """The first one; `due()` was not None."""
        cancel = self._waiting.popleft()
        cancel.order.cancelling = False
        return cancel

"""The budget of calls: what lists, snapshots and questions may spend, so that the venue's limit is never met.

Cancels are never held back; they take their tokens even where there are none. A server that says that there were too
many calls all the same is believed: for a while lists leave more slowly, so that what it takes is there for cancels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Undo

BURST_SHARE: Final = 0.3
STEADY_SHARE: Final = 0.6
"""Of calls_per_minute: at once, and refilled per minute. Together 0.9, so that a tenth is always the cancels'."""
PAUSE_S: Final = 1.0
"""No list leaves for so long after the server said that there were too many calls."""
CANCEL_PAUSE_S: Final = 2.0
"""The same, where it was a cancel that was answered so: the lists make room for it."""
SLOW_S: Final = 10.0
"""So long without such an answer, and the pace grows again."""
GROWTH: Final = 1.25
ROOM_S: Final = 0.25
"""While the server limits us so much is saved up, in seconds of the pace: a burst is what it doesn't take."""
SLOWEST: Final = 1 / 64
"""Of the pace that calls_per_minute allows."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens of the budget of calls. Cancels take theirs even when there are none: it may be negative."""

    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Slow:
    """The server limits us: the share of our pace that is left, until when, and until when no list leaves at all."""

    share: float
    until: float
    paused_until: float


class Budget:
    """Tokens and pace of each OMS."""

    def __init__(self, standing: Standing, undo: Undo) -> None:
        self._standing = standing
        self._buckets: Table[str, Bucket] = Table(undo)
        self._slow: Table[str, Slow] = Table(undo)

    def may_call(self, oms: str, now: float, keep: float = 0.0) -> bool:
        """Whether a list may leave now. `keep`: the share of the burst that it must leave for others."""
        self._recover(oms, now)
        slow = self._slow.get(oms)
        if slow is not None and now < slow.paused_until:
            return False
        return self._bucket(oms, now).tokens >= max(1.0, keep * self._burst(oms))

    def call_again_at(self, oms: str, now: float, keep: float = 0.0) -> float:
        """When may_call will hold."""
        lacking = max(1.0, keep * self._burst(oms)) - self._bucket(oms, now).tokens
        slow = self._slow.get(oms)
        begins = now if slow is None else max(now, slow.paused_until)
        return max(begins, now + max(lacking, 0.0) / self.calls_per_s(oms)) + 0.001

    def calls_per_s(self, oms: str) -> float:
        """What is refilled each second: lists share it; cancels don't wait for it."""
        slow = self._slow.get(oms)
        return self.full_calls_per_s(oms) * (1.0 if slow is None else slow.share)

    def full_calls_per_s(self, oms: str) -> float:
        """The same, whatever the server says."""
        return max(self._per_minute(oms) * STEADY_SHARE / 60, 0.01)

    def share(self, oms: str) -> float:
        """Of our own pace, what a server that limits us leaves; 1 where none does."""
        slow = self._slow.get(oms)
        return 1.0 if slow is None else slow.share

    def limited(self, oms: str, now: float, *, cancel: bool = False) -> bool:
        """The server said that there were too many calls. True: it hadn't, for a while.

        `cancel`: it said so to a cancel.
        """
        self._recover(oms, now)
        slow, pause = self._slow.get(oms), now + (CANCEL_PAUSE_S if cancel else PAUSE_S)
        if slow is not None and now < slow.paused_until:
            # One of those that left before the first such answer came: that halves nothing a second time.
            self._slow[oms] = replace(slow, paused_until=max(slow.paused_until, pause if cancel else 0.0))
            return False
        share = 0.5 if slow is None else max(slow.share / 2, SLOWEST)
        self._slow[oms] = Slow(share, now + SLOW_S, pause)
        bucket = self._bucket(oms, now)
        self._buckets[oms] = Bucket(min(bucket.tokens, 1.0), now)
        return slow is None

    def take(self, oms: str, now: float) -> None:
        """A call leaves."""
        bucket = self._bucket(oms, now)
        floor = -self._burst(oms)  # a storm of cancels must not starve the lists for minutes
        self._buckets[oms] = Bucket(max(bucket.tokens - 1, floor), now)

    def spent(self, oms: str, calls: int, now: float) -> None:
        """So many calls left without being asked for here, at a sign-in; half of a burst is left to what comes next."""
        bucket = self._bucket(oms, now)
        self._buckets[oms] = Bucket(max(bucket.tokens - calls, min(bucket.tokens, self._burst(oms) / 2)), now)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        self._buckets.pop(oms)
        self._slow.pop(oms)

    def _recover(self, oms: str, now: float) -> None:
        slow = self._slow.get(oms)
        if slow is None or now < slow.until:
            return
        # What was saved up is counted at the pace at which it was.
        self._buckets[oms] = self._bucket(oms, now)
        if slow.share * GROWTH >= 1:
            del self._slow[oms]
        else:
            self._slow[oms] = replace(slow, share=slow.share * GROWTH, until=now + SLOW_S)

    def _per_minute(self, oms: str) -> int:
        site = self._standing.sites.get(oms)
        return site.calls_per_minute if site is not None else 1

    def _burst(self, oms: str) -> float:
        return max(self._per_minute(oms) * BURST_SHARE, 1.0)

    def _bucket(self, oms: str, now: float) -> Bucket:
        bucket, most = self._buckets.get(oms), self._burst(oms)
        if bucket is None:
            return Bucket(most, now)
        tokens = bucket.tokens + max(now - bucket.at, 0.0) * self.calls_per_s(oms)
        room = most if self._slow.get(oms) is None else max(self.calls_per_s(oms) * ROOM_S, 1.0)
        return Bucket(min(tokens, max(room, min(bucket.tokens, most))), now)

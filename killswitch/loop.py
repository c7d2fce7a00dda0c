"""The one loop: take an event, handle it, hand out the actions, let the metrics see.

The daemon, `trip --direct`, the demo and the simulation all turn this loop. Its inbox has three lanes, so that
a panic doesn't wait behind the answers to a hundred sweeps, nor these, and order events, behind a feed's backlog.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from killswitch.domain.backlog import Backlog
from killswitch.domain.messages import (
    Action,
    BadReading,
    Beat,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    ClockStepped,
    CommandRefused,
    Event,
    EverythingTripped,
    FeedDown,
    FeedUp,
    Heard,
    LoopStood,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    Tick,
    TripRequested,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from killswitch.domain.switch import KillSwitch

log = logging.getLogger(__name__)

FEED_LANE_MAX: Final = 50_000
"""Events of feeds that may wait; at the limit a series keeps what its rules need (domain/backlog.py)."""
FIRST_IN_A_ROW: Final = 16
"""Then a reading has its turn, if one waits: a flood of order events must not hide a breach."""
PRESSES_IN_A_ROW: Final = 8
OTHERS_BETWEEN: Final = 2
"""After so many presses so many others have their turn, if they wait: a flood of junk must not stop the sweeps."""
GAP_S: Final = 1.0
"""A pause of ours longer than this: what lies in the sockets is read before anything is judged late."""
BREATH: Final = 64
"""Events in a row before the adapters get their turn."""
STEP_S: Final = 1.0
"""The wall clock went on so much more, or less, than the monotonic one: it was set, and people are told."""
BEAT_EVERY_S: Final = 1.0
"""The loop turns at least so often, so that whoever watches it knows that it lives."""

PRESSES: Final = (TripRequested, ButtonPressed, EverythingTripped, CommandRefused, BrokerUp, BrokerDown)
"""What comes before everything else. A reset doesn't: what arrived before it may be what forbids it. A broker's coming
and going keep their place among what it delivers.
"""
FEED_EVENTS: Final = (Reading, BadReading, Beat, PositionSeen, PriceSeen, Positions, Heard, FeedUp, FeedDown)


class Inbox:
    """Three lanes. The first two are never dropped nor merged: their producers wait for answers or are people."""

    def __init__(self) -> None:
        self._presses: deque[Event] = deque()
        self._row = 0  # presses that were taken in a row; below 0: so many others have their turn first
        self._first: deque[Event] = deque()
        self._feeds = Backlog(FEED_LANE_MAX)
        self._arrived = asyncio.Event()
        self._ahead = 0  # events of the first lane that were taken in a row

    def put(self, event: Event) -> None:
        """Never blocks."""
        if isinstance(event, PRESSES):
            self._presses.append(event)
        elif not isinstance(event, FEED_EVENTS):
            self._first.append(event)
        elif self._feeds.put((event,)):
            log.warning("readings come faster than the rules judge them: each series keeps its extremes, count and sum")
        self._arrived.set()

    def take(self) -> Event | None:
        """The next event, or None."""
        if self._presses and (self._row >= 0 or not (self._first or self._feeds)):
            self._row = self._row + 1 if self._row + 1 < PRESSES_IN_A_ROW else -OTHERS_BETWEEN
            return self._presses.popleft()
        self._row = min(self._row + 1, 0)
        if self._first and not (self._feeds and self._ahead >= FIRST_IN_A_ROW):
            self._ahead += 1
            return self._first.popleft()
        event = self._feeds.pop()
        if event is not None:
            self._ahead = 0
            return event
        self._arrived.clear()
        return None

    def forget(self, feeds: frozenset[str]) -> None:
        """What these feeds said and nobody has taken yet."""
        self._feeds.forget(feeds)

    def __len__(self) -> int:
        return len(self._presses) + len(self._first) + len(self._feeds)

    async def wait(self, seconds: float) -> None:
        """Until something arrives, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            pass


class Loop:
    """Turns the switch. `owners`: who carries out each kind of action; `see`: the metrics, in passing.

    `beat` hears at each turn how late it began, in seconds: a wait that was meant is no lag.
    """

    def __init__(
        self,
        switch: KillSwitch,
        owners: Mapping[type[Action], Callable[[Action], None]],
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        see: Callable[[Event, Sequence[Action], float], None] | None = None,
        beat: Callable[[float], None] | None = None,
    ) -> None:
        self.switch = switch
        self.inbox = Inbox()
        self._owners = owners
        self._now, self._wall = now, wall
        self._see, self._beat = see, beat
        self.turned_at = now()
        self._clocks: tuple[float, float] | None = None  # when they were compared last, and wall less monotonic

    def turn(self, event: Event, now: float) -> tuple[Action, ...]:
        """One turn: what must be done about an event, handed to its owners. Returns it for those who look on."""
        actions = self.switch.handle(event, now)
        self.hand_out(actions)
        if self._see is not None:
            self._see(event, actions, now)
        return actions

    def hand_out(self, actions: Sequence[Action]) -> None:
        """Each action to its owner, in order; no owner waits."""
        for action in actions:
            owner = self._owners.get(type(action))
            if owner is not None:
                owner(action)

    async def run(self) -> None:
        """Turn for ever; ends by cancellation."""
        in_a_row, waited, ticked, ticked_at = 0, 0.0, False, 0.0
        while True:
            now = self._now()
            gap, self.turned_at = now - self.turned_at, now
            late_s, waited = max(gap - waited, 0.0), 0.0
            if self._beat is not None:
                self._beat(late_s)
            self._compare_clocks(now)
            if late_s > GAP_S:
                log.warning("the loop stood still for %.1f s; reading what has arrived before judging ages", late_s)
                await self._catch_up()
            now = self._now()
            due = self.switch.due()
            is_due = due is not None and due <= now
            # After a Tick one event at least has its turn: a timer that is never done must not hide a panic.
            event = None if is_due and not ticked else self.inbox.take()
            ticked = event is None and is_due
            if event is not None:
                # To the rules nothing happens after something that is due and wasn't taken yet: a replay says the same.
                actions = self.turn(event, ticked_at if is_due and isinstance(event, FEED_EVENTS) else now)
            elif ticked:
                ticked_at = now
                actions = self.turn(Tick(wall=self._wall()), now)
            else:
                in_a_row = 0
                wait = BEAT_EVERY_S if due is None else min(max(due - now, 0.0), BEAT_EVERY_S)
                began = self._now()
                await self.inbox.wait(wait)
                waited = min(self._now() - began, wait)
                continue
            in_a_row += 1
            cancels = any(isinstance(a, CancelAllOrders | CancelOrder | CancelQuote) for a in actions)
            if in_a_row >= BREATH or cancels or isinstance(event, PRESSES):
                in_a_row = 0
                await asyncio.sleep(0)  # let a cancel out to its socket, and the next press in

    def _compare_clocks(self, now: float) -> None:
        """See whether the wall clock was set. Rules run on the monotonic one; people, and signatures, don't."""
        if self._clocks is not None and now < self._clocks[0] + BEAT_EVERY_S / 2:
            return
        before, wall, after = self._now(), self._wall(), self._now()
        if after - before > STEP_S / 10:
            return  # we were stopped between the two: it says nothing
        level, held, self._clocks = wall - after, self._clocks, (now, wall - after)
        if held is not None and abs(level - held[1]) > STEP_S:
            self.inbox.put(ClockStepped(wall=wall, by_s=level - held[1]))

    async def _catch_up(self) -> None:
        """After a pause of ours: let the adapters read their sockets, and handle that first."""
        self.turn(LoopStood(wall=self._wall(), over=False), self._now())
        for _ in range(5):
            await asyncio.sleep(0.01)
            while (event := self.inbox.take()) is not None:
                self.turn(event, self._now())
        self.turn(LoopStood(wall=self._wall(), over=True), self._now())
        self.turned_at = self._now()

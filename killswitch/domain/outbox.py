"""What leaves a pass of `handle`, in the order in which it must leave, and what waits for the journal.

Cancels leave before anything else. Receipts, trip announcements and events about what was journalled wait
until the journal has it; of the announcements of one trip the first that waits keeps its place, and the newest
replaces those between. An escalation waits for a moment only: people must hear of it, on disk or not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import (
    Acknowledge,
    Action,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    CancelAllOrders,
    CancelOrder,
    ClearTrip,
    Receipt,
    Record,
    RecordBody,
)
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from killswitch.domain.undo import Undo

Waits: TypeAlias = Receipt | Acknowledge | AnnounceTrip | AnnounceState | AnnounceEvent | ClearTrip

HELD_EVENTS_MAX: Final = 10_000
"""Events that wait for a journal that is away; beyond it new ones are counted and left out. Receipts never are."""


class Outbox:
    """The actions of one pass, and the numbered records with what waits for them."""

    def __init__(self, undo: Undo, next_n: int) -> None:
        self._numbers: Table[str, int] = Table(undo)
        self._numbers["n"] = next_n
        self._numbers["journalled"] = next_n - 1
        self._numbers["held"] = 0
        self._numbers["left out"] = 0
        self._held: Table[Hashable, tuple[int, Action]] = Table(undo)
        self._cancels: list[Action] = []
        self._rest: list[Action] = []

    @property
    def last_n(self) -> int:
        return self._numbers["n"] - 1

    @property
    def journalled_n(self) -> int:
        return self._numbers["journalled"]

    def put(self, action: Action) -> None:
        """Leaves with this pass."""
        if isinstance(action, CancelAllOrders | CancelOrder):
            self._cancels.append(action)
        else:
            self._rest.append(action)

    def record(self, body: RecordBody, wall: float, *, urgent: bool = False) -> int:
        """Number a record and put it. Returns its number."""
        n = self._numbers["n"]
        self._numbers["n"] = n + 1
        self._rest.append(Record(n=n, wall=wall, body=body, urgent=urgent))
        return n

    def after(self, action: Waits, n: int, key: Hashable = None) -> None:
        """Leaves once record `n` is on disk: now, if it is. `key`: for taking it back before."""
        if n <= self.journalled_n:
            self._rest.append(action)
            return
        match action:
            case _ if key is not None:
                pass
            case AnnounceTrip():
                key = self._place(("trip", action.trip.trip))
            case AnnounceState():
                key = self._place(("state",))
            case AnnounceEvent() if len(self._held) >= HELD_EVENTS_MAX:
                self._numbers["left out"] += 1
                return
            case _:
                self._numbers["held"] += 1
                key = self._numbers["held"]
        self._held.pop(key)  # so that the successor takes its place at the end
        self._held[key] = (n, action)

    def _place(self, first: tuple[str, ...]) -> Hashable:
        """Two may wait: the first keeps its place, else changes that come faster than the disk would let none leave."""
        return (*first, "newer") if first in self._held else first

    def event(
        self,
        kind: str,
        text: str,
        wall: float,
        *,
        trip: str | None = None,
        detail: Mapping[str, object] | None = None,
        n: int | None = None,
        shadow: bool = False,
    ) -> None:
        """Announce an event once record `n` (None: the last one so far) is on disk."""
        self.after(AnnounceEvent(kind, text, wall, trip, detail, shadow), self.last_n if n is None else n)

    def escalation(self, event: AnnounceEvent, trip: str, n: int) -> None:
        """Announce that people must act: once record `n` is on disk, or when `tell_now` says that it took too long."""
        self.after(event, n, key=("escalated", trip, n))

    def tell_now(self, trip: str) -> None:
        """A trip's escalations can't wait for the disk any longer, nor can the lamp that hangs on the state."""
        told = False
        for key, (_, action) in self._held.items():
            if isinstance(key, tuple) and key[:2] == ("escalated", trip) and isinstance(action, AnnounceEvent):
                del self._held[key]
                self._rest.append(replace(action, durable=False))
                told = True
        if told:
            states = [self._held.pop(key) for key in (("state",), ("state", "newer"))]
            self._rest += [held[1] for held in states if held is not None][-1:]

    def journalled(self, n: int) -> None:
        """Let go of what waited for records up to `n`."""
        self._numbers["journalled"] = max(n, self.journalled_n)
        for key, (waits_for, action) in self._held.items():
            if waits_for <= self.journalled_n:
                del self._held[key]
                self._rest.append(action)

    def take_back(self, key: Hashable) -> None:
        """What waits under this key leaves no more."""
        self._held.pop(key)

    def receipts_held(self) -> int:
        return sum(isinstance(action, Receipt) for _, action in self._held.values())

    def held(self) -> int:
        """How many actions wait for the disk: receipts, announcements, events."""
        return len(self._held)

    def forget_trip(self, trip: str) -> None:
        """A trip that was reset is never announced again."""
        for key in (("trip", trip), ("trip", trip, "newer")):
            self._held.pop(key)

    def take(self) -> tuple[Action, ...]:
        actions = (*self._cancels, *self._rest)
        self.drop()
        return actions

    def drop(self) -> None:
        """Forget the pass: what its exception left behind must not leave."""
        self._cancels.clear()
        self._rest.clear()

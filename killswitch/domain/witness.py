"""Witness: what a sweep leaves for people and for the journal: its calls, its lists, and late arrivals by name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from killswitch.domain.messages import Arrived, Called, Looked
from killswitch.domain.trips import State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Call, Listed
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.messages import Order
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo


class Witness:
    """Writes down what a sweep did and saw; decides nothing."""

    def __init__(self, evidence: Evidence, outbox: Outbox, undo: Undo) -> None:
        self._evidence, self._outbox = evidence, outbox
        self._named: Table[tuple[str, int], bool] = Table(undo)
        self._digests: Table[tuple[str, int], str] = Table(undo)

    def called(self, call: Call, what: str, text: str = "", *, wall: float) -> None:
        """A cancel was sent, or what came of a call."""
        target = f"order {call.order_id}" if call.order_id else call.scope.in_words()
        self._outbox.record(Called(call.number, call.name, call.oms, call.session, what, target, text), wall)

    def late(self, trip: Trip, account: int, orders: tuple[Order, ...], wall: float) -> None:
        """Late arrivals, each named once."""
        if not trip.confirmed_once:
            return
        new = tuple(o.order_id for o in orders if o.order_id is not None and (trip.id, o.order_id) not in self._named)
        if not new:
            return
        for order in new:
            self._named[trip.id, order] = True
        n = self._outbox.record(Arrived(trip.id, trip.scope.oms, account, new), wall)
        shown = ", ".join(str(o) for o in new[:20]) + (" and more" if len(new) > 20 else "")
        text = f"{len(new)} late: account {account}, order {shown}"
        self._outbox.event("late_arrival", text, wall, trip=trip.id, detail={"orders": list(new[:1000])}, n=n)

    def listed(self, call: Call, account: int, listed: Listed, wall: float) -> None:
        """The first list of a sweep in full, then a count and a hash whenever it changed, the empty one in full."""
        trips = [t for t in self._evidence.latched(call.oms) if account in self._evidence.accounts(t)[0]]
        if not trips:
            return
        first = any(t.sweep.rounds == 0 and t.state is not State.CONFIRMED for t in trips)
        digest = hashlib.sha256(",".join(map(str, sorted(listed.ids))).encode()).hexdigest()[:16]
        before = self._digests.get((call.oms, account))
        if digest == before and not (first and listed.call <= trips[0].sweep.mark):
            return
        self._digests[call.oms, account] = digest
        full = first or not listed.ids
        orders = tuple(sorted(listed.ids)) if full else None
        count = len(listed.orders) + listed.unreadable
        self._outbox.record(
            Looked(call.number, call.oms, call.session, account, count, digest, orders, listed.unreadable),
            wall,
        )

    def forget(self, trip: str) -> None:
        for key in self._named:
            if key[0] == trip:
                del self._named[key]

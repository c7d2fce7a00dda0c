"""Witness: what a sweep leaves for people and for the journal: its calls, its lists, and late arrivals by name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import Arrived, Called, Looked
from killswitch.domain.trips import State
from killswitch.domain.undo import Recent, Table

if TYPE_CHECKING:
    from killswitch.domain.book import Call, Listed
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.messages import Order
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo


NAMED_MAX: Final = 50_000
"""Late arrivals that are remembered as named. Beyond it the oldest is forgotten: seen again, it is named again."""
LATE_SHOWN: Final = 20
LATE_DETAILED_MAX: Final = 1000
"""Late arrivals of one look that an event names, in its sentence and in its detail. The journal names all."""


def named(order: Order) -> str:
    """An order and who entered it, for people."""
    by = "an unknown user" if order.entered_by is None else f"user {order.entered_by}"
    return f"{'an order without an id' if order.order_id is None else f'order {order.order_id}'} by {by}"


class Witness:
    """Writes down what a sweep did and saw; decides nothing."""

    def __init__(self, evidence: Evidence, outbox: Outbox, undo: Undo) -> None:
        self._evidence, self._outbox = evidence, outbox
        self._named: Recent[tuple[str, int], bool] = Recent(undo, NAMED_MAX)
        self._digests: Table[tuple[str, int], str] = Table(undo)

    def called(self, call: Call, what: str, text: str = "", *, wall: float) -> None:
        """A cancel was sent, or what came of a call."""
        text = f"over HTTP {text}".rstrip() if call.over_http else text
        target = f"order {call.order_id}" if call.order_id else call.scope.in_words()
        self._outbox.record(Called(call.number, call.name, call.oms, call.session, what, target, text), wall)

    def late(self, trip: Trip, account: int, orders: tuple[Order, ...], wall: float) -> None:
        """Late arrivals, each named once."""
        if not trip.confirmed_once:
            return
        ids: list[int] = []
        new: list[Order] = []
        for order in orders:
            if order.order_id is not None and (trip.id, order.order_id) not in self._named:
                self._named[trip.id, order.order_id] = True
                ids.append(order.order_id)
                new.append(order)
        if not new:
            return
        users = tuple(order.entered_by for order in new)
        n = self._outbox.record(Arrived(trip.id, trip.scope.oms, account, tuple(ids), users), wall)
        more = f" and {len(new) - LATE_SHOWN} more" if len(new) > LATE_SHOWN else ""
        text = f"{len(new)} late: account {account}, {', '.join(map(named, new[:LATE_SHOWN]))}{more}"
        detail = {"account": account, "orders": ids[:LATE_DETAILED_MAX], "users": users[:LATE_DETAILED_MAX]}
        self._outbox.event("late_arrival", text, wall, trip=trip.id, detail=detail, n=n)

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

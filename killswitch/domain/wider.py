"""Wider than asked: what shows that a server ignores an id of our cancels, and what follows from it.

A server may tell a version that heeds an id, and ignore it. Then an order that no cancel of ours holds ends right
after a cancel that names a user or an instrument, where the same call without that id would have taken it. Whoever
entered it may have cancelled it himself in that moment: nobody can tell the two apart, and the safe one is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.dialects import POOREST, in_words
from killswitch.domain.messages import Narrowed
from killswitch.domain.scope import EVERY, Holds
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call
    from killswitch.domain.messages import Order, OrderEnded
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.scope import Scope
    from killswitch.domain.undo import Undo

WITHIN_S: Final = 1.0
"""An order that ends later than this after a cancel was written isn't held against it."""


@dataclass(frozen=True, slots=True)
class Written:
    """A cancel that was written. `order_id`: the one order it names by that id; None: any of its scope.

    `many`: it takes all of its scope; else one order that is told apart by another id, or both sides of a quote.
    """

    scope: Scope
    order_id: int | None
    many: bool
    at: float

    def explains(self, order: Order) -> bool:
        """The order ended because of this, or may have."""
        if self.order_id is not None:
            return self.order_id == order.order_id
        return self.scope.holds(order) is not Holds.NO

    def would_take(self, order: Order) -> bool:
        """The order would be taken by this call if only its account were heeded."""
        return self.many and replace(self.scope, user=EVERY, instrument=EVERY).holds(order) is Holds.YES


class Wider:
    """Watches what ends after our cancels. What it finds narrows the OMS for good: `Book.narrowed`."""

    def __init__(self, book: Book, outbox: Outbox, undo: Undo) -> None:
        self._book, self._outbox = book, outbox
        self._written: Table[str, tuple[Written, ...]] = Table(undo)

    def sent(self, call: Call, now: float) -> None:
        """A cancel was written."""
        if self._book.dialect(call.oms) is POOREST:
            return  # no id leaves that could be ignored
        lately = [one for one in self._written.get(call.oms) or () if now - one.at <= WITHIN_S]
        order_id = call.order_id if call.name == "CancelOrder" and call.order_id else None
        self._written[call.oms] = (*lately, Written(call.scope, order_id, call.order_id is None, now))

    def ended(self, event: OrderEnded, now: float) -> bool:
        """An order ended. True: it shows that the server took more than it was asked to."""
        oms = event.oms
        lately = [one for one in self._written.get(oms) or () if now - one.at <= WITHIN_S]
        if not lately or event.state != "Canceled" or oms in self._book.narrowed:
            return False
        order = self._book.as_listed(oms, event.order)
        if any(one.explains(order) for one in lately):
            return False
        ignored = next((one for one in lately if one.would_take(order)), None)
        if ignored is None:
            return False
        why = (
            f"OMS {oms}: wider than asked: order {order.order_id} of account {order.account} ended right after a "
            f"cancel for {ignored.scope.in_words()}, which doesn't hold it. From now on the OMS is told what a server "
            f"of unknown age is told: {in_words(POOREST)}"
        )
        self._book.narrow(oms, why)
        n = self._outbox.record(Narrowed(oms, why), event.wall)
        self._outbox.event("wider_than_asked", why, event.wall, n=n)
        return True

"""Sightings: what events and lists said of single orders, so that an old word on one isn't taken for news.

Events come late, twice and out of order, the more so where several sessions tell of the same orders. A terminal
state is the end of an order: no event makes it work again. A list does: an order that one shows works, whatever
events said before it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Recent

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.book import Listed
    from killswitch.domain.messages import Order
    from killswitch.domain.undo import Undo

WORKING_MAX: Final = 10_000
"""Orders that events showed and no list has settled. Beyond it the oldest is forgotten: an event that shows it once
more is answered by a cancel more than it needs.
"""
OVER_MAX: Final = 50_000
"""Orders that are over. Beyond it the oldest is forgotten: an old event about it counts as a sight, and its scope is
swept and proven once more.
"""

Key = tuple[str, int, int]
"""OMS, account, order."""


@dataclass(frozen=True, slots=True)
class Working:
    """An order that an event showed. `call`: the next call's number then. `left`: its quantity, None: not told."""

    call: int
    left: Decimal | None


@dataclass(frozen=True, slots=True)
class Over:
    """An order that is over: lists asked from `call` on contradict that, if they show it.

    `told`: by its terminal event. Else a list asked after it was seen lacked it, and `left` is its quantity when it
    was seen last.
    """

    call: int
    told: bool
    left: Decimal | None = None


class Sightings:
    """What was last heard of single orders."""

    def __init__(self, undo: Undo) -> None:
        self.working: Recent[Key, Working] = Recent(undo, WORKING_MAX)
        self.over: Recent[Key, Over] = Recent(undo, OVER_MAX)

    def is_news(self, oms: str, order: Order) -> bool:
        """Whether an event that shows this order at work can be true by now.

        Of an order that lists only lack, one that shows less of it than was there is new: it was filled since. What
        is left of an order never grows (ModifyOrder can only reduce it, and a replaced order has another id), so
        one that shows as much or more was on its way for long, or is a repeat.
        """
        over = None if order.order_id is None else self.over.get((oms, order.account, order.order_id))
        if over is None:
            return True
        return not over.told and (over.left is None or order.quantity is None or order.quantity < over.left)

    def worked(self, oms: str, order: Order, next_call: int) -> None:
        """An event shows it at work, and that is news."""
        if order.order_id is not None:
            self.working[oms, order.account, order.order_id] = Working(next_call, order.quantity)

    def ended(self, oms: str, order: Order, next_call: int) -> None:
        """Its terminal event, of an order that was seen or not."""
        if order.order_id is not None:
            key = (oms, order.account, order.order_id)
            self.working.pop(key)
            self.over[key] = Over(next_call, told=True)

    def listed(self, oms: str, account: int, before: Listed | None, listed: Listed) -> None:
        """The account's newest list, and the one before it: what it shows works, what it lacks is over."""
        if len(self.over):
            for shown in listed.ids:
                held = self.over.get((oms, account, shown))
                if held is not None and listed.call >= held.call:
                    del self.over[oms, account, shown]
        # An order may hide in a row that can't be read, or has no id.
        whole = not listed.unreadable and len(listed.ids) == len(listed.orders)
        for key, seen in self.working.items():
            if key[0] == oms and key[1] == account and seen.call <= listed.call:
                del self.working[key]
                if whole and key[2] not in listed.ids:
                    self.over[key] = Over(listed.call + 1, told=False, left=seen.left)
        if before is None or not whole or listed.asked_at < before.ended_at:
            return  # of two lists that were under way together, neither is the younger one for sure
        gone = before.ids - listed.ids
        for order in before.orders if gone else ():
            if order.order_id in gone and (oms, account, order.order_id) not in self.over:
                self.over[oms, account, order.order_id] = Over(listed.call + 1, told=False, left=order.quantity)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        for held in (self.working, self.over):
            held.drop(lambda key: key[0] == oms)

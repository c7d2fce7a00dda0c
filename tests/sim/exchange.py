"""The simulated OMS's own truth: orders, who may see what, and its own eight rows. Nothing of ours is used.

A part of a cancel is an id or None for all; the table of eight is one comparison a part, as the vendor's
CancelAllOrders page has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True, eq=False)
class Resting:
    """One order. `named`: its rows say who entered it. `tough`: CancelAllOrders overlooks it, always.

    `numbered`: its rows have an order id; else only the client order id, which is unique on its account.
    """

    oms: str
    order_id: int
    account: int
    user: int
    instrument: int
    named: bool = True
    tough: bool = False
    numbered: bool = True
    open: bool = True

    @property
    def client_order_id(self) -> int:
        return 1000 + self.order_id


def hits(order: Resting, account: int | None, user: int | None, instrument: int | None) -> bool:
    """The eight rows: a part that isn't given is all of them."""
    return (
        (account is None or order.account == account)
        and (user is None or order.user == user)
        and (instrument is None or order.instrument == instrument)
    )


@dataclass(slots=True)
class Exchange:
    """One OMS. `access`: the accounts of each user; several users may share one."""

    oms: str
    access: dict[int, tuple[int, ...]]
    instruments: tuple[int, ...]
    on_working: Callable[[Resting], None]
    on_ended: Callable[[Resting, str], None]
    orders: dict[int, Resting] = field(default_factory=dict)
    last_id: int = 0

    @property
    def accounts(self) -> tuple[int, ...]:
        return tuple(sorted({a for accounts in self.access.values() for a in accounts}))

    def enter(self, account: int, user: int, instrument: int, *, named: bool, tough: bool, numbered: bool) -> Resting:
        self.last_id += 1
        order = Resting(self.oms, self.last_id, account, user, instrument, named=named, tough=tough, numbered=numbered)
        self.orders[order.order_id] = order
        self.on_working(order)
        return order

    def working(self) -> list[Resting]:
        return [order for order in self.orders.values() if order.open]

    def listed(self, account: int) -> tuple[Resting, ...]:
        """The truth about one account at this instant."""
        return tuple(o for o in self.orders.values() if o.open and o.account == account)

    def find(self, account: int, order_id: int | None, client_order_id: int | None) -> Resting | None:
        """An order by its id, or by account and client order id: the two forms of CancelOrder."""
        if order_id is not None:
            return self.orders.get(order_id)
        order = self.orders.get((client_order_id or 0) - 1000)
        return order if order is not None and order.account == account else None

    def end(self, order: Resting, state: str) -> None:
        if order.open:
            order.open = False
            self.on_ended(order, state)

    def cancel_all(self, account: int | None, user: int | None, instrument: int | None) -> None:
        for order in self.working():
            if not order.tough and hits(order, account, user, instrument):
                self.end(order, "Canceled")

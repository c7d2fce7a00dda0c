"""The simulated OMS's own truth: orders, who may see what, and its own eight rows. Nothing of ours is used.

A part of a cancel is an id or None for all; the table of eight is one comparison a part, as the vendor's
CancelAllOrders page has it. Servers of each age read some keys of a call and ignore the others, so that a call is
wider than its sender meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Parts = tuple[int | None, int | None, int | None]
KEYS = ("AccountId", "UserId", "InstrumentId")
READ = {"v2": KEYS, "v3": KEYS[:1], "v4": (KEYS[0], KEYS[2])}
"""What servers of each age read of a CancelAllOrders. An account of 0, or none, is everybody's."""


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
    entered_at: float = 0.0
    ended_at: float = float("inf")

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
    clock: Callable[[], float]
    orders: dict[int, Resting] = field(default_factory=dict)
    last_id: int = 0

    @property
    def accounts(self) -> tuple[int, ...]:
        return tuple(sorted({a for accounts in self.access.values() for a in accounts}))

    def enter(self, account: int, user: int, instrument: int, *, named: bool, tough: bool, numbered: bool) -> Resting:
        self.last_id += 1
        order = Resting(self.oms, self.last_id, account, user, instrument, named=named, tough=tough, numbered=numbered)
        order.entered_at = self.clock()
        self.orders[order.order_id] = order
        self.on_working(order)
        return order

    def working(self) -> list[Resting]:
        return [order for order in self.orders.values() if order.open]

    def listed(self, account: int, at: float) -> tuple[Resting, ...]:
        """The truth about one account at an instant: now, or one that is past."""
        now = self.clock()
        return tuple(
            order
            for order in self.orders.values()
            if order.account == account and (order.open if at >= now else order.entered_at <= at < order.ended_at)
        )

    def find(self, account: int, order_id: int | None, client_order_id: int | None) -> Resting | None:
        """An order by its id, or by account and client order id: the two forms of CancelOrder."""
        if order_id is not None:
            return self.orders.get(order_id)
        order = self.orders.get((client_order_id or 0) - 1000)
        return order if order is not None and order.account == account else None

    def end(self, order: Resting, state: str) -> None:
        if order.open:
            order.open, order.ended_at = False, self.clock()
            self.on_ended(order, state)

    def named(self, age: str, body: Mapping[str, object]) -> Resting | None:
        """The order of a CancelOrder: by its id, on newer servers with its account; on v2 else by the owner's id."""
        number, account = body.get("OrderId"), body.get("AccountId")
        if age == "v2":
            return self.find(_id(account) or 0, _id(number), _id(body.get("ClientOrderId")))
        order = self.orders.get(_id(number) or 0)
        return order if order is not None and order.account == account else None

    def hit(self, what: Parts) -> list[Resting]:
        """The orders that a CancelAllOrders takes."""
        return [order for order in self.working() if not order.tough and hits(order, *what)]


def reads(age: str, body: Mapping[str, object]) -> Parts:
    """What a CancelAllOrders touches on a server of that age, whatever its sender meant."""
    account, user, instrument = (int(str(body.get(key) or 0)) or None if key in READ[age] else None for key in KEYS)
    return account, user, instrument


def heeds(age: str, what: Parts) -> bool:
    """Whether one call can say this to such a server, and nothing wider."""
    return all(part is None or key in READ[age] for key, part in zip(KEYS, what, strict=True))


def _id(value: object) -> int | None:
    return value if isinstance(value, int) else None

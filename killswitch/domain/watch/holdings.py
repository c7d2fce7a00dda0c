"""Positions and open orders of an OMS: snapshots and events become position, hold and open_orders."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import Event, OpenOrders, Order, OrderEnded, OrderWorking, Positions, PositionSeen
from killswitch.domain.undo import Table
from killswitch.domain.watch.shown import Doubt, Seen, labels_of

if TYPE_CHECKING:
    from killswitch.domain.messages import PositionRow
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.shown import Account

UNREADABLE: Final = "unreadable_row"

OrderKey: TypeAlias = tuple[str, int]
Showing: TypeAlias = tuple[tuple[Seen, ...], tuple[Doubt, ...]]


class Holdings:
    """What every OMS showed so far. Nothing in it reads a clock."""

    def __init__(self, undo: Undo) -> None:
        self._undo = undo
        self._products: Table[Account, frozenset[str]] = Table(undo)
        self._instruments: Table[Account, frozenset[str]] = Table(undo)  # known ones; also: listed once
        self._counts: Table[tuple[Account, str], int] = Table(undo)
        # A Table an account, so that one order's event costs one entry. An empty one left behind by a
        # rollback says nothing: an account counts as listed by _instruments.
        self._orders: dict[Account, Table[OrderKey, Order]] = {}
        self.changes: list[tuple[Order | None, Order | None]] = []
        """What the last event changed of the open orders: before and after. Not kept from event to event."""

    def knows(self, oms: str, order: Order) -> bool:
        """The order stands in the last list of its account, or an event has shown it since, and not its end."""
        key, account = _key(order), (oms, str(order.account))
        return key is not None and account in self._instruments and key in self._orders[account]

    def instruments(self, account: Account) -> tuple[str, ...]:
        """Those of which an account that was listed had orders, in order."""
        return tuple(sorted(self._instruments.get(account) or ()))

    def forget(self, gone: Gone) -> None:
        """OMSs went: what they showed means nothing any more."""
        for of_account in (self._products, self._instruments):
            of_account.drop(lambda account: gone.oms(account[0]))
        self._counts.drop(lambda key: gone.oms(key[0][0]))
        for account in [account for account in self._orders if gone.oms(account[0])]:
            self._undo.note(partial(self._orders.__setitem__, account, self._orders.pop(account)))

    def take(self, oms: str, event: Event) -> Showing:
        """What an event of a live session's OMS showed of positions and orders."""
        self.changes = []
        match event:
            case Positions():
                return self._positions((oms, str(event.account)), event)
            case OpenOrders():
                return self._open_orders((oms, str(event.account)), event)
            case PositionSeen():
                self._know(self._products, (oms, str(event.row.account)), event.row.product)
                return _of_row(event.row), ()
            case OrderWorking() | OrderEnded():
                return self._order_event(oms, event.order, working=isinstance(event, OrderWorking))
            case _:
                return (), ()

    def _know(self, table: Table[Account, frozenset[str]], account: Account, text: str) -> None:
        known = table.get(account)
        if known is None or text not in known:
            table[account] = (known or frozenset()) | {text}

    def _positions(self, account: Account, event: Positions) -> Showing:
        """A product that was known and isn't in the list is 0, unless a row that can't be read may be it."""
        seen = [s for row in event.rows for s in _of_row(row)]
        there = {row.product for row in event.rows}
        known = self._products.get(account) or frozenset()
        missing = [labels_of(account, product=p) for p in sorted(known - there)]
        if there - known:
            self._products[account] = known | there
        if not event.unreadable:
            seen += [Seen(n, labels, Decimal(0)) for labels in missing for n in ("position", "hold")]
            return tuple(seen), ()
        unsure = [*missing, labels_of(account)]
        return tuple(seen), tuple(Doubt(n, ls, UNREADABLE) for ls in unsure for n in ("position", "hold"))

    # --- open orders ---------------------------------------------------------------------------------------

    def _open_orders(self, account: Account, event: OpenOrders) -> Showing:
        """The list replaces what was known. With rows that can't be read a lower count is no knowledge."""
        unsure = event.unreadable > 0
        now_there: dict[OrderKey, Order] = {}
        for row, order in enumerate(event.orders):
            if order.instrument is None:
                unsure = True
            else:
                now_there[_key(order) or ("row", row)] = order
        before = {i: self._count(account, i) for i in self._instruments.get(account) or ()}
        orders = self._orders.setdefault(account, Table(self._undo))
        if account not in self._instruments:
            self._instruments[account] = frozenset()
        for key in orders:
            if key not in now_there and not unsure:
                self._put(account, key, None)
        for key, order in now_there.items():
            self._put(account, key, order)
        instruments = sorted(self._instruments[account])
        seen = tuple(self._seen(account, i) for i in instruments)
        if not unsure:
            return seen, ()
        listed = Counter(str(order.instrument) for order in now_there.values())
        lower = [labels_of(account, instrument=i) for i in sorted(before) if listed[i] < before[i]]
        return seen, tuple(Doubt("open_orders", ls, UNREADABLE) for ls in [*lower, labels_of(account)])

    def _order_event(self, oms: str, order: Order, *, working: bool) -> Showing:
        account = (oms, str(order.account))
        if account not in self._instruments:  # events alone are no count
            return (), ()
        key = _key(order)
        if key is None or (working and order.instrument is None):
            return (), (Doubt("open_orders", labels_of(account), UNREADABLE),)
        before = self._orders[account].get(key)
        self._put(account, key, order if working else None)
        touched = {str(held.instrument) for held in (before, order if working else None) if held is not None}
        return tuple(self._seen(account, i) for i in sorted(touched)), ()

    def _put(self, account: Account, key: OrderKey, order: Order | None) -> None:
        orders = self._orders[account]
        before = orders.get(key)
        if before == order:
            return
        self.changes.append((before, order))
        if before is not None:
            instrument = str(before.instrument)
            self._counts[account, instrument] = self._count(account, instrument) - 1
            del orders[key]
        if order is not None:
            instrument = str(order.instrument)
            self._know(self._instruments, account, instrument)
            self._counts[account, instrument] = self._count(account, instrument) + 1
            orders[key] = order

    def _count(self, account: Account, instrument: str) -> int:
        return self._counts.get((account, instrument)) or 0

    def _seen(self, account: Account, instrument: str) -> Seen:
        labels = labels_of(account, instrument=instrument)
        return Seen("open_orders", labels, Decimal(self._count(account, instrument)))


def _of_row(row: PositionRow) -> tuple[Seen, ...]:
    labels = (("account", str(row.account)), ("product", row.product))
    return Seen("position", labels, row.amount), Seen("hold", labels, row.hold)


def _key(order: Order) -> OrderKey | None:
    if order.order_id is not None:
        return ("order", order.order_id)
    if order.client_order_id is not None:
        return ("client", order.client_order_id)
    return None

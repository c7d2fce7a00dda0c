"""An OMS as a source of readings: snapshots and events become position, hold and open_orders.

The vendor's subscription to account events begins without a snapshot and speaks on change only, so a look is
three things: a list, an event, or a Ping answered on a session on which that account was listed. A new session
has listed nothing yet: what happened while there was none is unknown until its first lists are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import (
    Event,
    Heard,
    Labels,
    OpenOrders,
    Order,
    OrderEnded,
    OrderWorking,
    Positions,
    PositionSeen,
)
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.messages import PositionRow
    from killswitch.domain.undo import Undo

POSITIONS: Final = "positions"
ORDERS: Final = "orders"
LISTED_BY: Final = {"position": POSITIONS, "hold": POSITIONS, "open_orders": ORDERS}
"""The built-in readings, and the list that shows each of them."""

UNREADABLE: Final = "unreadable row"

Account: TypeAlias = tuple[str, str]
"""(OMS, account id as text)"""
OrderKey: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A built-in reading and its value."""

    name: str
    labels: Labels
    value: Decimal


@dataclass(frozen=True, slots=True)
class Doubt:
    """A built-in reading that can't be told. `labels` as far as they are known."""

    name: str
    labels: Labels
    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What one event of an OMS showed. `alive`: it came over a session that is up.

    `proven`: the readings of which something is proven fresh by it.
    """

    oms: str
    alive: bool
    seen: tuple[Seen, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    proven: tuple[str, ...] = ()


class Holdings:
    """What every OMS showed so far, and on which session. Nothing in it reads a clock."""

    def __init__(self, undo: Undo) -> None:
        self._undo = undo
        self._sessions: Table[int, str] = Table(undo)
        self._heard: Table[int, float] = Table(undo)
        self._listed: Table[tuple[int, str], frozenset[str]] = Table(undo)  # (session, list) -> accounts
        self._kept: Table[tuple[str, str, str], float] = Table(undo)  # from sessions that are gone
        self._products: Table[Account, frozenset[str]] = Table(undo)
        self._instruments: Table[Account, frozenset[str]] = Table(undo)  # known ones; also: listed once
        self._counts: Table[tuple[Account, str], int] = Table(undo)
        # A Table an account, so that one order's event costs one entry. An empty one left behind by a
        # rollback says nothing: an account counts as listed by _instruments.
        self._orders: dict[Account, Table[OrderKey, str]] = {}

    # --- sessions ------------------------------------------------------------------------------------------

    def session_up(self, session: int, oms: str) -> bool:
        """True when it is the only session of that OMS: its link is back."""
        first = not self.is_up(oms)
        self._sessions[session] = oms
        return first

    def session_down(self, session: int) -> str | None:
        """The OMS of it; None for a session that wasn't up. What was proven on it keeps its time."""
        oms = self._sessions.pop(session)
        if oms is None:
            return None
        heard = self._heard.pop(session)
        for what in (POSITIONS, ORDERS):
            for account in self._listed.pop((session, what)) or ():
                key = (oms, what, account)
                self._kept[key] = max(heard or 0.0, self._kept.get(key) or 0.0)
        return oms

    def is_up(self, oms: str) -> bool:
        return oms in self._sessions.values()

    def proven_at(self, oms: str, name: str, account: str) -> float | None:
        """When the last look was that proves this account's readings of that name, in `now`'s seconds."""
        what = LISTED_BY.get(name)
        if what is None:
            return None
        times = [self._kept.get((oms, what, account))]
        times += [
            self._heard.get(session)
            for session, its_oms in self._sessions.items()
            if its_oms == oms and account in (self._listed.get((session, what)) or ())
        ]
        return max((t for t in times if t is not None), default=None)

    def is_listed(self, oms: str, name: str, account: str | None) -> bool:
        """That account, or with None any account, was listed on a session that is up."""
        what = LISTED_BY.get(name)
        for session, its_oms in self._sessions.items():
            accounts = self._listed.get((session, what or "")) if its_oms == oms else None
            if accounts and (account is None or account in accounts):
                return True
        return False

    # --- events --------------------------------------------------------------------------------------------

    def take(self, event: Event, now: float) -> Shown | None:
        """What an event showed; None where it is none of an OMS, or of a session nobody knows."""
        seen: tuple[Seen, ...] = ()
        doubts: tuple[Doubt, ...] = ()
        match event:
            case Positions() | OpenOrders():
                oms = self._sessions.get(event.session)
                if oms is None:  # a list doesn't name its OMS, and a dead session's list is late
                    return None
                what = POSITIONS if isinstance(event, Positions) else ORDERS
                self._list(event.session, what, str(event.account))
                if isinstance(event, Positions):
                    seen, doubts = self._positions((oms, str(event.account)), event)
                else:
                    seen, doubts = self._open_orders((oms, str(event.account)), event)
            case PositionSeen():
                oms = event.oms
                self._know(self._products, (oms, str(event.row.account)), event.row.product)
                seen = _of_row(event.row)
            case OrderWorking() | OrderEnded():
                oms = event.oms
                seen, doubts = self._order_event(oms, event.order, working=isinstance(event, OrderWorking))
            case Heard():
                oms = event.oms
            case _:
                return None
        alive = self._sessions.get(event.session) == oms
        if alive:
            self._heard[event.session] = now
        proven = tuple(n for n, what in LISTED_BY.items() if alive and (event.session, what) in self._listed)
        return Shown(oms=oms, alive=alive, seen=seen, doubts=doubts, proven=proven)

    def _list(self, session: int, what: str, account: str) -> None:
        accounts = self._listed.get((session, what)) or frozenset()
        if account not in accounts:
            self._listed[session, what] = accounts | {account}

    def _know(self, table: Table[Account, frozenset[str]], account: Account, text: str) -> None:
        known = table.get(account)
        if known is None or text not in known:
            table[account] = (known or frozenset()) | {text}

    def _positions(self, account: Account, event: Positions) -> tuple[tuple[Seen, ...], tuple[Doubt, ...]]:
        """A product that was known and isn't in the list is 0, unless a row that can't be read may be it."""
        seen = [s for row in event.rows for s in _of_row(row)]
        there = {row.product for row in event.rows}
        known = self._products.get(account) or frozenset()
        missing = [_labels(account, product=p) for p in sorted(known - there)]
        if there - known:
            self._products[account] = known | there
        if not event.unreadable:
            seen += [Seen(n, labels, Decimal(0)) for labels in missing for n in ("position", "hold")]
            return tuple(seen), ()
        unsure = [*missing, _labels(account)]
        return tuple(seen), tuple(Doubt(n, ls, UNREADABLE) for ls in unsure for n in ("position", "hold"))

    # --- open orders ---------------------------------------------------------------------------------------

    def _open_orders(self, account: Account, event: OpenOrders) -> tuple[tuple[Seen, ...], tuple[Doubt, ...]]:
        """The list replaces what was known. With rows that can't be read a lower count is no knowledge."""
        unsure = event.unreadable > 0
        now_there: dict[OrderKey, str] = {}
        for row, order in enumerate(event.orders):
            if order.instrument is None:
                unsure = True
            else:
                now_there[_key(order) or ("row", row)] = str(order.instrument)
        before = {i: self._count(account, i) for i in self._instruments.get(account) or ()}
        orders = self._orders.setdefault(account, Table(self._undo))
        if account not in self._instruments:
            self._instruments[account] = frozenset()
        for key in orders:
            if key not in now_there and not unsure:
                self._put(account, key, None)
        for key, instrument in now_there.items():
            self._put(account, key, instrument)
        instruments = sorted(self._instruments[account])
        seen = tuple(self._seen(account, i) for i in instruments)
        if not unsure:
            return seen, ()
        listed = {i: sum(1 for v in now_there.values() if v == i) for i in before}
        lower = [_labels(account, instrument=i) for i in sorted(before) if listed[i] < before[i]]
        return seen, tuple(Doubt("open_orders", ls, UNREADABLE) for ls in [*lower, _labels(account)])

    def _order_event(self, oms: str, order: Order, *, working: bool) -> tuple[tuple[Seen, ...], tuple[Doubt, ...]]:
        account = (oms, str(order.account))
        if account not in self._instruments:  # events alone are no count
            return (), ()
        key = _key(order)
        if key is None or (working and order.instrument is None):
            return (), (Doubt("open_orders", _labels(account), UNREADABLE),)
        before = self._orders[account].get(key)
        self._put(account, key, str(order.instrument) if working else None)
        touched = {before, str(order.instrument) if working else None} - {None}
        return tuple(self._seen(account, i) for i in sorted(t for t in touched if t is not None)), ()

    def _put(self, account: Account, key: OrderKey, instrument: str | None) -> None:
        orders = self._orders[account]
        before = orders.get(key)
        if before == instrument:
            return
        if before is not None:
            self._counts[account, before] = self._count(account, before) - 1
            del orders[key]
        if instrument is not None:
            self._know(self._instruments, account, instrument)
            self._counts[account, instrument] = self._count(account, instrument) + 1
            orders[key] = instrument

    def _count(self, account: Account, instrument: str) -> int:
        return self._counts.get((account, instrument)) or 0

    def _seen(self, account: Account, instrument: str) -> Seen:
        labels = _labels(account, instrument=instrument)
        return Seen("open_orders", labels, Decimal(self._count(account, instrument)))


def _labels(account: Account, **more: str) -> Labels:
    return (("account", account[1]), *more.items())


def _of_row(row: PositionRow) -> tuple[Seen, ...]:
    labels = (("account", str(row.account)), ("product", row.product))
    return Seen("position", labels, row.amount), Seen("hold", labels, row.hold)


def _key(order: Order) -> OrderKey | None:
    if order.order_id is not None:
        return ("order", order.order_id)
    if order.client_order_id is not None:
        return ("client", order.client_order_id)
    return None

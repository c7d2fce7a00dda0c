"""Remains: what stands between a trip and VERIFIED: orders that remain, and accounts that couldn't be looked at."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import Remaining
from killswitch.domain.paths import watching
from killswitch.domain.trips import UNKNOWN
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.messages import Order
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo

SHOWN_MAX: Final = 20
"""Orders, and accounts, that are named wherever people look; the others are counted."""
KEPT_MAX: Final = 100
"""Of them in a record of the journal, which has a sweep's first and last list of each account in full."""


class Remains:
    """Knows why the newest look at an account failed, and tells what remains of a trip's scope."""

    def __init__(self, book: Book, evidence: Evidence, undo: Undo) -> None:
        self._book, self._evidence = book, evidence
        self._failed: Table[tuple[str, int], tuple[int, str]] = Table(undo)
        """(OMS, account) -> the call that failed last, and why. One for each account at most."""

    def failed(self, call: Call, why: str) -> None:
        """Nothing came of a list."""
        if isinstance(call.scope.account, int):
            before = self._failed.get((call.oms, call.scope.account))
            if before is None or before[0] <= call.number:
                self._failed[call.oms, call.scope.account] = (call.number, why)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        self._failed.drop(lambda key: key[0] == oms)

    def looked_at(self, trip: Trip) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...]]:
        """The scope's accounts that this sweep has looked at, and (account, why) of the others.

        One whose newest look failed is among the others, whatever was seen of it before; without a session all are.
        """
        oms = trip.scope.oms
        away = "no signed-in session" if watching(self._book, oms) is None else ""
        seen: list[int] = []
        unseen: list[tuple[int, str]] = []
        for account in self._evidence.accounts(trip)[0]:
            listed = self._book.listed.get((oms, account))
            number, why = self._failed.get((oms, account)) or (0, "")
            beside = self._book.extras.unseen(trip, account)
            if beside and not away:
                unseen.append((account, beside))
            elif not away and listed is not None and max(trip.sweep.began_call, number) <= listed.call:
                seen.append(account)
            else:
                # A look that failed before this sweep began is no reason any more.
                unseen.append((account, away or (why if number >= trip.sweep.began_call else "not listed yet")))
        return tuple(seen), tuple(unseen)

    def of(self, trip: Trip, at_most: int = SHOWN_MAX) -> Remaining:
        """What remains, by the newest lists of this sweep."""
        orders: list[Order] = []
        count = unreadable = 0
        accounts, complete = self._evidence.accounts(trip)
        for account in accounts:
            listed = self._book.listed.get((trip.scope.oms, account))
            if listed is None or listed.call < trip.sweep.began_call:
                continue
            found = self._evidence.find(trip, account, listed)
            count += len(found.sure) + len(found.maybe)
            unreadable += found.unreadable
            orders.extend(islice(chain(found.sure, found.maybe), at_most - len(orders)))
        for found in self._book.extras.seen(trip, accounts):
            count += len(found.sure) + len(found.maybe)
            unreadable += found.unreadable
            orders.extend(islice(chain(found.sure, found.maybe), at_most - len(orders)))
        _, unseen = self.looked_at(trip)
        return Remaining(
            orders=tuple(orders),
            more_orders=count - len(orders),
            unreadable=unreadable,
            unseen=unseen[:at_most],
            more_unseen=max(len(unseen) - at_most, 0),
            complete=complete,
        )


def orders_left(count: int | None, outcome: str | None) -> str:
    """How many orders the newest lists show, for people: no number of all where it couldn't look everywhere."""
    if count is None:
        return "orders left: not listed"
    return f"orders left{' where it could look' if outcome == UNKNOWN else ''}: {count}"


def in_words(left: Remaining) -> str:
    """One line for people; "" where nothing is known to remain."""
    said = []
    if left.orders:
        count = len(left.orders) + left.more_orders
        shown = ", ".join(_order(order) for order in left.orders) + _more(left.more_orders)
        said.append(f"1 order remains: {shown}" if count == 1 else f"{count} orders remain: {shown}")
    if left.unreadable:
        said.append("1 row can't be read" if left.unreadable == 1 else f"{left.unreadable} rows can't be read")
    if left.unseen:
        shown = ", ".join(f"{account} ({why})" for account, why in left.unseen) + _more(left.more_unseen)
        alone = len(left.unseen) + left.more_unseen == 1
        said.append(f"account{'' if alone else 's'} that could not be looked at: {shown}")
    if not left.complete:
        said.append("there may be accounts that nobody told us of")
    return "; ".join(said)


def _order(order: Order) -> str:
    """Its id, else the one that its owner gave it."""
    name = f"client id {order.client_order_id}" if order.client_order_id is not None else "without an id"
    user = "unknown" if order.entered_by is None else order.entered_by
    return f"{name if order.order_id is None else order.order_id} (account {order.account}, user {user})"


def _more(count: int) -> str:
    return f" and {count} more" if count else ""

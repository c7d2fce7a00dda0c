"""A preview: list a scope once and say what a trip of it would cancel. It never trips and never cancels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from killswitch.domain.messages import ListOpenOrders, LookRequested, OpenOrders, Order, Preview
from killswitch.domain.paths import watching
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sweep import find
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Agenda, Undo


@dataclass(frozen=True, slots=True)
class Look:
    """A preview under way. `waiting`: call -> account, as pairs."""

    scope: Scope
    token: object
    waiting: frozenset[tuple[int, int]]
    complete: bool
    orders: tuple[Order, ...] = ()
    unreadable: int = 0
    looked: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


class Looks:
    """The previews under way. Orders that may be in scope are shown too: a preview must not play down."""

    def __init__(self, book: Book, agenda: Agenda, outbox: Outbox, undo: Undo, standing: Standing) -> None:
        self._book, self._agenda, self._outbox, self._standing = book, agenda, outbox, standing
        self._looks: Table[int, Look] = Table(undo)

    def begin(self, event: LookRequested, now: float) -> None:
        """One list for each account of the scope that is known."""
        scope = event.scope
        accounts, complete = self._book.accounts_of(scope, self._book.next_call)
        session = watching(self._book, scope.oms)
        if session is None:
            self._outbox.put(Preview(event.token, (), 0, (), accounts, complete))
            return
        waiting: set[tuple[int, int]] = set()
        for account in accounts:
            look = Scope(oms=scope.oms, account=account, user=EVERY, instrument=EVERY)
            call = self._book.new_call(session, "GetOpenOrders", look, now)
            self._outbox.put(ListOpenOrders(call.number, session.number, scope.oms, account))
            self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)
            waiting.add((call.number, account))
        number = min((call for call, _ in waiting), default=0)
        self._settle(number, Look(scope, event.token, frozenset(waiting), complete))

    def listed(self, event: OpenOrders) -> None:
        for number, look in self._looks.items():
            if (event.call, event.account) in look.waiting:
                found = find(look.scope, event.orders, event.unreadable)
                self._settle(
                    number,
                    replace(
                        look,
                        waiting=look.waiting - {(event.call, event.account)},
                        orders=look.orders + found.sure + found.maybe,
                        unreadable=look.unreadable + found.unreadable,
                        looked=(*look.looked, event.account),
                    ),
                )

    def failed(self, call: int) -> None:
        """A call was lost, refused or took too long: its account could not be looked at."""
        for number, look in self._looks.items():
            for pair in look.waiting:
                if pair[0] == call:
                    self._settle(number, replace(look, waiting=look.waiting - {pair}, failed=(*look.failed, pair[1])))

    def _settle(self, number: int, look: Look) -> None:
        if look.waiting:
            self._looks[number] = look
            return
        self._looks.pop(number)
        self._outbox.put(
            Preview(
                look.token,
                look.orders,
                look.unreadable,
                tuple(sorted(look.looked)),
                tuple(sorted(look.failed)),
                look.complete,
            )
        )

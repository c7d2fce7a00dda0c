"""A preview: list a scope once and say what a trip of it would cancel. It never trips and never cancels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import ListOpenOrders, LookRequested, OpenOrders, Order, Preview
from killswitch.domain.paths import to_look
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sweep import find
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Agenda, Undo


KEEP_SHARE: Final = 0.2
"""Of the burst of calls: what a preview leaves for sweeps, guards and snapshots."""
WAIT_S: Final = 20.0
"""A preview waits so long for calls to spare: people wait for it."""


@dataclass(frozen=True, slots=True)
class Look:
    """A preview under way. `waiting`: call -> account, as pairs. `todo`: accounts still to be asked for, at most
    `until`. `why`: why some were not.
    """

    scope: Scope
    token: object
    waiting: frozenset[tuple[int, int]]
    complete: bool
    orders: tuple[Order, ...] = ()
    unreadable: int = 0
    looked: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    todo: tuple[int, ...] = ()
    until: float = 0.0
    why: str = ""


class Looks:
    """The previews under way. Orders that may be in scope are shown too: a preview must not play down."""

    def __init__(self, book: Book, agenda: Agenda, outbox: Outbox, undo: Undo, standing: Standing) -> None:
        self._book, self._agenda, self._outbox, self._standing = book, agenda, outbox, standing
        self._looks: Table[int, Look] = Table(undo)
        self._numbers: Table[str, int] = Table(undo)

    def begin(self, event: LookRequested, now: float) -> None:
        """One list for each account of the scope that is known, as far as the budget of calls bears it."""
        scope = event.scope
        accounts, complete = self._book.seen_accounts_of(scope)
        if to_look(self._book, scope.oms) is None:
            self._outbox.put(Preview(event.token, (), 0, (), accounts, complete))
            return
        number = self._numbers.get("look") or 1
        self._numbers["look"] = number + 1
        look = Look(scope, event.token, frozenset(), complete, todo=accounts, until=now + WAIT_S)
        self._looks[number] = look
        self.go_on(number, now)

    def go_on(self, number: int, now: float) -> None:
        """Ask for what is still to be asked for; what there are no calls for in time is said not to be looked at."""
        look = self._looks.get(number)
        if look is None:
            return
        oms, session = look.scope.oms, to_look(self._book, look.scope.oms)
        todo, waiting = look.todo, look.waiting
        while session is not None and todo and self._book.may_call(oms, now, KEEP_SHARE):
            place = Scope(oms=oms, account=todo[0], user=EVERY, instrument=EVERY)
            call = self._book.new_call(session, "GetOpenOrders", place, now)
            self._outbox.put(ListOpenOrders(call.number, session.number, oms, todo[0]))
            self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)
            todo, waiting = todo[1:], waiting | {(call.number, todo[0])}
        failed, why = look.failed, look.why
        if todo and (session is None or now >= look.until):
            why = "the session is gone" if session is None else "the budget of calls is spent"
            todo, failed = (), (*failed, *todo)
        elif todo:
            again_at = self._book.call_again_at(oms, now, KEEP_SHARE)
            self._agenda.set(("preview", number), min(again_at, look.until))
        self._settle(number, replace(look, todo=todo, waiting=waiting, failed=failed, why=why))

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
        if look.waiting or look.todo:
            self._looks[number] = look
            return
        self._looks.pop(number)
        self._agenda.clear(("preview", number))
        self._outbox.put(
            Preview(
                look.token,
                look.orders,
                look.unreadable,
                tuple(sorted(look.looked)),
                tuple(sorted(look.failed)),
                look.complete,
                look.why,
            )
        )

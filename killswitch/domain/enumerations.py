"""Enumerations: the accounts of a user's scope, asked for in each sweep, since a proof over some of them is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.domain import paths
from killswitch.domain.messages import ListUserAccounts

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Agenda, Table


class Enumerations:
    """Asks for a user's accounts, and writes into the trips that it was answered."""

    def __init__(
        self, book: Book, trips: Table[str, Trip], evidence: Evidence, agenda: Agenda, outbox: Outbox, *,
        standing: Standing,
    ) -> None:  # fmt: skip
        self._book, self._trips, self._evidence, self._agenda = book, trips, evidence, agenda
        self._outbox, self._standing = outbox, standing

    def ask(self, trip: Trip, now: float) -> None:
        """Ask where the trip wants it and wasn't answered yet, as soon as there are calls to spare for it.

        A session that hangs isn't waited for while another one answers.
        """
        oms, user = trip.scope.oms, trip.scope.user
        if not self._evidence.asks_for_users(trip) or not isinstance(user, int):
            return
        asked, session = self._book.calls.get(trip.sweep.users_asked), paths.to_look(self._book, oms)
        waits = trip.sweep.users_settled or (asked is not None and asked.session in paths.steady(self._book, oms))
        if waits:
            return
        if session is None:
            return
        if not self._book.may_call(oms, now):
            self._agenda.set(("look", trip.id), self._book.call_again_at(oms, now))
            return
        call = self._book.new_call(session, "GetUserAccounts", trip.scope, now)
        self._outbox.put(ListUserAccounts(call.number, session.number, oms, user))
        self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)
        self._trips[trip.id] = replace(trip, sweep=replace(trip.sweep, users_asked=call.number))

    def settled(self, call: Call) -> None:
        """It was answered, one way or the other."""
        self._mark(call, settled=True)

    def lost(self, call: Call) -> None:
        """Nothing was said to it: it is asked again."""
        self._mark(call, settled=False)

    def _mark(self, call: Call, *, settled: bool) -> None:
        for trip in self._evidence.latched(call.oms):
            if trip.sweep.users_asked == call.number:
                asked = trip.sweep.users_asked if settled else 0
                sweep = replace(trip.sweep, users_asked=asked, users_settled=settled)
                self._trips[trip.id] = replace(trip, sweep=sweep)

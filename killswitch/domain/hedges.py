"""Hedges: a cancel that hangs goes out again over another session, as a call of its own, once.

Both of the pair may execute: a second cancel does no harm, a missing one does. One that was received settles the
other, which isn't waited for any more; a session on which a cancel hangs is not the one that is asked for proof.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.domain import paths
from killswitch.domain.dialects import can_say
from killswitch.domain.messages import CancelAllOrders, CancelOrder
from killswitch.domain.trips import State

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call, Session
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Agenda


class Hedges:
    """Pairs of cancels. `twin` of a call is the number of the other one."""

    def __init__(self, book: Book, evidence: Evidence, agenda: Agenda, outbox: Outbox, *, standing: Standing) -> None:
        self._book, self._evidence, self._agenda, self._outbox = book, evidence, agenda, outbox
        self._standing = standing

    def watch(self, call: Call) -> None:
        """A cancel is about to leave: if it hangs, another session is tried, where there is one."""
        session = self._book.sessions.get(call.session)
        if session is not None and paths.beside(self._book, session) is not None:
            self._agenda.set(("hedge", call.number), call.asked_at + self._standing.retry.hedge_after_s)

    def session_up(self, session: Session, now: float) -> None:
        """What hangs on the others can go over this one as well."""
        for call in self._book.cancels_of(session.oms):
            elsewhere = call.session in self._book.sessions and call.session != session.number
            if elsewhere and not call.extra and not call.twin and not call.overdue:
                self._agenda.set(("hedge", call.number), max(call.asked_at + self._standing.retry.hedge_after_s, now))

    def due(self, number: int, now: float) -> str | None:
        """A cancel's time for an answer on its own is up. Returns the OMS to go on with."""
        call = self._book.calls.get(number)
        session = self._book.sessions.get(call.session) if call is not None else None
        if call is None or session is None or call.twin or call.overdue:
            return None
        self._book.hangs(call)
        other = paths.beside(self._book, session)
        if other is not None and self._is_wanted(call):
            self._send(call, other, now)
        return call.oms

    def _is_wanted(self, call: Call) -> bool:
        """Some sweep still asks for it, and the OMS can still be told it."""
        dialect = self._book.dialect(call.oms)
        if call.order_id is None and not can_say(dialect, call.scope, whole_oms=True):
            return False
        trips = self._evidence.latched(call.oms)
        return any(trip.state is not State.CONFIRMED and trip.scope.covers(call.scope) for trip in trips)

    def _send(self, call: Call, session: Session, now: float) -> None:
        twin = self._book.new_call(
            session,
            call.name,
            call.scope,
            now,
            cancels=True,
            order_id=call.order_id,
            client_order_id=call.client_order_id,
            fully=call.fully,
            twin=call.number,
        )
        self._book.calls[call.number] = replace(call, twin=twin.number)
        if call.order_id is None:
            self._outbox.put(CancelAllOrders(twin.number, session.number, call.scope))
        else:
            assert isinstance(call.scope.account, int)
            order, client = call.order_id or None, call.client_order_id
            account, fully = call.scope.account, call.fully
            self._outbox.put(CancelOrder(twin.number, session.number, call.oms, account, order, client, fully=fully))
        self._agenda.set(("call", twin.number), now + self._standing.retry.timeout_s)

    def over(self, call: Call, *, received: bool) -> None:
        """A cancel was answered, or nothing will be heard of it. Received: its twin isn't waited for any more."""
        self._agenda.clear(("hedge", call.number))
        twin = self._book.calls.get(call.twin)
        if received and twin is not None:
            self._book.calls[twin.number] = replace(twin, settled=True)

    def is_covered(self, call: Call) -> bool:
        """Nothing has to be done for want of an answer to it: its twin was received, or is waited for."""
        twin = self._book.calls.get(call.twin)
        return call.settled or (twin is not None and not twin.overdue and twin.session in self._book.sessions)

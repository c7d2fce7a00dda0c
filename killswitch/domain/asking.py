"""Asking: the lists that the rounds under way lack, and what it means when one doesn't come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain import paths
from killswitch.domain.messages import ListOpenOrders
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import UNKNOWN, State

if TYPE_CHECKING:
    from killswitch.domain.book import Call, Session
    from killswitch.domain.scope import Part
    from killswitch.domain.standing import Standing
    from killswitch.domain.sweeper import Sweeper
    from killswitch.domain.trips import Trip

GUARDS_KEEP: Final = 0.2
"""Of the burst of calls: what guards leave for sweeps."""


class Asking:
    """Puts the lists of all sweeps and guards."""

    def __init__(self, sweeper: Sweeper, standing: Standing) -> None:
        self._book, self._trips, self._evidence, self._lanes = (
            sweeper.book,
            sweeper.trips,
            sweeper.evidence,
            sweeper.lanes,
        )
        self._enumerations, self._extra = sweeper.enumerations, sweeper.extra
        self._agenda, self._outbox, self._standing = sweeper.agenda, sweeper.outbox, standing

    def go_on(self, oms: str, now: float) -> None:
        """Ask for the lists that the rounds under way lack; sweeps before guards."""
        awaited = self._awaited(oms)
        for trip in sorted(self._evidence.latched(oms), key=lambda t: t.state is State.CONFIRMED):
            self._enumerations.ask(trip, now)
            trip = self._trips[trip.id]  # noqa: PLW2901  # as it is now
            if (asked_at := self._evidence.ask_accounts_at(trip, now)) is not None:
                self._agenda.set(("census", oms), asked_at)
            ask_at = max(trip.sweep.not_before, trip.sweep.ask_at)
            if now < ask_at:
                self._agenda.set(("look", trip.id), ask_at)
                continue
            account = trip.scope.account
            near = awaited.values() if account is EVERY else (awaited.get(account, ()), awaited.get(EVERY, ()))
            if any(cancel.meets(trip.scope) for cancels in near for cancel in cancels):
                # The cancel first: a list asked now would be void soon. Its answer, or its time-out, brings us back.
                continue
            proving = self._evidence.proving(trip)
            session = paths.to_look(self._book, oms, proving)
            if session is None:
                continue
            self._ask(trip, session, proving, now)

    def _awaited(self, oms: str) -> dict[Part, list[Scope]]:
        """The scopes of the cancels whose answers are waited for, by their accounts: so few are held against a trip."""
        everything = Scope(oms=oms, account=EVERY, user=EVERY, instrument=EVERY)
        awaited: dict[Part, list[Scope]] = {}
        for call in self._book.cancels_under_way(everything):
            if call.is_awaited:
                awaited.setdefault(call.scope.account, []).append(call.scope)
        return awaited

    def _ask(self, trip: Trip, session: Session, proving: frozenset[int], now: float) -> None:
        keep = 0.0 if trip.state is not State.CONFIRMED else GUARDS_KEEP
        for account in self._evidence.accounts(trip)[0]:
            if self._evidence.has_list(trip, account, proving, session):
                continue
            if not self._book.may_call(session.oms, now, keep):
                self._agenda.set(("look", trip.id), self._book.call_again_at(session.oms, now, keep))
                return
            look = Scope(oms=session.oms, account=account, user=EVERY, instrument=EVERY)
            call = self._book.new_call(session, "GetOpenOrders", look, now)
            self._outbox.put(ListOpenOrders(call.number, session.number, session.oms, account))
            self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)
        self._extra.ask(trip, session, now, keep)

    def failed(self, call: Call, now: float) -> None:
        """A list of orders won't come, or says that there is none."""
        for trip in self._evidence.latched(call.oms):
            if call.scope.account in self._evidence.accounts(trip)[0] and call.number >= trip.sweep.mark:
                # The lists that did come still count: only what is missing is asked for again, a moment later.
                ask_at = max(trip.sweep.ask_at, now + self._lanes.backoff(trip.sweep.waits))
                sweep = replace(trip.sweep, waits=trip.sweep.waits + 1, ask_at=ask_at)
                outcome = trip.outcome if trip.state is State.CONFIRMED else UNKNOWN
                self._trips[trip.id] = replace(trip, sweep=sweep, outcome=outcome)

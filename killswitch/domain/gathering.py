"""Gathering: accounts that turn up join the sweeps that hold every account, and take their proof back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.domain import coverage
from killswitch.domain.scope import EVERY
from killswitch.domain.trips import Change, Input, Trip

if TYPE_CHECKING:
    from killswitch.domain.book import Book
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.undo import Agenda, Table


class Gathering:
    """Tells the sweeps of new accounts. `changes`: what the switch must put through its table."""

    def __init__(
        self, book: Book, trips: Table[str, Trip], evidence: Evidence, agenda: Agenda, changes: list[Change]
    ) -> None:
        self._book, self._trips, self._evidence = book, trips, evidence
        self._agenda, self._changes = agenda, changes

    def met(self, oms: str, accounts: tuple[int, ...], now: float) -> None:
        """Accounts were seen. Those that nobody had told us of join the scopes that hold every account."""
        new = self._book.meet_accounts(oms, accounts)
        if new:
            self._join(oms, f"{coverage.listed(new)} turned up", now)
            self._agenda.set(("hear", oms), now)

    def joined(self, oms: str, accounts: tuple[int, ...], now: float) -> None:
        """A person says that the OMS has these accounts too. Rounds that lacked one that is new prove nothing."""
        for account in self._book.tell_of(oms, accounts):
            self._join(oms, f"account {account} was added", now)

    def _join(self, oms: str, what: str, now: float) -> None:
        for trip in self._evidence.latched(oms):
            if trip.scope.account is EVERY:
                # The rounds so far lacked it: count anew.
                self._trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self._book.next_call, now))
                self._changes.append((trip.id, Input.BLIND, what))

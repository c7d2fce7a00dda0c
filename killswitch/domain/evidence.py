"""Evidence: what the lists in the book mean for each latched trip.

One list serves every trip that covers its account; each trip counts only what counts for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain import paths
from killswitch.domain.dialects import Plan, plan
from killswitch.domain.scope import EVERY
from killswitch.domain.sweep import Found, find
from killswitch.domain.trips import State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Listed, Session
    from killswitch.domain.dialects import Dialect
    from killswitch.domain.extras import Round
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo

LISTS_UNDER_WAY_MAX: Final = 2
"""Per account: one that no longer counts and one that does."""


class Evidence:
    """Looks at the book with a trip's eyes."""

    def __init__(self, book: Book, trips: Table[str, Trip], undo: Undo) -> None:
        self._book, self._trips = book, trips
        self._found: Table[tuple[str, int], tuple[int, Found]] = Table(undo)
        self._spoken: Table[str, Dialect] = Table(undo)
        """OMS -> the dialect that its plans were made for when they were looked at last."""
        # Each event asks for them of every latched trip. Not in a table: an answer is given again only where all
        # that it was made from is the same, so that nothing has to be taken back.
        self._plans: dict[str, tuple[tuple[object, ...], Plan]] = {}
        self._provings: dict[str, tuple[tuple[object, ...], frozenset[int]]] = {}

    def latched(self, oms: str) -> tuple[Trip, ...]:
        return tuple(t for t in self._trips.values() if t.scope.oms == oms)

    def accounts(self, trip: Trip) -> tuple[tuple[int, ...], bool]:
        return self._book.accounts_of(trip.scope, trip.sweep.began_call)

    def plan(self, trip: Trip, dialect: Dialect | None = None) -> Plan:
        """How the trip's scope is cancelled on this OMS, by what it understands and what it hasn't refused.

        `dialect`: what it understands, where another is asked about than the one of now.
        """
        site = self._book.sites.get(trip.scope.oms)
        whole_oms = site is None or site.whole_oms
        accounts, _ = self.accounts(trip)
        dialect = dialect or self._book.dialect(trip.scope.oms)
        refused, by_order = trip.sweep.refused, trip.sweep.by_order
        made_from = (dialect, trip.scope, accounts, whole_oms, refused, by_order)
        held = self._plans.get(trip.id)
        if held is None or held[0] != made_from:
            made = plan(dialect, trip.scope, accounts, whole_oms=whole_oms, refused=refused, by_order=by_order)
            held = self._plans[trip.id] = (made_from, made)
        return held[1]

    def replanned(self, oms: str) -> tuple[Trip, ...]:
        """The trips that another dialect than before makes another plan for: what proved the old one proves nothing."""
        dialect, before = self._book.dialect(oms), self._spoken.get(oms)
        if dialect is before:
            return ()
        self._spoken[oms] = dialect
        if before is None:
            return ()
        return tuple(trip for trip in self.latched(oms) if self.plan(trip, before) != self.plan(trip))

    def asks_for_users(self, trip: Trip) -> bool:
        return trip.scope.user is not EVERY and trip.scope.account is EVERY

    def asks_for_accounts(self, trip: Trip) -> bool:
        """Only the OMS's own list of all accounts, asked for in this sweep, can make the proof whole."""
        if trip.scope.account is not EVERY or not self._book.discovers(trip.scope.oms):
            return False
        if self.asks_for_users(trip) and not trip.sweep.users_settled:
            return False
        return not self.accounts(trip)[1]

    def ask_accounts_at(self, trip: Trip, now: float) -> float | None:
        """When the OMS is to be asked for all its accounts, for this trip; None: it needn't be."""
        if not self.asks_for_accounts(trip):
            return None
        return self._book.ask_accounts_at(trip.scope.oms, trip.sweep.began_call, now)

    def list_that_counts(self, trip: Trip) -> bool:
        steady = paths.steady(self._book, trip.scope.oms)
        return any(
            c.number >= trip.sweep.mark and c.session in steady
            for account in self.accounts(trip)[0]
            for c in self._book.lists_under_way(trip.scope.oms, account)
        )

    def proving(self, trip: Trip) -> frozenset[int]:
        """The sessions whose lists can prove something for this trip."""
        able = tuple([s.number for s in paths.live(self._book, trip.scope.oms) if s.lists])
        calls = self.plan(trip).calls
        made_from = (able, trip.sweep.carried, calls)
        held = self._provings.get(trip.id)
        if held is None or held[0] != made_from:
            held = self._provings[trip.id] = (made_from, trip.sweep.proving(able, calls))
        return held[1]

    def rests_on(self, trip: Trip, session: int) -> bool:
        """The newest list of one of the trip's accounts came over that session, be it of what is beside its orders."""
        accounts, extras = self.accounts(trip)[0], self._book.extras
        orders = (self._book.listed.get((trip.scope.oms, account)) for account in accounts)
        beside = (extras.listed.get(look) for look in extras.looks(trip, accounts))
        return any(listed is not None and listed.session == session for listed in (*orders, *beside))

    def has_list(self, trip: Trip, account: int, proving: frozenset[int], session: Session) -> bool:
        """There is a list of this account that counts, or one under way. `session`: where it would be asked for.

        One that is under way on a session that hangs isn't waited for, unless that is where we would ask.
        """
        sweep = trip.sweep
        listed = self._book.listed.get((trip.scope.oms, account))
        if listed is not None and sweep.counts(listed, proving):
            return True
        waited_for = paths.steady(self._book, trip.scope.oms) | {session.number}
        under_way = [c for c in self._book.lists_under_way(trip.scope.oms, account) if c.session in waited_for]
        return len(under_way) >= LISTS_UNDER_WAY_MAX or any(
            c.number >= sweep.mark and c.asked_at >= sweep.not_before and c.session in proving for c in under_way
        )

    def find(self, trip: Trip, account: int, listed: Listed) -> Found:
        held = self._found.get((trip.id, account))
        if held is not None and held[0] == listed.call:
            return held[1]
        found = find(trip.scope, listed.orders, listed.unreadable)
        self._found[trip.id, account] = (listed.call, found)
        return found

    def round(self, trip: Trip, accounts: tuple[int, ...], proving: frozenset[int]) -> list[tuple[int, Found]] | None:
        """The scope's orders in the lists of the round under way; None while one of them lacks."""
        founds: list[tuple[int, Found]] = []
        for account in accounts:
            listed = self._book.listed.get((trip.scope.oms, account))
            if listed is None or not trip.sweep.counts(listed, proving):
                return None
            founds.append((account, self.find(trip, account, listed)))
        return founds

    def oldest(self, trip: Trip, accounts: tuple[int, ...], beside: Round) -> int:
        """The number of the oldest call of the round under way."""
        return min((beside.oldest, *(self._book.listed[trip.scope.oms, account].call for account in accounts)))

    def calls_of_a_round(self, oms: str) -> int:
        """How many calls list each latched account once, with what is listed beside its orders."""
        accounts: set[int] = set()
        each = 1
        for trip in self.latched(oms):
            accounts.update(self.accounts(trip)[0])
            each = max(each, self._book.extras.calls_per_account(trip))
        return each * len(accounts)

    def orders_left(self, trip: Trip) -> int | None:
        """Orders in scope in the newest lists of this sweep, and what is listed beside them; None before the first."""
        counts = [
            self.find(trip, account, listed).count
            for account in self.accounts(trip)[0]
            if (listed := self._book.listed.get((trip.scope.oms, account))) is not None
            and listed.call >= trip.sweep.began_call
        ]
        if not counts:
            return 0 if trip.state is State.CONFIRMED else None
        return sum(counts) + self._book.extras.left(trip, self.accounts(trip)[0])

    def forget(self, trip: str) -> None:
        self._plans.pop(trip, None)
        self._provings.pop(trip, None)
        for key in self._found:
            if key[0] == trip:
                del self._found[key]

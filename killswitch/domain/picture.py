"""The picture: what is shown and announced of the state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain import coverage, paths
from killswitch.domain.extras import covers
from killswitch.domain.messages import (
    AnnounceState,
    AnnounceTrip,
    TripView,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.shadows import notes_of, view_of
from killswitch.domain.trips import (
    SEVERITY,
    VERIFIED,
    State,
    Trip,
)
from killswitch.domain.undo import Table
from killswitch.domain.view import BrokerView, OmsView, SessionView, View

if TYPE_CHECKING:
    from killswitch.domain.book import Listed, Session
    from killswitch.domain.parts import Parts
    from killswitch.domain.settings import Settings, Site


LISTED: Final = "orders"
"""What a shadow trip's look is about: quotes and block trades are listed for proof alone."""
CAUSES_MAX: Final = 100
"""So many causes of a trip are shown, of the rest there is a number: a limit that thousands of series are past must
not make each announcement a megabyte.
"""


class Picture:
    """Looks at the parts and changes nothing, but for remembering what it announced."""

    def __init__(self, parts: Parts, notes: tuple[str, ...]) -> None:
        self._parts = parts
        self._notes = notes
        self._bases: Table[str, tuple[object, ...]] = Table(parts.undo)
        """What each trip's view was made of."""
        self._views: Table[str, TripView] = Table(parts.undo)
        """Each trip's newest view; as it was announced, but for when it was last proven."""
        self._said: Table[str, str] = Table(parts.undo)
        self._uncovered: dict[str, tuple[Settings, tuple[int, ...], tuple[int, ...]]] = {}
        """OMS -> settings, accounts, and which of these nothing covers: looked up anew when one of the two differs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people must hear beside what is said elsewhere: shadow, as it is now, and what the start found."""
        narrowed = [why for oms, why in self._parts.book.narrowed.items() if oms in self._parts.book.sites]
        shares = [(site.name, self._parts.book.budget.share(site.name)) for site in self._parts.settings.sites]
        limited = [f"OMS {oms} limits our calls: lists leave at {s:.1%} of their pace" for oms, s in shares if s < 1]
        hidden = self._parts.book.extras.notes()
        return (*notes_of(self._parts.settings, len(self._parts.trips)), *narrowed, *limited, *hidden, *self._notes)

    def view(self, now: float) -> View:
        """All that can be seen from outside, as it is at `now`."""
        rules_seen, feeds_seen = self._parts.watch.view(now)
        modes = {rule.name: rule.mode for rule in self._parts.settings.rules}
        error = self._parts.status.get("journal")
        omses = tuple(self._view_oms(site, now) for site in self._parts.settings.sites)
        missing = self._missing()
        return View(
            daemon=self._parts.settings.daemon,
            state=self.worst().value,
            trips=tuple(self._view_trip(t) for t in self._parts.trips.values()),
            rules=tuple(replace(seen, mode=modes.get(seen.rule, seen.mode)) for seen in rules_seen),
            feeds=feeds_seen,
            omses=omses,
            brokers=tuple(BrokerView(b, up, why) for b, (up, why) in self._parts.brokers.items()),
            journal_error=error,
            commands_waiting=self._parts.desk.waiting,
            ready=not missing,
            missing=missing,
            notes=self.notes,
            shadows=tuple(view_of(shadow, LISTED) for shadow in self._parts.shadows.values()),
            mode=self._parts.settings.mode,
            untold=self._parts.outbox.held(),
        )

    def announce(self) -> None:
        """Announce the trips that look different now, and the state, once the journal has what led to it."""
        n = self._parts.outbox.last_n
        changed = False
        of_oms: dict[str, tuple[object, ...]] = {}
        for trip in self._parts.trips.values():
            if (shared := of_oms.get(trip.scope.oms)) is None:
                shared = of_oms[trip.scope.oms] = self._shared(trip.scope.oms)
            why = self._parts.status.get(f"why {trip.id}")
            basis = (trip, self._parts.repeats.get(trip.id), why, self._lists(trip), shared)
            if self._bases.get(trip.id) == basis:
                continue  # most of many trips: their view need not be made to know that it is the same
            self._bases[trip.id] = basis
            before, view = self._views.get(trip.id), self._view_trip(trip)
            self._views[trip.id] = view
            if before is None or replace(before, verified_wall=None) != replace(view, verified_wall=None):
                changed = True
                self._parts.outbox.after(AnnounceTrip(view), n)
        shadows = self._parts.shadows.values()
        for shadow in shadows:
            if self._bases.get(shadow.id) != (shadow,):
                before, view = self._views.get(shadow.id), view_of(shadow, LISTED)
                self._bases[shadow.id] = (shadow,)
                self._views[shadow.id] = view
                if before != view:
                    changed = True
                    self._parts.outbox.after(AnnounceTrip(view), n)
        stand = [*self._parts.trips, *(shadow.id for shadow in shadows)]
        for gone in set(self._views) - set(stand):
            changed = True
            del self._views[gone]
            del self._bases[gone]
        state = self.worst().value
        if changed or self._said.get("state") != state:
            self._said["state"] = state
            views = tuple(self._views[trip] for trip in stand)
            self._parts.outbox.after(AnnounceState(state, views, self._parts.settings.mode == "shadow"), n)

    def _shared(self, oms: str) -> tuple[object, ...]:
        """What the views of all trips of an OMS rest on."""
        book = self._parts.book
        return paths.watching(book, oms) is None, book.extras.version(oms), book.sites.get(oms)

    def _lists(self, trip: Trip) -> tuple[tuple[int, Listed | None], ...]:
        """The lists that a trip's view rests on beside the trip itself."""
        accounts, _ = self._parts.sweeper.evidence.accounts(trip)
        return tuple((account, self._parts.book.listed.get((trip.scope.oms, account))) for account in accounts)

    def worst(self) -> State:
        states = [t.state for t in self._parts.trips.values()]
        return max(states, key=SEVERITY.index, default=State.ARMED)

    def _view_trip(self, trip: Trip) -> TripView:
        remains = self._parts.sweeper.remains
        looked, unseen = remains.looked_at(trip)
        causes = self._parts.causes_of(trip)
        proven = trip.state is State.CONFIRMED
        return TripView(
            trip=trip.id,
            state=trip.state.value,
            scope=trip.scope,
            causes=causes[:CAUSES_MAX],
            more_causes=max(len(causes) - CAUSES_MAX, 0),
            by=trip.by,
            tripped_wall=trip.tripped_wall,
            calls=trip.calls,
            orders_left=self._parts.sweeper.evidence.orders_left(trip),
            outcome=VERIFIED if proven else trip.outcome,
            covers=covers(self._parts.book.sites.get(trip.scope.oms)),
            verified_wall=trip.verified_wall,
            accounts_looked_at=looked,
            accounts_unseen=tuple(account for account, _ in unseen),
            remaining=None if proven else remains.of(trip),
            why=(self._parts.status.get(f"why {trip.id}") or "") if trip.state is State.ESCALATED else "",
        )

    def _view_oms(self, site: Site, now: float) -> OmsView:
        trips = [t for t in self._parts.trips.values() if t.scope.oms == site.name]
        left = [self._parts.sweeper.evidence.orders_left(t) for t in trips]
        rounds = [t.sweep.round_ended_at for t in trips]
        known = [r for r in rounds if r is not None]
        sessions = []
        first, signed_in = paths.watching(self._parts.book, site.name), paths.signed_in(self._parts.book, site.name)
        for (oms, gateway), (up, since, why) in self._parts.gateways.items():
            if oms == site.name:
                held = next((s for s in signed_in if s.gateway == gateway), None)
                number, dialect = (None, "") if held is None else (held.number, held.dialect.value)
                watches = held is not None and held is first
                sessions.append(
                    SessionView(
                        oms,
                        gateway,
                        up,
                        number,
                        now - since,
                        why,
                        dialect,
                        watching=watches,
                        may_cancel=None if number is None else self._parts.credentials.may_cancel(number),
                        credential=self._credential(held),
                    )
                )
        everything = Scope(oms=site.name, account=EVERY, user=EVERY, instrument=EVERY)
        accounts, complete = self._parts.book.accounts_of(everything, 0)
        return OmsView(
            oms=site.name,
            sessions=tuple(sessions),
            orders_left=None if None in left else sum(n for n in left if n is not None),
            proof_age_s=now - min(known) if known and len(known) == len(rounds) else None,
            guard_every_s=self._parts.sweeper.guard_every_s(site.name),
            uncovered_accounts=self.uncovered(site.name),
            accounts=len(accounts),
            accounts_complete=complete,
        )

    def _credential(self, held: Session | None) -> str:
        """What is to be said of our credential on a session, or of the session itself."""
        if held is None:
            return ""
        return self._parts.credentials.in_words(held.number) if held.lists else "over HTTP, for cancels alone"

    def uncovered(self, oms: str) -> tuple[int, ...]:
        """The accounts of an OMS, told or met, that no rule and no button reaches."""
        accounts, settings = self._parts.book.known_accounts(oms), self._parts.settings
        held = self._uncovered.get(oms)
        if held is None or held[0] is not settings or held[1] != accounts:
            held = (settings, accounts, coverage.uncovered(oms, accounts, settings.rules, settings.panics))
            self._uncovered[oms] = held
        return held[2]

    def gaps(self) -> tuple[str, ...]:
        """What a person should hear at the start of accounts that nothing covers."""
        found = [(site.name, self.uncovered(site.name)) for site in self._parts.settings.sites]
        return tuple(coverage.sentence(oms, accounts) for oms, accounts in found if accounts)

    def _over_http(self, oms: str) -> str:
        held = self._parts.book.resorts.get(oms)
        return "" if held is None else f" but over HTTP at {held.gateway}, which can cancel and prove nothing"

    def _missing(self) -> tuple[str, ...]:
        missing = [
            f"no signed-in session to {site.name}{self._over_http(site.name)}"
            for site in self._parts.settings.sites
            if paths.watching(self._parts.book, site.name) is None
        ]
        for site in self._parts.settings.sites:
            why = self._parts.credentials.why_not(site.name)
            if why:
                missing.append(f"armed, but could not cancel: OMS {site.name}: {why}")
        missing += [
            f"trip {t.id}: OMS {t.scope.oms} is not configured"
            for t in self._parts.trips.values()
            if t.scope.oms not in self._parts.book.sites
        ]
        error = self._parts.status.get("journal")
        if error is not None:
            missing.append(error)
        return tuple(missing)

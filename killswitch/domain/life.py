"""The life of a trip: it is latched, put through the table input by input, pressed again, and escalated."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain.extras import covers
from killswitch.domain.messages import (
    AnnounceEvent,
    CauseAdded,
    CauseView,
    LatchedTrip,
    Moved,
    Noted,
    Tripped,
)
from killswitch.domain.remains import KEPT_MAX, in_words, orders_left
from killswitch.domain.trips import (
    RESIDUAL,
    TRANSITIONS,
    UNKNOWN,
    VERIFIED,
    Input,
    State,
    Trip,
    Verdict,
)

if TYPE_CHECKING:
    from killswitch.domain.parts import Parts
    from killswitch.domain.scope import Scope


REMIND_EVERY_S: Final = 60.0
REASONS_MAX: Final = 10
"""Different reasons of one escalation that are told as they come."""
DISK_WAIT_S: Final = 1.0
"""For so long an escalation waits for the journal; then people hear of it as not yet on disk."""


class InvariantBroken(Exception):  # noqa: N818  # a sentence about the state, not one more error among many
    """The state itself is wrong: the process must end; started again, it latches and sweeps again."""


def cause_of(text: str, kind: str, wall: float) -> CauseView:
    """The cause of a trip by a person."""
    return CauseView(text, "", kind, (), wall, wall, 1)


class Life:
    """Puts inputs through the one table, and does what a change of state asks for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def change(self, trip_id: str, input_: Input, why: str, now: float, wall: float) -> None:
        """Put one input through the table."""
        trip = self._parts.trips.get(trip_id)
        target = TRANSITIONS[trip.state if trip is not None else State.ARMED, input_]
        if trip is None or isinstance(target, Verdict):
            self._parts.numbers["late"] += 1
            return
        if target is trip.state:
            if input_ is Input.OVERDUE and self._is_news(trip.id, why):
                text = self._escalation(trip, why)
                n = self._parts.outbox.record(Noted("escalated", text, trip.id), wall)
                self._tell_escalation(trip, text, now, wall, n)
            return
        outcome = {
            State.CONFIRMED: VERIFIED,
            State.SWEEPING: {Input.SIGHTED: RESIDUAL, Input.BLIND: UNKNOWN}.get(input_),
        }.get(target, trip.outcome or UNKNOWN)
        left = self._parts.sweeper.remains.of(trip, KEPT_MAX)
        body = Moved(
            trip.id,
            trip.state.value,
            input_.value,
            target.value,
            why,
            self._parts.sweeper.evidence.orders_left(trip),
            outcome,
            orders=tuple(order.order_id for order in left.orders if order.order_id is not None),
            unseen=tuple(account for account, _ in left.unseen),
            covers=covers(self._parts.book.sites.get(trip.scope.oms)),
        )
        n = self._parts.outbox.record(body, wall)
        self._parts.stir.add(trip.scope.oms)
        match target:
            case State.SWEEPING:
                self.begin(replace(trip, state=target, outcome=outcome), now, person=input_ is Input.TRIP)
                text = f"{trip.scope.in_words()}: {outcome or 'no outcome yet'}, swept again: {why}"
                detail = {"outcome": outcome}
                self._parts.outbox.event("sweeping", text, wall, trip=trip.id, detail=detail, n=n)
            case State.CONFIRMED:
                self._parts.agenda.clear(("overdue", trip.id))
                self._parts.agenda.clear(("remind", trip.id))
                self._parts.status.pop(f"why {trip.id}")
                self._parts.status.pop(f"told {trip.id}")
                self._parts.trips[trip.id] = replace(trip, state=target, outcome=VERIFIED, confirmed_once=True)
                text = f"{trip.scope.in_words()}: confirmed: VERIFIED, no {body.covers} left: {why}"
                detail = {"outcome": VERIFIED, "covers": body.covers}
                self._parts.outbox.event("confirmed", text, wall, trip=trip.id, detail=detail, n=n)
            case State.ESCALATED:
                trip = replace(trip, state=target, outcome=outcome)
                self._parts.trips[trip.id] = trip
                self._parts.status[f"why {trip.id}"] = self._parts.status[f"told {trip.id}"] = why
                self._parts.agenda.clear(("overdue", trip.id))
                self._parts.agenda.set(("remind", trip.id), now + REMIND_EVERY_S)
                self._tell_escalation(trip, self._escalation(trip, why), now, wall, n)
            case State.ARMED:
                raise InvariantBroken("a reset goes through its own door")
            case _:
                assert_never(target)

    def begin(self, trip: Trip, now: float, *, person: bool) -> None:
        """A sweep begins: cancel at once, and be done by the deadline."""
        trip = replace(trip, sweep=self._parts.sweeper.fresh(now, keep=None if person else trip.sweep))
        self._parts.trips[trip.id] = trip
        self._parts.sweeper.lanes.press(trip, by_person=person)
        self._parts.agenda.clear(("blind", trip.id))
        self._parts.agenda.set(("overdue", trip.id), now + self._parts.settings.confirm.deadline_s)
        self._parts.stir.add(trip.scope.oms)

    def left(self, trip: Trip) -> str:
        """A trip that isn't confirmed, its outcome and what remains of it."""
        remains = in_words(self._parts.sweeper.remains.of(trip))
        return f"{trip.id}: {trip.outcome or UNKNOWN}{f', {remains}' if remains else ''}"

    def _escalation(self, trip: Trip, why: str) -> str:
        """What people are told of a trip that is not confirmed: why, its outcome, and what remains of it."""
        site = self._parts.book.sites.get(trip.scope.oms)
        contact = f"; call {site.contact}" if site is not None and site.contact else ""
        outcome = trip.outcome or UNKNOWN
        left = orders_left(self._parts.sweeper.evidence.orders_left(trip), outcome)
        remains = in_words(self._parts.sweeper.remains.of(trip))
        shown = f"{left}; {remains}" if remains else left
        over_http = self._parts.sweeper.resort.words(trip)
        return f"{trip.scope.in_words()}: not confirmed: {why}; {outcome}, {shown}{over_http}{contact}"

    def _is_news(self, trip_id: str, why: str) -> bool:
        """Whether people should hear of this reason now; as the newest one it is kept either way.

        What is refused in several ways is tried again in each of them, every few seconds: said again each time, the
        reasons would bury whatever else happens. The reminder says the newest.
        """
        self._parts.status[f"why {trip_id}"] = why
        told = (self._parts.status.get(f"told {trip_id}") or "").splitlines()
        if why in told or len(told) >= REASONS_MAX:
            return False
        self._parts.status[f"told {trip_id}"] = "\n".join((*told, why))
        return True

    def _tell_escalation(self, trip: Trip, text: str, now: float, wall: float, n: int) -> None:
        left = self._parts.sweeper.remains.of(trip)
        detail = {
            "outcome": trip.outcome or UNKNOWN,
            "orders": [order.order_id for order in left.orders],
            "accounts_unseen": [account for account, _ in left.unseen],
        }
        self._parts.outbox.escalation(AnnounceEvent("escalated", text, wall, trip.id, detail), trip.id, n)
        self._parts.agenda.set(("untold", trip.id), now + DISK_WAIT_S)

    def remind(self, trip_id: str, now: float, wall: float) -> None:
        trip = self._parts.trips.get(trip_id)
        if trip is not None and trip.state is State.ESCALATED:
            text = self._escalation(trip, self._parts.status.get(f"why {trip.id}") or "it stays so")
            self._tell_escalation(trip, text, now, wall, self._parts.outbox.last_n)
            self._parts.agenda.set(("remind", trip_id), now + REMIND_EVERY_S)

    def latch(self, trip: Trip, now: float, digest: str = "") -> int:
        """A new trip. Returns the number of its record."""
        cause = trip.causes[0]
        self._parts.numbers["serial"] += 1
        body = Tripped(trip.id, trip.scope, cause, trip.by, trip.command_id, digest)
        n = self._parts.outbox.record(body, trip.tripped_wall, urgent=True)
        self.begin(trip, now, person=True)
        text = f"{trip.scope.in_words()}: {cause.text}"
        self._parts.outbox.event("tripped", text, trip.tripped_wall, trip=trip.id, n=n)
        return n

    def trip(self, id_: str, scope: Scope, cause: CauseView, by: str, now: float) -> Trip:
        """A trip that begins with `cause`."""
        return Trip(id_, scope, (cause,), by, cause.first_wall, State.SWEEPING, self._parts.sweeper.fresh(now))

    def shadow(
        self,
        id_: str,
        scope: Scope,
        cause: CauseView,
        by: str,
        now: float,
        *,
        command_id: str = "",
        digest: str = "",
        button: str = "",
    ) -> int:
        """A shadow trip: no latch, no sweep; it looks, and tells. Returns the number of its record."""
        self._parts.numbers["serial"] += 1
        return self._parts.shadows.trip(id_, scope, cause, by, now, command_id=command_id, digest=digest, button=button)

    def relatch(self, held: LatchedTrip, now: float) -> None:
        """A trip that the journal kept: it is swept again."""
        first = held.causes[0] if held.causes else None
        button = ""
        if first is not None and first.kind == "panic":
            button = first.text.removeprefix("button ").removesuffix(" pressed")
        trip = Trip(
            held.trip,
            held.scope,
            held.causes,
            held.by,
            held.tripped_wall,
            State.SWEEPING,
            self._parts.sweeper.fresh(now),
            command_id=held.command_id,
            button=button,
        )
        self.begin(trip, now, person=True)
        site = self._parts.book.sites.get(trip.scope.oms)
        if site is None:
            self._lost_ground(trip.id, f"OMS {trip.scope.oms} is not configured", now)
        elif trip.scope.whole and not site.whole_oms:
            self._lost_ground(trip.id, f"OMS {trip.scope.oms} no longer has whole_oms", now)

    def _lost_ground(self, trip_id: str, why: str, now: float) -> None:
        """A trip that the configuration has no place for any more: people hear of it, from the first Tick on."""
        self._parts.trips[trip_id] = replace(self._parts.trips[trip_id], state=State.ESCALATED, outcome=UNKNOWN)
        self._parts.status[f"why {trip_id}"] = why
        self._parts.agenda.clear(("overdue", trip_id))
        self._parts.agenda.set(("remind", trip_id), now)

    def new_id(self, stem: str, wall: float) -> str:
        """An id that no command can have: `~` is no letter of theirs."""
        at = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S")
        return f"{stem}~{at}~{self._parts.numbers['serial'] + 1}"

    def press(self, trip: Trip, cause: CauseView, now: float, wall: float) -> int:
        """A latched trip is pressed again by a person: the scope's cancels leave again, at once."""
        trip = trip.with_cause(cause)
        self._parts.trips[trip.id] = trip
        n = self._parts.outbox.record(CauseAdded(trip.id, cause), wall, urgent=True)
        if trip.state is State.CONFIRMED:
            self.change(trip.id, Input.TRIP, "pressed again", now, wall)
        else:
            # A fresh sweep: what was refused may be allowed by now. Its deadline stays.
            self._parts.trips[trip.id] = replace(trip, sweep=self._parts.sweeper.fresh(now))
            self._parts.sweeper.lanes.press(self._parts.trips[trip.id], by_person=True)
            self._parts.stir.add(trip.scope.oms)
        return n

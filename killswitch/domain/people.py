"""What people ask for: commands, buttons, signals, and resets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.life import cause_of
from killswitch.domain.messages import (
    ButtonPressed,
    ClearTrip,
    CommandRefused,
    DropSession,
    EverythingTripped,
    ResetRequested,
    RetainedTripFound,
    TripRequested,
    WasReset,
)
from killswitch.domain.paths import live
from killswitch.domain.remains import in_words
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.shadows import CANCELS_NOTHING
from killswitch.domain.trips import (
    TRANSITIONS,
    VERIFIED,
    Input,
    State,
    Trip,
    Verdict,
)
from killswitch.domain.undo import Recent, Table

if TYPE_CHECKING:
    from killswitch.domain.life import Life
    from killswitch.domain.messages import CauseView
    from killswitch.domain.parts import Parts
    from killswitch.domain.scope import Part
    from killswitch.domain.shadows import Shadow


OWED_S: Final = 60.0
"""An account that is found later than this after everything was tripped is a new one."""
STUCK_S: Final = 5.0
"""A cancel that later calls overtook and that is still unanswered after this will not be answered any more."""
ENDED_MAX: Final = 100_000
"""Trips that ended since the start and are remembered. Beyond it the oldest is forgotten: should a broker still hold
it then, though it was told to clear it at the reset, it is latched again, as one that no journal knows.
"""


class People:
    """Trips and resets by people. Each is answered, whatever comes of it."""

    def __init__(self, parts: Parts, life: Life, ended: frozenset[str]) -> None:
        self._parts = parts
        self._life = life
        self._ended_before = ended
        self._ended: Recent[str, bool] = Recent(parts.undo, ENDED_MAX)
        self._owed: Table[str, tuple[EverythingTripped, float, frozenset[int]]] = Table(parts.undo)
        """OMS -> the wish to trip everything, when it came, and the accounts that were tripped for it."""

    def trip_requested(self, event: TripRequested, now: float) -> None:
        used = self._parts.desk.before(event.id)
        trip, shadow = self._parts.trips.get(event.id), self._parts.shadows.get(event.id)
        if used is not None or trip is not None or shadow is not None:
            again = cause_of(f"{event.by}: {event.reason}", "command", event.wall)
            if used is None or used.digest != event.digest or (trip is None and shadow is None):
                self._parts.desk.refuse(event, "trip", "id already used")
                return
            if event.retained:
                pass
            elif trip is not None:
                self._life.press(trip, again, now, event.wall)
            elif shadow is not None:
                self._parts.shadows.press(shadow, again, event.wall)
            self._parts.desk.repeat(event, used)
            return
        refusal = self._refuses(event.scope)
        if refusal is not None:
            self._parts.desk.refuse(event, "trip", refusal)
            return
        kind = "http" if event.via == "http" else "command"
        age = "" if event.issued_at is None else f", {max(event.wall - event.issued_at, 0):.0f} s old"
        cause = cause_of(f"{event.by}: {event.reason}", kind, event.wall)
        if self._in_shadow:
            by, id_ = event.by, event.id
            self._life.shadow(id_, event.scope, cause, by, now, command_id=id_, digest=event.digest)
            self._parts.desk.accept(event, "trip", id_, CANCELS_NOTHING, shadow=True)
            return
        trip = replace(self._life.trip(event.id, event.scope, cause, event.by, now), command_id=event.id)
        self._life.latch(trip, now, event.digest)
        self._parts.desk.accept(event, "trip", event.id, f"tripped{age}")

    @property
    def _in_shadow(self) -> bool:
        return self._parts.settings.mode == "shadow"

    def _refuses(self, scope: Scope) -> str | None:
        site = self._parts.book.sites.get(scope.oms)
        if site is None:
            return "no OMS of that name is configured"
        if scope.whole and not site.whole_oms:
            return "the scope names neither account nor user, and its OMS has no whole_oms"
        return None

    def button_pressed(self, event: ButtonPressed, now: float) -> None:
        refusal = self._refuses(event.scope)
        if refusal is not None:  # a reload took its ground away while the press was on its way
            why = f"button {event.button}: {refusal}"
            refused = CommandRefused(
                wall=event.wall, command="panic", id=None, reason=why, via=event.via, token=event.token
            )
            self._parts.desk.malformed(refused)
            return
        cause = cause_of(f"button {event.button} pressed", "panic", event.wall)
        if self._in_shadow:
            self._parts.desk.pressed(event, self._pressed_in_shadow(event, cause, now))
            return
        for trip in self._parts.trips.values():
            if trip.button == event.button and trip.scope == event.scope:
                self._parts.desk.pressed(event, self._life.press(trip, cause, now, event.wall))
                return
        id_ = self._life.new_id(event.button, event.wall)
        trip = replace(self._life.trip(id_, event.scope, cause, event.button, now), button=event.button)
        self._parts.desk.pressed(event, self._life.latch(trip, now))

    def _pressed_in_shadow(self, event: ButtonPressed, cause: CauseView, now: float) -> int:
        for shadow in self._parts.shadows.values():
            if shadow.button == event.button and shadow.scope == event.scope:
                return self._parts.shadows.press(shadow, cause, event.wall)
        id_ = self._life.new_id(event.button, event.wall)
        return self._life.shadow(id_, event.scope, cause, event.button, now, button=event.button)

    def trip_everything(self, event: EverythingTripped, now: float) -> None:
        """Every configured scope: the whole OMS where that is allowed, else each of its accounts.

        Those that an OMS has still to tell of are tripped when it does: see `pay_debts`.
        """
        book = self._parts.book
        for site in self._parts.settings.sites:
            if site.whole_oms:
                self._trip_each(site.name, (EVERY,), event, now)
                continue
            accounts = book.roster(site.name)
            self._trip_each(site.name, accounts, event, now)
            if site.discover and site.name not in book.enumerated:
                self._owed[site.name] = (event, now, frozenset(accounts))
            if not accounts:
                text = f"{event.by}: OMS {site.name}: no account is known yet; each is tripped as it is found"
                self._parts.outbox.event("escalated", text, event.wall)

    def pay_debts(self, now: float) -> None:
        """Everything was tripped before an OMS had told of all its accounts: those it tells of now are tripped too."""
        for oms, (event, at, before) in self._owed.items():
            known = self._parts.book.roster(oms)
            self._trip_each(oms, tuple(account for account in known if account not in before), event, now)
            done = before.union(known)
            if oms in self._parts.book.enumerated or (done and now - at > OWED_S):
                del self._owed[oms]
            else:
                self._owed[oms] = (event, at, done)

    def _trip_each(self, oms: str, accounts: tuple[Part, ...], event: EverythingTripped, now: float) -> None:
        cause = cause_of(f"{event.by}: {event.reason}", "signal", event.wall)
        for account in accounts:
            scope = Scope(oms=oms, account=account, user=EVERY, instrument=EVERY)
            if self._in_shadow:
                self._everything_in_shadow(scope, cause, event, now)
                continue
            held = [t for t in self._parts.trips.values() if t.scope == scope and t.causes[0].kind == "signal"]
            if held:
                self._life.press(held[0], cause, now, event.wall)
            else:
                id_ = self._life.new_id("signal", event.wall)
                self._life.latch(self._life.trip(id_, scope, cause, event.by, now), now)

    def _everything_in_shadow(self, scope: Scope, cause: CauseView, event: EverythingTripped, now: float) -> None:
        for shadow in self._parts.shadows.values():
            if shadow.scope == scope and shadow.causes[0].kind == "signal":
                self._parts.shadows.press(shadow, cause, event.wall)
                return
        self._life.shadow(self._life.new_id("signal", event.wall), scope, cause, event.by, now)

    def retained_found(self, event: RetainedTripFound, now: float) -> None:
        """The broker holds a trip of ours: known, ended, or, since the journal lost it, to be latched again.

        It was announced once it was on disk, and cleared at its reset: a journal that knows neither is another
        one, was put back from an old copy, or has a row that can't be read. A shadow trip ended with its process:
        whatever this daemon is now, it cancels nothing for it.
        """
        if event.trip in self._parts.trips or self._parts.shadows.get(event.trip) is not None:
            return
        ended = event.trip in self._ended or event.trip in self._ended_before
        if ended or event.shadow or event.scope is None:
            self._parts.outbox.put(ClearTrip(event.trip))
            return
        cause = cause_of(f"{event.cause} (found retained, not in the journal)", "retained", event.wall)
        self._life.latch(self._life.trip(event.trip, event.scope, cause, event.by, now), now)

    def reset_requested(self, event: ResetRequested, now: float) -> None:
        used = self._parts.desk.before(event.id)
        if used is not None:
            if used.digest == event.digest and used.trip == event.trip:
                self._parts.desk.repeat(event, used)
            else:
                self._parts.desk.refuse(event, "reset", "id already used")
            return
        shadow = self._parts.shadows.get(event.trip)
        if shadow is not None:
            self._reset_shadow(shadow, event)
            return
        trip = self._parts.trips.get(event.trip)
        refusal = "no such trip" if trip is None else self._refuses_reset(trip, event, now)
        if trip is None or refusal is not None:
            proven = trip is None or trip.state is State.CONFIRMED
            self._parts.desk.refuse(
                event,
                "reset",
                refusal or "no such trip",
                outcome="" if trip is None else VERIFIED if proven else trip.outcome or "",
                remaining="" if trip is None or proven else in_words(self._parts.sweeper.remains.of(trip)),
            )
            return
        reason = self._of_rules(trip) or "reset"
        if trip.ghosts:
            numbers = ", ".join(str(number) for number in trip.ghosts)
            reason += f"; {_cancels(len(trip.ghosts))} on dead sessions may still execute: {numbers}"
        body = WasReset(
            trip.id, event.by, event.reason, event.id, event.digest, trip.ghosts, VERIFIED, trip.verified_wall
        )
        n = self._parts.outbox.record(body, event.wall, urgent=True)
        del self._parts.trips[trip.id]
        self._parts.forget_causes(trip)
        self._ended[trip.id] = True
        self._parts.watch.release(self._parts.rules_of_trips(), now)
        for what in ("overdue", "remind"):
            self._parts.agenda.clear((what, trip.id))
        self._parts.sweeper.forget(trip)
        self._parts.outbox.forget_trip(trip.id)
        self._parts.outbox.after(ClearTrip(trip.id), n)
        text = f"{trip.scope.in_words()}: {VERIFIED}, reset by {event.by}: {event.reason}"
        self._parts.outbox.event("reset", text, event.wall, trip=trip.id, n=n)
        self._parts.desk.accept(event, "reset", trip.id, reason, outcome=VERIFIED)
        self._parts.status["announce"] = "yes"
        self._parts.stir.add(trip.scope.oms)

    def _reset_shadow(self, shadow: Shadow, event: ResetRequested) -> None:
        """Nothing is latched: neither an empty scope nor a calm rule is asked for."""
        refusal = self._refuses_command(event)
        if refusal is not None:
            self._parts.desk.refuse(event, "reset", refusal)
            return
        self._parts.shadows.end(shadow, event)
        self._ended[shadow.id] = True
        self._parts.desk.accept(event, "reset", shadow.id, "reset", shadow=True)

    def _refuses_command(self, event: ResetRequested) -> str | None:
        """Why this reset can't be accepted, whatever its trip is."""
        if abs(event.wall - event.issued_at) > self._parts.settings.reset_max_age_s:
            return "issued_at is too far from now"
        if event.override:
            return "an override needs signed commands, which this version does not have"
        return None

    def _refuses_reset(self, trip: Trip, event: ResetRequested, now: float) -> str | None:
        """Why this trip can't be reset now, or None."""
        refusal = self._refuses_command(event)
        if refusal is not None:
            return refusal
        target = TRANSITIONS[trip.state, Input.RESET]
        if target is Verdict.REFUSED:
            return trip.state.value
        for cause in trip.causes:
            if cause.rule:
                uncalm = self._parts.watch.uncalm(cause.rule, cause.labels, now)
                if uncalm is not None:
                    return uncalm
        under_way = [c for c in self._parts.book.cancels_under_way(trip.scope) if self._rests_on(trip, c.scope)]
        over_http = [c for c in self._parts.book.cancels_over_http(trip.scope) if self._rests_on(trip, c.scope)]
        if over_http:  # they end by themselves, within seconds
            return f"{_cancels(len(over_http))} over HTTP {'is' if len(over_http) == 1 else 'are'} unanswered"
        if not under_way:
            return None
        for call in under_way:
            session = self._parts.book.sessions[call.session]
            # A session that hangs while another is there gets no later calls that could overtake this one.
            overtaken = session.answered > call.number or len(live(self._parts.book, session.oms)) > 1
            if overtaken and now - (call.sent_at or call.asked_at) > STUCK_S:
                # It would block the reset for ever; what can't be answered any more must not linger.
                self._parts.outbox.put(
                    DropSession(session.oms, session.number, f"call {call.number} was never answered")
                )
                return f"cancel {call.number} was never answered; its connection is being replaced, try again"
        return f"{_cancels(len(under_way))} {'is' if len(under_way) == 1 else 'are'} unanswered"

    def _rests_on(self, trip: Trip, scope: Scope) -> bool:
        """A cancel under way would still act for this trip only: no other latched scope asks for it."""
        return scope.meets(trip.scope) and not any(
            other.id != trip.id and other.scope.covers(scope) for other in self._parts.trips.values()
        )

    def _of_rules(self, trip: Trip) -> str:
        """What its receipt says where a rule that made the trip is not what it was: "" where all are."""
        rules = sorted({c.rule for c in trip.causes if c.rule})
        removed = [name for name in rules if not self._has_rule(name)]
        changed = [name for name in rules if self._has_rule(name) and self._parts.watch.is_retired(name)]
        said = [
            f"rule {what}: {', '.join(names)}" for what, names in (("removed", removed), ("changed", changed)) if names
        ]
        return f"{'; '.join(said)} (configuration {self._parts.settings.fingerprint})" if said else ""

    def _has_rule(self, name: str) -> bool:
        return any(rule.name == name for rule in self._parts.settings.rules)


def _cancels(count: int) -> str:
    return "1 cancel" if count == 1 else f"{count} cancels"

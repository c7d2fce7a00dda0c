"""The switch: the only place where anything is decided.

`handle(event, now)` takes a fact and returns what must be done; it has no clock and no I/O. It commits at its
end: an exception inside changes nothing, the event is set aside, and the next one is handled.
"""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain import rules
from killswitch.domain.book import Book, Session
from killswitch.domain.desk import Desk
from killswitch.domain.messages import (
    AccountsFound,
    Action,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    Answered,
    BadReading,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CancelRejected,
    CauseAdded,
    CauseView,
    ClearTrip,
    CommandRefused,
    DropSession,
    Event,
    EverythingTripped,
    FeedDown,
    FeedUp,
    Heard,
    JournalFailed,
    Journalled,
    LinkFailed,
    ListOpenOrders,
    ListPositions,
    LookRequested,
    Lost,
    Moved,
    Noted,
    OpenOrders,
    OrderEnded,
    OrderWorking,
    Positions,
    PositionSeen,
    Reading,
    ResetRequested,
    Restored,
    RetainedTripFound,
    Sent,
    SessionDown,
    SessionUp,
    SetAside,
    SignInRefused,
    Started,
    Stopped,
    Stopping,
    Tick,
    Tripped,
    TripRequested,
    TripView,
    WasReset,
)
from killswitch.domain.outbox import Outbox
from killswitch.domain.preview import Looks
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sweep import Level
from killswitch.domain.sweeper import Sweeper
from killswitch.domain.trips import (
    RESIDUAL,
    SEVERITY,
    TRANSITIONS,
    UNKNOWN,
    VERIFIED,
    Input,
    State,
    Trip,
    Verdict,
)
from killswitch.domain.undo import Agenda, Table, Undo
from killswitch.domain.view import BrokerView, OmsView, SessionView, View

if TYPE_CHECKING:
    from collections.abc import Hashable

    from killswitch.domain.messages import LatchedTrip
    from killswitch.domain.settings import Settings, Site

REMIND_EVERY_S: Final = 60.0
STUCK_S: Final = 5.0
SNAPSHOT_AFTER_SWEEP_S: Final = 1.0
COVERS: Final = "orders"
"""What VERIFIED speaks of: quotes and block trades are not listed."""


class InvariantBroken(Exception):  # noqa: N818  # a sentence about the state, not one more error among many
    """The state itself is wrong: the process must end; started again, it latches and sweeps again."""


class KillSwitch:
    """Rules, latches, sweeps and commands of one daemon."""

    def __init__(self, settings: Settings, restored: Restored, now: float) -> None:
        self.settings = settings
        self._undo = Undo()
        self._agenda = Agenda(self._undo)
        self._outbox = Outbox(self._undo, restored.next_n)
        self._book = Book(settings.sites, self._undo)
        self._trips: Table[str, Trip] = Table(self._undo)
        self._sweeper = Sweeper(
            self._book,
            self._trips,
            self._agenda,
            self._outbox,
            self._undo,
            confirm=settings.confirm,
            retry=settings.retry,
        )
        self._desk = Desk(self._outbox, self._undo, restored)
        self._looks = Looks(self._book, self._agenda, self._outbox, self._undo, settings.retry.list_timeout_s)
        self._watch = rules.Watch(settings.feeds, settings.rules, self._undo, self._agenda, now)
        self._numbers: Table[str, int] = Table(self._undo)
        self._numbers["serial"] = restored.serial
        self._numbers["late"] = 0
        self._status: Table[str, str] = Table(self._undo)
        self._links: Table[tuple[str, str], tuple[bool, float, str]] = Table(self._undo)
        self._brokers: Table[str, tuple[bool, str]] = Table(self._undo)
        self._announced: Table[str, TripView] = Table(self._undo)
        self._last_state: Table[str, tuple[object, ...]] = Table(self._undo)
        self._removed: Table[str, bool] = Table(self._undo)
        self._fresh_journal = restored.fresh
        self._notes = restored.warnings
        self._stir: set[str] = set()
        for site in settings.sites:
            for gateway in site.gateways:
                self._links[site.name, gateway] = (False, now, "not connected yet")
        for held in restored.trips:
            self._relatch(held, now)
        self._undo.commit()

    # --- the doors

    def handle(self, event: Event, now: float) -> tuple[Action, ...]:
        """What must be done about a fact. Raises InvariantBroken only."""
        try:
            self._dispatch(event, now)
            self._go_on(now, event.wall)
            self._check()
        except InvariantBroken:
            raise
        except Exception:  # noqa: BLE001  # whatever it is: nothing changes, and the next event is handled
            self._abandon()
            self._set_aside(event, traceback.format_exc())
        self._undo.commit()
        return self._outbox.take()

    def due(self) -> float | None:
        """When a Tick is wanted next (monotonic seconds), or None."""
        return self._agenda.due()

    def view(self, now: float) -> View:
        """All that can be seen from outside, as it is at `now`."""
        rules_seen, feeds_seen = self._watch.view(now)
        error = self._status.get("journal")
        omses = tuple(self._view_oms(site, now) for site in self.settings.sites)
        missing = self._missing()
        return View(
            daemon=self.settings.daemon,
            state=self._worst().value,
            trips=tuple(self._view_trip(t) for t in self._trips.values()),
            rules=rules_seen,
            feeds=feeds_seen,
            omses=omses,
            brokers=tuple(BrokerView(b, up, why) for b, (up, why) in self._brokers.items()),
            journal_error=error,
            commands_waiting=self._desk.waiting,
            ready=not missing,
            missing=missing,
            notes=self._notes,
        )

    # --- one event

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case Tick():
                self._wake_up(now, event.wall)
            case Reading() | BadReading() | FeedUp() | FeedDown() | Heard():
                self._watched(event, now)
            case PositionSeen():
                self._sweeper.met(event.oms, event.row.account)
                self._watched(event, now)
            case TripRequested():
                self._trip_requested(event, now)
            case ResetRequested():
                self._reset_requested(event, now)
            case ButtonPressed():
                self._button_pressed(event, now)
            case CommandRefused():
                self._desk.malformed(event)
            case EverythingTripped():
                self._trip_everything(event, now)
            case LookRequested():
                self._looks.begin(event, now)
            case Journalled():
                self._status.pop("journal")
                self._desk.journalled(event.n)
                self._outbox.journalled(event.n)
            case JournalFailed():
                if self._status.get("journal") is None:
                    self._outbox.put(AnnounceEvent("journal_failed", event.why, event.wall))
                self._status["journal"] = event.why
            case BrokerUp():
                self._brokers[event.broker] = (True, "")
                self._desk.broker_up(event.broker, event.window)
            case BrokerDown():
                self._brokers[event.broker] = (False, event.why)
                self._desk.broker_down(event.broker)
            case RetainedTripFound():
                self._retained_found(event, now)
            case Stopping():
                self._status["stopping"] = "yes"
            case _:
                self._dispatch_oms(event, now)

    def _dispatch_oms(self, event: Event, now: float) -> None:
        """Events of an OMS."""
        match event:
            case SessionUp():
                self._session_up(event, now)
            case SessionDown():
                self._session_down(event, now)
            case SignInRefused() | LinkFailed():
                self._links[event.oms, event.gateway] = (False, now, event.why)
                if isinstance(event, SignInRefused):
                    text = f"{event.oms}: {event.gateway} refused our sign-in: {event.why}"
                    self._outbox.event("sign_in_refused", text, event.wall)
            case Sent():
                self._sweeper.sent(event.call, event.session, now, event.wall)
                self._stir_call(event.session)
            case Answered():
                self._looks.failed(event.call)
                self._stir_up(self._sweeper.answered(event, now))
            case OpenOrders():
                self._looks.listed(event)
                self._stir_up(self._sweeper.listed(event, now))
                self._watched(event, now)
            case AccountsFound():
                self._stir_up(self._sweeper.accounts_found(event))
            case Positions():
                call = self._book.answered(event.call, event.session)
                if call is not None:
                    self._agenda.clear(("call", call.number))
                self._watched(event, now)
            case Lost():
                self._looks.failed(event.call)
                self._stir_up(self._sweeper.lost(event.call, now, event.wall, event.why))
            case OrderWorking():
                if self._sweeper.order_working(event.oms, event.order, now, event.wall):
                    self._stir.add(event.oms)
                self._watched(event, now)
            case OrderEnded():
                self._sweeper.order_ended(event.oms, event.order)
                self._watched(event, now)
            case CancelRejected():
                self._cancel_rejected(event, now)
            case _:
                raise TypeError(f"no such event: {type(event).__name__}")

    def _wake_up(self, now: float, wall: float) -> None:
        while (what := self._agenda.take(now)) is not None:
            self._wake(what, now, wall)

    def _wake(self, what: Hashable, now: float, wall: float) -> None:
        match what:
            case ("watch", *_):
                self._believe(self._watch.wake(what, now), now, wall)
            case ("call", int(number)):
                self._looks.failed(number)
                self._stir_up(self._sweeper.timed_out(number, now, wall))
            case ("lane", Scope() as scope):
                self._stir.add(scope.oms)
            case ("look", str(trip)):
                self._stir_up(self._oms_of(trip))
            case ("blind", str(trip)):
                self._change(trip, Input.BLIND, "the last full round is too old", now, wall)
            case ("overdue", str(trip)):
                self._change(trip, Input.OVERDUE, "not confirmed in time", now, wall)
            case ("remind", str(trip)):
                self._remind(trip, now, wall)
            case ("snapshot", str(oms)):
                self._snapshot(oms, now)
            case _:
                raise TypeError("an entry of the agenda that nobody knows")

    def _go_on(self, now: float, wall: float) -> None:
        """Let the sweeps act, put what they found through the table, and again, until it is quiet."""
        touched: set[str] = set()
        while self._stir or self._sweeper.changes:
            changes, self._sweeper.changes[:] = tuple(self._sweeper.changes), []
            for trip, input_, why in changes:
                self._change(trip, input_, why, now, wall)
            stirred, self._stir = self._stir, set()
            touched |= stirred
            for oms in stirred:
                self._sweeper.advance(oms, now, wall)
        if touched or self._status.pop("announce"):
            self._announce()

    def _abandon(self) -> None:
        self._undo.rollback()
        self._outbox.drop()
        self._stir.clear()
        self._sweeper.changes.clear()

    def _set_aside(self, event: Event, trace: str) -> None:
        """A fault of ours: keep it, tell people, and answer whoever waits."""
        name = type(event).__name__
        self._outbox.record(SetAside(name, trace[-4000:]), event.wall)
        kind = "set_aside"
        match event:
            case TripRequested() | ResetRequested():
                self._desk.set_aside(event.id, event.via, event.token, event.wall)
                kind = "escalated" if isinstance(event, TripRequested) else kind
            case ButtonPressed():
                self._desk.set_aside(None, event.via, event.token, event.wall)
                kind = "escalated"
            case CommandRefused():
                self._desk.set_aside(event.id, event.via, event.token, event.wall)
            case _:
                pass
        self._outbox.put(AnnounceEvent(kind, f"an event could not be handled and was set aside: {name}", event.wall))

    # --- the table

    def _change(self, trip_id: str, input_: Input, why: str, now: float, wall: float) -> None:
        """Put one input through the table."""
        trip = self._trips.get(trip_id)
        target = TRANSITIONS[trip.state if trip is not None else State.ARMED, input_]
        if trip is None or isinstance(target, Verdict):
            self._numbers["late"] += 1
            return
        if target is trip.state:
            if input_ is Input.OVERDUE and self._status.get(f"why {trip.id}") != why:
                self._status[f"why {trip.id}"] = why
                self._tell_escalation(trip, why, wall)
            return
        outcome = {
            State.CONFIRMED: VERIFIED,
            State.SWEEPING: {Input.SIGHTED: RESIDUAL, Input.BLIND: UNKNOWN}.get(input_),
        }.get(target, trip.outcome or UNKNOWN)
        n = self._outbox.record(
            Moved(
                trip.id,
                trip.state.value,
                input_.value,
                target.value,
                why,
                self._sweeper.evidence.orders_left(trip),
                outcome,
            ),
            wall,
        )
        self._stir.add(trip.scope.oms)
        match target:
            case State.SWEEPING:
                self._begin(replace(trip, state=target, outcome=outcome), now, person=input_ is Input.TRIP)
                self._outbox.event("sweeping", f"{trip.scope.in_words()}: swept again: {why}", wall, trip=trip.id, n=n)
            case State.CONFIRMED:
                self._agenda.clear(("overdue", trip.id))
                self._agenda.clear(("remind", trip.id))
                self._status.pop(f"why {trip.id}")
                self._trips[trip.id] = replace(trip, state=target, outcome=VERIFIED, confirmed_once=True)
                text = f"{trip.scope.in_words()}: confirmed: {why}"
                self._outbox.event("confirmed", text, wall, trip=trip.id, n=n)
            case State.ESCALATED:
                self._trips[trip.id] = replace(trip, state=target, outcome=outcome)
                self._status[f"why {trip.id}"] = why
                self._agenda.clear(("overdue", trip.id))
                self._agenda.set(("remind", trip.id), now + REMIND_EVERY_S)
                self._tell_escalation(trip, why, wall)
            case State.ARMED:
                raise InvariantBroken("a reset goes through its own door")
            case _:
                assert_never(target)

    def _begin(self, trip: Trip, now: float, *, person: bool) -> None:
        """A sweep begins: cancel at once, and be done by the deadline."""
        trip = replace(trip, sweep=self._sweeper.fresh(now, keep=None if person else trip.sweep))
        self._trips[trip.id] = trip
        self._sweeper.lanes.press(trip, by_person=person)
        self._agenda.clear(("blind", trip.id))
        self._agenda.set(("overdue", trip.id), now + self.settings.confirm.deadline_s)
        self._stir.add(trip.scope.oms)

    def _tell_escalation(self, trip: Trip, why: str, wall: float) -> None:
        site = self._book.sites.get(trip.scope.oms)
        contact = f"; call {site.contact}" if site is not None and site.contact else ""
        left = self._sweeper.evidence.orders_left(trip)
        shown = "unknown" if left is None else str(left)
        text = f"{trip.scope.in_words()}: not confirmed: {why}; orders left: {shown}{contact}"
        self._outbox.event("escalated", text, wall, trip=trip.id)

    def _remind(self, trip_id: str, now: float, wall: float) -> None:
        trip = self._trips.get(trip_id)
        if trip is not None and trip.state is State.ESCALATED:
            self._tell_escalation(trip, self._status.get(f"why {trip.id}") or "not confirmed", wall)
            self._agenda.set(("remind", trip_id), now + REMIND_EVERY_S)

    # --- tripping

    def _latch(self, trip: Trip, now: float, digest: str = "") -> int:
        """A new trip. Returns the number of its record."""
        cause = trip.causes[0]
        self._numbers["serial"] += 1
        body = Tripped(trip.id, trip.scope, cause, trip.by, trip.command_id, digest)
        n = self._outbox.record(body, trip.tripped_wall, urgent=True)
        self._begin(trip, now, person=True)
        text = f"{trip.scope.in_words()}: {cause.text}"
        self._outbox.event("tripped", text, trip.tripped_wall, trip=trip.id, n=n)
        return n

    def _trip(self, id_: str, scope: Scope, cause: CauseView, by: str, now: float) -> Trip:
        """A trip that begins with `cause`."""
        return Trip(id_, scope, (cause,), by, cause.first_wall, State.SWEEPING, self._sweeper.fresh(now))

    def _relatch(self, held: LatchedTrip, now: float) -> None:
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
            self._sweeper.fresh(now),
            command_id=held.command_id,
            button=button,
        )
        self._begin(trip, now, person=True)
        trip = self._trips[trip.id]
        site = self._book.sites.get(trip.scope.oms)
        if site is None:
            self._trips[trip.id] = replace(trip, state=State.ESCALATED, outcome=UNKNOWN)
            self._status[f"why {trip.id}"] = f"OMS {trip.scope.oms} is not configured"
        elif trip.scope.whole and not site.whole_oms:
            # The permission was taken away under the trip: cover it account by account.
            sweep = replace(trip.sweep, level=Level.ACCOUNTS)
            self._trips[trip.id] = replace(trip, state=State.ESCALATED, outcome=UNKNOWN, sweep=sweep)
            self._status[f"why {trip.id}"] = f"OMS {trip.scope.oms} no longer has whole_oms"

    def _new_id(self, stem: str, wall: float) -> str:
        """An id that no command can have: `~` is no letter of theirs."""
        at = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S")
        return f"{stem}~{at}~{self._numbers['serial'] + 1}"

    def _press(self, trip: Trip, cause: CauseView, now: float, wall: float) -> int:
        """A latched trip is pressed again by a person: the scope's cancels leave again, at once."""
        trip = trip.with_cause(cause)
        self._trips[trip.id] = trip
        n = self._outbox.record(CauseAdded(trip.id, cause), wall, urgent=True)
        if trip.state is State.CONFIRMED:
            self._change(trip.id, Input.TRIP, "pressed again", now, wall)
        else:
            # A fresh sweep: what was refused may be allowed by now. Its deadline stays.
            self._trips[trip.id] = replace(trip, sweep=self._sweeper.fresh(now))
            self._sweeper.lanes.press(self._trips[trip.id], by_person=True)
            self._stir.add(trip.scope.oms)
        return n

    def _trip_requested(self, event: TripRequested, now: float) -> None:
        used = self._desk.before(event.id)
        trip = self._trips.get(event.id)
        if used is not None or trip is not None:
            if trip is not None and used is not None and used.digest == event.digest:
                self._press(trip, _cause(f"{event.by}: {event.reason}", "command", event.wall), now, event.wall)
                self._desk.repeat(event, used)
            else:
                self._desk.refuse(event, "trip", "id already used")
            return
        refusal = self._refuses(event.scope)
        if refusal is not None:
            self._desk.refuse(event, "trip", refusal)
            return
        kind = "http" if event.via == "http" else "command"
        age = "" if event.issued_at is None else f", {max(event.wall - event.issued_at, 0):.0f} s old"
        cause = _cause(f"{event.by}: {event.reason}", kind, event.wall)
        trip = replace(self._trip(event.id, event.scope, cause, event.by, now), command_id=event.id)
        self._latch(trip, now, event.digest)
        self._desk.accept(event, "trip", event.id, f"tripped{age}")

    def _refuses(self, scope: Scope) -> str | None:
        site = self._book.sites.get(scope.oms)
        if site is None:
            return "no OMS of that name is configured"
        if scope.whole and not site.whole_oms:
            return "the scope names neither account nor user, and its OMS has no whole_oms"
        return None

    def _button_pressed(self, event: ButtonPressed, now: float) -> None:
        cause = _cause(f"button {event.button} pressed", "panic", event.wall)
        for trip in self._trips.values():
            if trip.button == event.button and trip.scope == event.scope:
                self._desk.pressed(event, self._press(trip, cause, now, event.wall))
                return
        id_ = self._new_id(event.button, event.wall)
        trip = replace(self._trip(id_, event.scope, cause, event.button, now), button=event.button)
        self._desk.pressed(event, self._latch(trip, now))

    def _trip_everything(self, event: EverythingTripped, now: float) -> None:
        """Every configured scope: the whole OMS where that is allowed, else each of its accounts."""
        cause = _cause(f"{event.by}: {event.reason}", "signal", event.wall)
        for site in self.settings.sites:
            accounts = (EVERY,) if site.whole_oms else site.accounts
            for account in accounts:
                scope = Scope(oms=site.name, account=account, user=EVERY, instrument=EVERY)
                held = [t for t in self._trips.values() if t.scope == scope and t.causes[0].kind == "signal"]
                if held:
                    self._press(held[0], cause, now, event.wall)
                else:
                    id_ = self._new_id("signal", event.wall)
                    self._latch(self._trip(id_, scope, cause, event.by, now), now)

    def _retained_found(self, event: RetainedTripFound, now: float) -> None:
        """The broker holds a trip of ours: known, ended, or, when the journal is new, to be latched again."""
        if event.trip in self._trips:
            return
        if not self._fresh_journal or event.trip in self._removed or event.scope is None:
            self._outbox.put(ClearTrip(event.trip))
            return
        cause = _cause(f"{event.cause} (found retained, not in the journal)", "retained", event.wall)
        self._latch(self._trip(event.trip, event.scope, cause, event.by, now), now)

    # --- rules

    def _watched(self, event: Event, now: float) -> None:
        self._believe(self._watch.handle(event, now), now, event.wall)

    def _believe(self, findings: tuple[rules.Breach | rules.Warned, ...], now: float, wall: float) -> None:
        for finding in findings:
            match finding:
                case rules.Breach():
                    self._breached(finding, now, wall)
                case rules.Warned():
                    n = self._outbox.record(Noted(finding.kind, finding.text), wall)
                    self._outbox.event(finding.kind, finding.text, wall, n=n)
                case _:
                    assert_never(finding)

    def _breached(self, breach: rules.Breach, now: float, wall: float) -> None:
        """A rule trips on the edge of its breach; while it lasts its cause is brought up to date."""
        cause = CauseView(
            breach.text, breach.rule, breach.kind, breach.labels, wall, wall, 1, breach.value, breach.value
        )
        held = [t for t in self._trips.values() if t.scope == breach.scope and t.by_rule]
        if not held:
            if not breach.repeated:
                id_ = self._new_id(breach.rule, wall)
                self._latch(self._trip(id_, breach.scope, cause, f"rule {breach.rule}", now), now)
            return
        trip = held[0]
        known = any(c.rule == breach.rule and c.labels == breach.labels for c in trip.causes)
        self._trips[trip.id] = trip.with_cause(cause)
        if known:
            return
        self._outbox.record(CauseAdded(trip.id, cause), wall, urgent=True)
        if trip.state is State.CONFIRMED:
            self._change(trip.id, Input.TRIP, breach.text, now, wall)

    # --- resetting

    def _reset_requested(self, event: ResetRequested, now: float) -> None:
        used = self._desk.before(event.id)
        if used is not None:
            if used.digest == event.digest and used.trip == event.trip:
                self._desk.repeat(event, used)
            else:
                self._desk.refuse(event, "reset", "id already used")
            return
        trip = self._trips.get(event.trip)
        refusal = "no such trip" if trip is None else self._refuses_reset(trip, event, now)
        if trip is None or refusal is not None:
            self._desk.refuse(event, "reset", refusal or "no such trip")
            return
        removed = sorted({c.rule for c in trip.causes if c.rule and not self._has_rule(c.rule)})
        reason = f"rule removed: {', '.join(removed)}" if removed else "reset"
        if trip.ghosts:
            reason += f"; {len(trip.ghosts)} cancels on dead sessions may still execute: {trip.ghosts}"
        body = WasReset(trip.id, event.by, event.reason, event.id, event.digest, trip.ghosts)
        n = self._outbox.record(body, event.wall, urgent=True)
        del self._trips[trip.id]
        self._removed[trip.id] = True
        for what in ("overdue", "remind"):
            self._agenda.clear((what, trip.id))
        self._sweeper.forget(trip)
        self._announced.pop(trip.id)
        self._outbox.forget_trip(trip.id)
        self._outbox.after(ClearTrip(trip.id), n)
        text = f"{trip.scope.in_words()}: reset by {event.by}: {event.reason}"
        self._outbox.event("reset", text, event.wall, trip=trip.id, n=n)
        self._desk.accept(event, "reset", trip.id, reason)
        self._status["announce"] = "yes"
        self._stir.add(trip.scope.oms)

    def _refuses_reset(self, trip: Trip, event: ResetRequested, now: float) -> str | None:
        """Why this trip can't be reset now, or None."""
        if abs(event.wall - event.issued_at) > self.settings.reset_max_age_s:
            return "issued_at is too far from now"
        if event.override:
            return "an override needs signed commands, which this version does not have"
        target = TRANSITIONS[trip.state, Input.RESET]
        if target is Verdict.REFUSED:
            return trip.state.value
        for cause in trip.causes:
            if cause.rule and self._has_rule(cause.rule):
                uncalm = self._watch.uncalm(cause.rule, cause.labels, now)
                if uncalm is not None:
                    return uncalm
        under_way = [c for c in self._book.cancels_under_way(trip.scope) if self._rests_on(trip, c.scope)]
        if not under_way:
            return None
        for call in under_way:
            session = self._book.sessions[call.session]
            overtaken = session.answered > call.number and now - (call.sent_at or call.asked_at) > STUCK_S
            if overtaken:
                # It would block the reset for ever; what can't be answered any more must not linger.
                self._outbox.put(DropSession(session.oms, session.number, f"call {call.number} was never answered"))
                return f"cancel {call.number} was never answered; its connection is being replaced, try again"
        return f"{len(under_way)} cancels are unanswered"

    def _rests_on(self, trip: Trip, scope: Scope) -> bool:
        """A cancel under way would still act for this trip only: no other latched scope asks for it."""
        return scope.meets(trip.scope) and not any(
            other.id != trip.id and other.scope.covers(scope) for other in self._trips.values()
        )

    def _has_rule(self, name: str) -> bool:
        return any(rule.name == name for rule in self.settings.rules)

    # --- sessions and snapshots

    def _session_up(self, event: SessionUp, now: float) -> None:
        self._book.sessions[event.session] = Session(event.session, event.oms, event.gateway, now)
        self._links[event.oms, event.gateway] = (True, now, "")
        self._outbox.put(AnnounceEvent("session_up", f"{event.oms}: signed in at {event.gateway}", event.wall))
        self._sweeper.session_up(event.oms)
        self._watched(event, now)
        self._stir.add(event.oms)
        if any(f.kind == "oms" and f.oms == event.oms for f in self.settings.feeds):
            self._agenda.set(("snapshot", event.oms), now)
            self._wake_up(now, event.wall)

    def _session_down(self, event: SessionDown, now: float) -> None:
        session = self._book.sessions.pop(event.session)
        self._links[event.oms, event.gateway] = (False, now, event.why)
        if session is None:
            return
        for call in self._book.calls.values():
            if call.session == event.session:  # the adapter told of each; this is for one that didn't
                self._looks.failed(call.number)
                self._sweeper.lost(call.number, now, event.wall, "its session is gone")
        self._outbox.put(AnnounceEvent("session_down", f"{event.oms}: {event.gateway}: {event.why}", event.wall))
        self._sweeper.session_down(session)
        self._watched(event, now)
        self._stir.add(event.oms)

    def _snapshot(self, oms: str, now: float) -> None:
        """Positions and open orders of every account; after the sweeps that are under way."""
        feeds = [f for f in self.settings.feeds if f.kind == "oms" and f.oms == oms]
        session = self._book.session_for(oms)
        if not feeds or session is None:
            return
        sweeping = any(t.scope.oms == oms and t.state is not State.CONFIRMED for t in self._trips.values())
        young = now - session.up_at < self.settings.confirm.deadline_s
        if (sweeping and young) or not self._book.may_call(oms, now, keep=0.3):
            self._agenda.set(("snapshot", oms), now + SNAPSHOT_AFTER_SWEEP_S)
            return
        self._agenda.set(("snapshot", oms), now + min(f.snapshot_every_s for f in feeds))
        timeout_s = self.settings.retry.list_timeout_s
        for account in self._book.sites[oms].accounts:
            look = Scope(oms=oms, account=account, user=EVERY, instrument=EVERY)
            call = self._book.new_call(session, "GetAccountPositions", look, now)
            self._outbox.put(ListPositions(call.number, session.number, oms, account))
            self._agenda.set(("call", call.number), now + timeout_s)
            if not self._book.lists_under_way(oms, account):
                call = self._book.new_call(session, "GetOpenOrders", look, now)
                self._outbox.put(ListOpenOrders(call.number, session.number, oms, account))
                self._agenda.set(("call", call.number), now + timeout_s)

    def _cancel_rejected(self, event: CancelRejected, now: float) -> None:
        """A refusal that came as an event: look again, soon."""
        text = f"{event.oms}: account {event.account}: a cancel was rejected later: {event.reason}"
        n = self._outbox.record(Noted("cancel_rejected", text), event.wall)
        self._outbox.event("cancel_rejected", text, event.wall, n=n)
        for trip in self._trips.values():
            if trip.scope.oms == event.oms and trip.scope.account in (EVERY, event.account):
                self._trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self._book.next_call, now))
        self._stir.add(event.oms)

    # --- pictures

    def _announce(self) -> None:
        """Announce the trips that look different now, and the state, once the journal has what led to it."""
        n = self._outbox.last_n
        views = tuple(self._view_trip(t) for t in self._trips.values())
        for view in views:
            seen = self._announced.get(view.trip)
            if seen is None or replace(seen, verified_wall=None) != replace(view, verified_wall=None):
                self._announced[view.trip] = view
                self._outbox.after(AnnounceTrip(view), n)
        brief = (self._worst(), tuple(replace(v, verified_wall=None) for v in views))
        if self._last_state.get("state") != brief:
            self._last_state["state"] = brief
            self._outbox.after(AnnounceState(self._worst().value, views), n)

    def begin(self, version: str, config: str, wall: float) -> tuple[Action, ...]:
        """What is true before any event: for the start, once the journal is read. `config`: its fingerprint."""
        self._outbox.record(Started(self.settings.daemon, version, config), wall)
        for note in self._notes:
            self._outbox.record(Noted("note", note), wall)
        self._announce()
        self._undo.commit()
        return self._outbox.take()

    def end(self, wall: float) -> tuple[Action, ...]:
        """The last record of an orderly stop: what is not confirmed, in words."""
        left = ", ".join(t.id for t in self._trips.values() if t.state is not State.CONFIRMED)
        self._outbox.record(Stopped(self.settings.daemon, left), wall)
        self._undo.commit()
        return self._outbox.take()

    def _worst(self) -> State:
        states = [t.state for t in self._trips.values()]
        return max(states, key=SEVERITY.index, default=State.ARMED)

    def _view_trip(self, trip: Trip) -> TripView:
        looked, unseen = self._sweeper.evidence.looked_at(trip)
        return TripView(
            trip=trip.id,
            state=trip.state.value,
            scope=trip.scope,
            causes=trip.causes,
            by=trip.by,
            tripped_wall=trip.tripped_wall,
            calls=trip.calls,
            orders_left=self._sweeper.evidence.orders_left(trip),
            outcome=VERIFIED if trip.state is State.CONFIRMED else trip.outcome,
            covers=COVERS,
            verified_wall=trip.verified_wall,
            accounts_looked_at=looked,
            accounts_unseen=unseen,
        )

    def _view_oms(self, site: Site, now: float) -> OmsView:
        trips = [t for t in self._trips.values() if t.scope.oms == site.name]
        left = [self._sweeper.evidence.orders_left(t) for t in trips]
        rounds = [t.sweep.round_ended_at for t in trips]
        known = [r for r in rounds if r is not None]
        sessions = []
        for (oms, gateway), (up, since, why) in self._links.items():
            if oms == site.name:
                number = next((s.number for s in self._book.sessions.values() if s.gateway == gateway), None)
                sessions.append(SessionView(oms, gateway, up, number, now - since, why))
        return OmsView(
            oms=site.name,
            sessions=tuple(sessions),
            orders_left=None if None in left else sum(n for n in left if n is not None),
            proof_age_s=now - min(known) if known and len(known) == len(rounds) else None,
            guard_every_s=self._sweeper.guard_every_s(site.name),
            uncovered_accounts=self._watch.uncovered(site.name, site.accounts),
        )

    def _missing(self) -> tuple[str, ...]:
        missing = [
            f"no signed-in session to {site.name}"
            for site in self.settings.sites
            if self._book.session_for(site.name) is None
        ]
        missing += [
            f"trip {t.id}: OMS {t.scope.oms} is not configured"
            for t in self._trips.values()
            if t.scope.oms not in self._book.sites
        ]
        error = self._status.get("journal")
        if error is not None:
            missing.append(f"the journal can't be written: {error}")
        return tuple(missing)

    # --- pieces

    def _stir_up(self, oms: str | None) -> None:
        if oms is not None:
            self._stir.add(oms)

    def _stir_call(self, session: int) -> None:
        held = self._book.sessions.get(session)
        self._stir_up(held.oms if held is not None else None)

    def _oms_of(self, trip: str) -> str | None:
        held = self._trips.get(trip)
        return held.scope.oms if held is not None else None

    def _check(self) -> None:
        """What must be true of the state itself after every event."""
        for trip in self._trips.values():
            if trip.state is State.ARMED:
                raise InvariantBroken(f"trip {trip.id} is latched and armed")
            if trip.state is State.CONFIRMED and trip.verified_wall is None:
                raise InvariantBroken(f"trip {trip.id} is confirmed without a round")


def _cause(text: str, kind: str, wall: float) -> CauseView:
    return CauseView(text, "", kind, (), wall, wall, 1)

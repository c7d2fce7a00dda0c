"""The switch: the only place where anything is decided.

`handle(event, now)` takes a fact and returns what must be done; it has no clock and no I/O. It commits at its
end: an exception inside changes nothing, the event is set aside, and the next one is handled.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from killswitch.domain.alarms import Alarms
from killswitch.domain.census import Census
from killswitch.domain.life import InvariantBroken, Life
from killswitch.domain.links import Links
from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Action,
    AnnounceEvent,
    Answered,
    BadReading,
    Beat,
    Beside,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CancelRejected,
    ClockStepped,
    CommandRefused,
    Event,
    EverythingTripped,
    FeedDown,
    FeedUp,
    Heard,
    HttpDown,
    HttpUp,
    Instruments,
    JournalFailed,
    Journalled,
    Keep,
    LinkFailed,
    LookRequested,
    LoopStood,
    Lost,
    NamesTold,
    Noted,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    Reconfigured,
    ReloadFailed,
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
    TradeSeen,
    TripRequested,
)
from killswitch.domain.parts import Parts
from killswitch.domain.people import People
from killswitch.domain.picture import Picture
from killswitch.domain.reload import Reload
from killswitch.domain.scope import Scope
from killswitch.domain.tickers import Tickers
from killswitch.domain.trips import Input, State

if TYPE_CHECKING:
    from collections.abc import Hashable

    from killswitch.domain.messages import KeptWindow
    from killswitch.domain.settings import Settings
    from killswitch.domain.view import View

__all__ = ["InvariantBroken", "KillSwitch"]


PUT_OFF_S: Final = 1.0
"""What is due and can't be handled is tried again so much later."""


class KillSwitch:
    """Rules, latches, sweeps and commands of one daemon."""

    def __init__(self, settings: Settings, restored: Restored, now: float) -> None:
        self._parts = Parts(settings, restored, now)
        self._life = Life(self._parts)
        self._alarms = Alarms(self._parts, self._life)
        self._people = People(self._parts, self._life, restored.ended)
        self._tickers = Tickers(self._parts)
        self._census = Census(self._parts)
        self._links = Links(self._parts, self._alarms, self._tickers)
        self._reload = Reload(self._parts, self._alarms, self._links)
        self._picture = Picture(self._parts, restored.warnings)
        for site in settings.sites:
            for gateway in site.gateways:
                self._parts.gateways[site.name, gateway] = (False, now, "not connected yet")
        for held in restored.trips:
            self._life.relatch(held, now)
        self._parts.undo.commit()

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
            self._set_aside(event, traceback.format_exc(), now)
            if isinstance(event, Tick):
                return self._wake_one_by_one(event, now)
        self._parts.undo.commit()
        return self._parts.outbox.take()

    def view(self, now: float) -> View:
        """All that can be seen from outside, as it is at `now`."""
        return self._picture.view(now)

    def due(self) -> float | None:
        """When a Tick is wanted next (monotonic seconds), or None."""
        return self._parts.agenda.due()

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case Tick():
                self._wake_up(now, event.wall)
            case Reading() | BadReading() | Beat() | FeedUp() | FeedDown() | Heard() | LoopStood():
                self._alarms.watched(event, now)
            case PositionSeen():
                self._parts.sweeper.met(event.oms, event.row.account, now)
                self._alarms.watched(event, now)
            case TripRequested():
                self._people.trip_requested(event, now)
            case ResetRequested():
                self._people.reset_requested(event, now)
            case ButtonPressed():
                self._people.button_pressed(event, now)
            case CommandRefused():
                self._parts.desk.malformed(event)
            case EverythingTripped():
                self._people.trip_everything(event, now)
            case LookRequested():
                self._parts.looks.begin(event, now)
            case Journalled():
                self._parts.status.pop("journal")
                self._parts.desk.journalled(event.n)
                self._parts.outbox.journalled(event.n)
            case JournalFailed():
                if self._parts.status.get("journal") is None:
                    self._parts.outbox.put(AnnounceEvent("journal_failed", event.why, event.wall))
                self._parts.status["journal"] = event.why
            case BrokerUp():
                self._parts.brokers[event.broker] = (True, "")
                self._parts.desk.broker_up(event.broker, event.window)
            case BrokerDown():
                self._parts.brokers[event.broker] = (False, event.why)
                self._parts.desk.broker_down(event.broker)
            case RetainedTripFound():
                self._people.retained_found(event, now)
            case ClockStepped():
                self._clock_stepped(event, now)
            case Reconfigured():
                self._reload.take(event, now)
            case ReloadFailed():
                self._reload.failed(event)
            case Stopping():
                self._parts.status["stopping"] = "yes"
            case HttpUp() | HttpDown():
                self._links.over_http(event, now)
            case _:
                self._dispatch_oms(event, now)

    def _clock_stepped(self, event: ClockStepped, now: float) -> None:
        side = "forward" if event.by_s > 0 else "back"
        text = f"our wall clock was set {side} by {abs(event.by_s):.1f} s: nothing is older or younger for it"
        n = self._parts.outbox.record(Noted("clock_stepped", text), event.wall)
        self._parts.watch.memory.tell_again(now)
        self._parts.outbox.event("clock_stepped", text, event.wall, n=n)

    def _dispatch_oms(self, event: Event, now: float) -> None:
        """Events of an OMS."""
        expired = self._parts.expiry.told(event, now)
        if expired and isinstance(event, Answered):
            self._lost(Lost(wall=event.wall, call=event.call, session=event.session, why=expired), now, executes=False)
            return
        match event:
            case SessionUp():
                self._links.session_up(event, now)
                self._census.session_up(event, now)
            case SessionDown():
                self._links.session_down(event, now)
                self._census.session_down(event)
            case SignInRefused() | LinkFailed():
                self._links.failed(event, now)
            case Sent():
                self._parts.sweeper.sent(event.call, event.session, now, event.wall)
                self._parts.stir_session(event.session)
            case Answered():
                self._links.answered(event, now)
                self._parts.look_failed(event.call, now)
                why = event.answer.text or f"answer {event.answer.label}"
                self._parts.credentials.failed(event.call, why, now, event.wall)
                self._tickers.answered(event, now)
                self._census.answered(event, now)
                self._parts.stir_up(self._parts.sweeper.answered(event, now))
            case OpenOrders():
                self._parts.looks.listed(event)
                self._parts.shadows.listed(event, now)
                self._parts.stir_up(self._parts.sweeper.listed(event, now))
                self._alarms.watched(event, now)
            case NamesTold():
                self._parts.credentials.told(event, now)
            case AccountsFound() | AccountsListed():
                self._accounts_told(event, now)
            case Lost():
                self._lost(event, now)
            case OrderWorking():
                if self._parts.sweeper.order_working(event.oms, event.order, now, event.wall):
                    self._parts.stir.add(event.oms)
                self._alarms.watched(event, now)
            case OrderEnded():
                if self._parts.sweeper.wider.ended(event, now):
                    self._parts.stir.add(event.oms)
                self._parts.sweeper.order_ended(event.oms, event.order, now)
                self._alarms.watched(event, now)
            case CancelRejected():
                self._links.cancel_rejected(event, now)
            case _:
                self._dispatch_market(event, now)

    def _accounts_told(self, event: AccountsFound | AccountsListed, now: float) -> None:
        if isinstance(event, AccountsFound):
            self._parts.stir_up(self._parts.sweeper.accounts_found(event, now))
        else:
            self._census.listed(event, now)
        self._people.pay_debts(now)

    def _nothing_came(self, call: int, why: str, now: float, wall: float) -> None:
        """Of a call that isn't waited for any more, or too long."""
        self._parts.look_failed(call, now)
        self._parts.credentials.failed(call, why, now, wall)
        self._census.failed(call, why, now)

    def _lost(self, event: Lost, now: float, *, executes: bool = True) -> None:
        """Nothing will be heard of a call. `executes`: it may be carried out all the same."""
        self._tickers.failed(event.call, now)
        self._nothing_came(event.call, event.why, now, event.wall)
        self._parts.stir_up(self._parts.sweeper.lost(event.call, now, event.wall, event.why, executes=executes))

    def _dispatch_market(self, event: Event, now: float) -> None:
        """Events of an OMS that mean something to rules only, or to proofs only: no rule reads quotes."""
        match event:
            case Beside():
                self._parts.stir_up(self._parts.sweeper.extra.heard(event, now))
            case Positions():
                self._call_over(event.call, event.session)
            case Instruments():
                self._call_over(event.call, event.session)
                self._tickers.answered_by(event.call, now)
            case PriceSeen():
                if event.call is not None:
                    self._call_over(event.call, event.session)
                    self._tickers.answered_by(event.call, now)
            case TradeSeen() | OrderRejected():
                self._parts.sweeper.met(event.oms, event.account, now)
            case _:
                raise TypeError(f"no such event: {type(event).__name__}")
        self._alarms.watched(event, now)

    def _wake_up(self, now: float, wall: float) -> None:
        while (what := self._parts.agenda.take(now)) is not None:
            self._wake(what, now, wall)

    def _wake_one_by_one(self, event: Tick, now: float) -> tuple[Action, ...]:
        """Something that was due can't be handled: the rest of it is, and that is put off instead of due for ever."""
        self._parts.undo.commit()
        done = [*self._parts.outbox.take()]
        while (what := self._parts.agenda.take(now)) is not None:
            try:
                self._wake(what, now, event.wall)
                self._go_on(now, event.wall)
                self._check()
            except InvariantBroken:
                raise
            except Exception:  # noqa: BLE001  # as in handle, where it was told, but for this entry alone
                self._abandon()
                self._parts.agenda.set(what, now + PUT_OFF_S)
            self._parts.undo.commit()
            done += self._parts.outbox.take()
        return tuple(done)

    def _wake(self, what: Hashable, now: float, wall: float) -> None:
        match what:
            case ("watch", *_):
                self._alarms.believe(self._parts.watch.wake(what, now), now, wall)
            case ("keep", *_):
                self._keep(self._parts.watch.memory.wake(what, now), now, wall)
            case ("call", int(number)):
                self._tickers.timed_out(number, now)
                self._nothing_came(number, "not answered", now, wall)
                self._parts.stir_up(self._parts.sweeper.timed_out(number, now, wall))
            case ("hedge", int(number)):
                self._parts.stir_up(self._parts.sweeper.lanes.hedges.due(number, now))
            case ("lane", Scope() as scope):
                self._parts.stir.add(scope.oms)
            case ("resort", str(oms)):
                self._parts.stir.add(oms)
            case ("look", str(trip)):
                self._parts.stir_up(self._oms_of(trip))
            case ("blind", str(trip)):
                self._life.change(trip, Input.BLIND, "the last full round is too old", now, wall)
            case ("overdue", str(trip)):
                self._life.change(
                    trip, Input.OVERDUE, f"not within {self._parts.settings.confirm.deadline_s:g} s", now, wall
                )
            case ("untold", str(trip)):
                self._parts.outbox.tell_now(trip)
            case ("remind", str(trip)):
                self._life.remind(trip, now, wall)
            case ("shadow", str(trip)):
                self._parts.shadows.wake(trip, now, wall)
            case ("shadows", str(oms)):
                self._parts.shadows.serve(oms, now, wall)
            case ("tickers", str(oms)):
                self._tickers.go_on(oms, now)
            case ("credential", int(session)):
                self._parts.credentials.wake(session, now)
            case ("preview", int(number)):
                self._parts.looks.go_on(number, now)
            case ("snapshot", str(oms)):
                self._links.snapshot(oms, now)
            case ("census", str(oms)):
                self._census.go_on(oms, now)
            case ("hear", str(oms)):
                self._census.hear(oms, now)
            case ("afresh", str(oms)):
                self._links.look_again(oms, now)
            case _:
                raise TypeError("an entry of the agenda that nobody knows")

    def _go_on(self, now: float, wall: float) -> None:
        """Let the sweeps act, put what they found through the table, and again, until it is quiet."""
        touched: set[str] = set()
        while self._parts.stir or self._parts.sweeper.changes:
            changes, self._parts.sweeper.changes[:] = tuple(self._parts.sweeper.changes), []
            for trip, input_, why in changes:
                self._life.change(trip, input_, why, now, wall)
            stirred, self._parts.stir = self._parts.stir, set()
            touched |= stirred
            for oms in stirred:
                self._parts.sweeper.advance(oms, now, wall)
                self._parts.sweeper.resort.send(oms, now, wall)
        if touched or self._parts.status.pop("announce"):
            self._picture.announce()

    def _abandon(self) -> None:
        self._parts.undo.rollback()
        self._parts.outbox.drop()
        self._parts.stir.clear()
        self._parts.sweeper.changes.clear()

    def _set_aside(self, event: Event, trace: str, now: float) -> None:
        """A fault of ours: keep it, tell people, and answer whoever waits."""
        name = type(event).__name__
        self._parts.outbox.record(SetAside(name, trace[-4000:]), event.wall)
        kind = "set_aside"
        match event:
            case TripRequested() | ResetRequested():
                self._parts.desk.set_aside(event.id, event.via, event.token, event.wall)
                kind = "escalated" if isinstance(event, TripRequested) else kind
            case ButtonPressed():
                self._parts.desk.set_aside(None, event.via, event.token, event.wall)
                kind = "escalated"
            case CommandRefused():
                self._parts.desk.set_aside(event.id, event.via, event.token, event.wall)
            case OpenOrders() | AccountsFound() | AccountsListed() | Positions() | Instruments() | Answered():
                self._ask_again(event.call, now)
            case PriceSeen(call=int(number)) | Beside(call=number):
                self._ask_again(number, now)
            case _:
                pass
        self._parts.outbox.put(
            AnnounceEvent(kind, f"an event could not be handled and was set aside: {name}", event.wall)
        )

    def _ask_again(self, number: int, now: float) -> None:
        """An answer was set aside: nothing more will come of its call, so it must not be waited for."""
        call = self._parts.book.end(number)
        self._parts.look_failed(number, now)
        self._tickers.failed(number, now)
        self._census.failed(number, "its answer was set aside", now)
        if call is not None:
            for trip in self._parts.sweeper.evidence.latched(call.oms):
                self._parts.agenda.set(("look", trip.id), now + self._parts.settings.retry.first_s)

    def begin(self, version: str, config: str, wall: float) -> tuple[Action, ...]:
        """What is true before any event: for the start, once the journal is read. `config`: its fingerprint."""
        self._parts.outbox.record(Started(self._parts.settings.daemon, version, config), wall)
        for note in (*self._picture.notes, *self._picture.gaps()):
            self._parts.outbox.record(Noted("note", note), wall)
        self._picture.announce()
        self._parts.undo.commit()
        return self._parts.outbox.take()

    def end(self, now: float, wall: float) -> tuple[Action, ...]:
        """The end of an orderly stop: a record of what is not confirmed, and the windows as they stand."""
        left = "; ".join(self._life.left(t) for t in self._parts.trips.values() if t.state is not State.CONFIRMED)
        self._parts.outbox.record(Stopped(self._parts.settings.daemon, left), wall)
        self._keep(self._parts.watch.memory.all(now), now, wall)
        self._parts.undo.commit()
        return self._parts.outbox.take()

    def _call_over(self, number: int, session: int) -> None:
        """A call that no sweep rests on was answered."""
        call = self._parts.book.answered(number, session)
        if call is not None:
            self._parts.agenda.clear(("call", call.number))

    def _keep(self, windows: tuple[KeptWindow, ...], now: float, wall: float) -> None:
        if windows:
            self._parts.outbox.put(Keep(wall, now, windows))

    def _oms_of(self, trip: str) -> str | None:
        held = self._parts.trips.get(trip)
        return held.scope.oms if held is not None else None

    def _check(self) -> None:
        """What must be true of the state itself after every event."""
        for trip in self._parts.trips.values():
            if trip.state is State.ARMED:
                raise InvariantBroken(f"trip {trip.id} is latched and armed")
            if trip.state is State.CONFIRMED and trip.verified_wall is None:
                raise InvariantBroken(f"trip {trip.id} is confirmed without a round")

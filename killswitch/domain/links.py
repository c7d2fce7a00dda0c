"""Sessions come and go: what that means for sweeps, and the snapshots that a feed begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.book import Session
from killswitch.domain.messages import (
    AnnounceEvent,
    CancelRejected,
    ListOpenOrders,
    ListPositions,
    Noted,
    SessionDown,
    SessionUp,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import (
    State,
)

if TYPE_CHECKING:
    from killswitch.domain.alarms import Alarms
    from killswitch.domain.parts import Parts


SNAPSHOT_AFTER_SWEEP_S: Final = 1.0


class Links:
    """Sessions and snapshots."""

    def __init__(self, parts: Parts, alarms: Alarms) -> None:
        self._parts = parts
        self._alarms = alarms

    def session_up(self, event: SessionUp, now: float) -> None:
        self._parts.book.sessions[event.session] = Session(event.session, event.oms, event.gateway, now)
        self._parts.gateways[event.oms, event.gateway] = (True, now, "")
        self._parts.outbox.put(AnnounceEvent("session_up", f"{event.oms}: signed in at {event.gateway}", event.wall))
        self._parts.sweeper.session_up(event.oms)
        self._alarms.watched(event, now)
        self._parts.stir.add(event.oms)
        if any(f.kind == "oms" and f.oms == event.oms for f in self._parts.settings.feeds):
            self.snapshot(event.oms, now)

    def session_down(self, event: SessionDown, now: float) -> None:
        session = self._parts.book.sessions.pop(event.session)
        self._parts.gateways[event.oms, event.gateway] = (False, now, event.why)
        if session is None:
            return
        for call in self._parts.book.calls.values():
            if call.session == event.session:  # the adapter told of each; this is for one that didn't
                self._parts.looks.failed(call.number)
                self._parts.sweeper.lost(call.number, now, event.wall, "its session is gone")
        self._parts.outbox.put(AnnounceEvent("session_down", f"{event.oms}: {event.gateway}: {event.why}", event.wall))
        self._parts.sweeper.session_down(session)
        self._alarms.watched(event, now)
        self._parts.stir.add(event.oms)

    def snapshot(self, oms: str, now: float) -> None:
        """Positions and open orders of every account; after the sweeps that are under way."""
        feeds = [f for f in self._parts.settings.feeds if f.kind == "oms" and f.oms == oms]
        session = self._parts.book.session_for(oms)
        if not feeds or session is None:
            return
        sweeping = any(t.scope.oms == oms and t.state is not State.CONFIRMED for t in self._parts.trips.values())
        young = now - session.up_at < self._parts.settings.confirm.deadline_s
        if (sweeping and young) or not self._parts.book.may_call(oms, now, keep=0.3):
            self._parts.agenda.set(("snapshot", oms), now + SNAPSHOT_AFTER_SWEEP_S)
            return
        self._parts.agenda.set(("snapshot", oms), now + min(f.snapshot_every_s for f in feeds))
        timeout_s = self._parts.settings.retry.list_timeout_s
        for account in self._parts.book.sites[oms].accounts:
            look = Scope(oms=oms, account=account, user=EVERY, instrument=EVERY)
            call = self._parts.book.new_call(session, "GetAccountPositions", look, now)
            self._parts.outbox.put(ListPositions(call.number, session.number, oms, account))
            self._parts.agenda.set(("call", call.number), now + timeout_s)
            if not self._parts.book.lists_under_way(oms, account):
                call = self._parts.book.new_call(session, "GetOpenOrders", look, now)
                self._parts.outbox.put(ListOpenOrders(call.number, session.number, oms, account))
                self._parts.agenda.set(("call", call.number), now + timeout_s)

    def cancel_rejected(self, event: CancelRejected, now: float) -> None:
        """A refusal that came as an event: look again, soon."""
        text = f"{event.oms}: account {event.account}: a cancel was rejected later: {event.reason}"
        n = self._parts.outbox.record(Noted("cancel_rejected", text), event.wall)
        self._parts.outbox.event("cancel_rejected", text, event.wall, n=n)
        for trip in self._parts.trips.values():
            if trip.scope.oms == event.oms and trip.scope.account in (EVERY, event.account):
                self._parts.trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self._parts.book.next_call, now))
        self._parts.stir.add(event.oms)

"""Sessions come and go: what that means for sweeps, and the snapshots that a feed begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.book import Session
from killswitch.domain.messages import (
    AnnounceEvent,
    CancelRejected,
    HttpDown,
    HttpUp,
    ListOpenOrders,
    ListPositions,
    Noted,
    SessionDown,
    SessionUp,
    SignInRefused,
)
from killswitch.domain.paths import watching
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import (
    State,
)
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.alarms import Alarms
    from killswitch.domain.messages import Answered, LinkFailed
    from killswitch.domain.parts import Parts
    from killswitch.domain.tickers import Tickers


SNAPSHOT_AFTER_SWEEP_S: Final = 1.0
SAME_WITHIN_S: Final = 5.0
"""Two sessions tell of one rejection within so long; a dead one is found by then."""
KEEP_SHARE: Final = 0.3
"""Of the burst of calls: what a snapshot leaves for sweeps and guards."""


class Links:
    """Sessions and snapshots."""

    def __init__(self, parts: Parts, alarms: Alarms, tickers: Tickers) -> None:
        self._parts = parts
        self._alarms = alarms
        self._tickers = tickers
        self._snapshots: Table[str, tuple[float, int]] = Table(parts.undo)
        """OMS -> when the snapshot under way began, and how many calls of it have left."""
        self._watched_since: Table[str, float] = Table(parts.undo)
        """OMS -> since when its present session watches it."""
        self._rejected: Table[tuple[str, int, int | None, str], tuple[frozenset[int], float]] = Table(parts.undo)
        """(OMS, account, order, reason) -> the sessions that told of this rejected cancel, and since when."""

    def session_up(self, event: SessionUp, now: float) -> None:
        if event.oms not in self._parts.book.sites:
            return  # a reload took the OMS away while this was on its way
        self._parts.book.add_session(
            Session(event.session, event.oms, event.gateway, now, user=event.user), event.dialect
        )
        # The sign-in's own: who we are, the version, and the events of each account.
        self._parts.book.budget.spent(event.oms, 2 + len(self._parts.book.sites[event.oms].accounts), now)
        self._gateway(event.oms, event.gateway, now)
        self._parts.outbox.put(AnnounceEvent("session_up", f"{event.oms}: signed in at {event.gateway}", event.wall))
        self._parts.sweeper.session_up(self._parts.book.sessions[event.session], now)
        if not self._parts.sweeper.evidence.latched(event.oms):  # else its sweeps look, after their cancels
            self._parts.sweeper.extra.probe(self._parts.book.sessions[event.session], now)
        self._alarms.watched(event, now)
        self._parts.stir.add(event.oms)
        if self._watches(event.session, event.oms):
            self._watched_since[event.oms] = now
            self._snapshots.pop(event.oms)
            self.snapshot(event.oms, now)
        self._parts.credentials.begin(self._parts.book.sessions[event.session], now)

    def session_down(self, event: SessionDown, now: float) -> None:
        watched = self._watches(event.session, event.oms)
        session = self._parts.book.sessions.pop(event.session)
        self._gateway(event.oms, event.gateway, now, event.why)
        if session is None:
            return
        for call in self._parts.book.calls.values():
            if call.session == event.session:  # the adapter told of each; this is for one that didn't
                self._parts.look_failed(call.number, now)
                self._parts.sweeper.lost(call.number, now, event.wall, "its session is gone")
        self._parts.outbox.put(AnnounceEvent("session_down", f"{event.oms}: {event.gateway}: {event.why}", event.wall))
        self._parts.credentials.session_down(session.number)
        self._parts.expiry.session_down(session.number)
        self._parts.sweeper.session_down(session)
        self._alarms.watched(event, now)
        self._tickers.session_down(event.session, event.oms, now)
        self._parts.stir.add(event.oms)
        if watched:
            # Whoever takes over has listed nothing yet; at the next Tick, for what is latched is cancelled first.
            self._watched_since[event.oms] = now
            self.look_again(event.oms, now)

    def _watches(self, session: int, oms: str) -> bool:
        first = watching(self._parts.book, oms)
        return first is not None and first.number == session

    def answered(self, event: Answered, now: float) -> None:
        """Where the server says that there were too many calls it is believed, and people hear of it once."""
        call = self._parts.book.calls.get(event.call)
        if (
            call is None
            or not event.answer.limited
            or not self._parts.book.budget.limited(call.oms, now, cancel=call.cancels)
        ):
            return
        text = f"{call.oms}: the server limits our calls ({event.answer.text}): lists are slowed down, cancels aren't"
        n = self._parts.outbox.record(Noted("rate_limited", text), event.wall)
        self._parts.outbox.event("rate_limited", text, event.wall, n=n)

    def over_http(self, event: HttpUp | HttpDown, now: float) -> None:
        """Signed in over HTTP, or no longer: for cancels, should no gateway answer."""
        if isinstance(event, HttpUp):
            self._http_up(event, now)
        else:
            self._http_down(event, now)

    def _http_up(self, event: HttpUp, now: float) -> None:
        book = self._parts.book
        if event.oms not in book.sites:
            return  # a reload took the OMS away while this was on its way
        book.resorts[event.oms] = Session(
            event.session, event.oms, event.gateway, now, dialect=event.dialect, lists=False
        )
        self._gateway(event.oms, event.gateway, now)
        text = f"{event.oms}: signed in at {event.gateway}, for cancels alone"
        self._parts.outbox.put(AnnounceEvent("session_up", text, event.wall))
        self._parts.sweeper.resort.up(event.oms)
        self._parts.stir.add(event.oms)

    def _http_down(self, event: HttpDown, now: float) -> None:
        book = self._parts.book
        held = book.resorts.get(event.oms)
        if held is not None and held.number == event.session:
            book.resorts.pop(event.oms)
            for call in book.calls.values():
                if call.session == event.session:  # the adapter told of each; this is for one that didn't
                    self._parts.sweeper.lost(call.number, now, event.wall, "its session is gone")
            text = f"{event.oms}: {event.gateway}: {event.why}"
            self._parts.outbox.put(AnnounceEvent("session_down", text, event.wall))
            self._parts.stir.add(event.oms)
        self._gateway(event.oms, event.gateway, now, event.why)

    def failed(self, event: SignInRefused | LinkFailed, now: float) -> None:
        """No session came of an attempt."""
        self._gateway(event.oms, event.gateway, now, event.why)
        if isinstance(event, SignInRefused):
            text = f"{event.oms}: {event.gateway} refused our sign-in: {event.why}"
            self._parts.outbox.event("sign_in_refused", text, event.wall)

    def _gateway(self, oms: str, gateway: str, now: float, why: str = "") -> None:
        """How a gateway stands: up while any session there is, for a reload may replace one by another."""
        before = self._parts.gateways.get((oms, gateway))
        site = self._parts.book.sites.get(oms)
        if before is None and (site is None or gateway not in site.gateways):
            return  # a reload took it away while this was on its way
        sessions = [*self._parts.book.sessions.values(), *self._parts.book.resorts.values()]
        up = any(s.oms == oms and s.gateway == gateway for s in sessions)
        since = before[1] if before is not None and before[0] == up else now
        self._parts.gateways[oms, gateway] = (up, since, "" if up else why)

    def forget(self, oms: str, now: float, wall: float) -> None:
        """The OMS is configured no more: what is under way there is not waited for."""
        resort = self._parts.book.resorts.get(oms)
        if resort is not None:
            why = "its OMS is configured no more"
            self._http_down(HttpDown(wall=wall, oms=oms, gateway=resort.gateway, session=resort.number, why=why), now)
        for session in self._parts.book.sessions.values():
            if session.oms == oms:
                why = "its OMS is configured no more"
                self.session_down(
                    SessionDown(wall=wall, oms=oms, gateway=session.gateway, session=session.number, why=why), now
                )
        self._snapshots.pop(oms)
        self._watched_since.pop(oms)
        self._rejected.drop(lambda key: key[0] == oms)
        self._parts.agenda.clear(("snapshot", oms))
        self._parts.credentials.forget(oms)
        self._parts.expiry.forget(oms)
        self._parts.book.forget(oms)
        self._parts.sweeper.remains.forget(oms)

    def look_again(self, oms: str, now: float) -> None:
        """What rules read of this OMS has changed: a whole snapshot, now."""
        self._snapshots.pop(oms)
        self._parts.agenda.set(("snapshot", oms), now)

    def snapshot(self, oms: str, now: float) -> None:
        """Positions and open orders of every account: after the sweeps that are under way, within the budget."""
        feeds = [f for f in self._parts.settings.feeds if f.kind == "oms" and f.oms == oms]
        session = watching(self._parts.book, oms)
        if not feeds or session is None:
            return
        sweeping = any(t.scope.oms == oms and t.state is not State.CONFIRMED for t in self._parts.trips.values())
        if sweeping and now - (self._watched_since.get(oms) or session.up_at) < self._parts.settings.confirm.deadline_s:
            self._parts.agenda.set(("snapshot", oms), now + SNAPSHOT_AFTER_SWEEP_S)
            return
        accounts = self._parts.book.roster(oms)
        if oms not in self._snapshots:
            self._tickers.begin(oms, now)
        began, asked = self._snapshots.get(oms) or (now, 0)
        while asked < 2 * len(accounts):  # first all positions, then all lists: most rules rest on the former
            # All at once would spend what the proof of a panic needs, and the venue's limit with it.
            if not self._parts.book.may_call(oms, now, keep=KEEP_SHARE):
                self._snapshots[oms] = (began, asked)
                again_at = self._parts.book.call_again_at(oms, now, keep=KEEP_SHARE)
                self._parts.agenda.set(("snapshot", oms), again_at)
                return
            self._look_at(session, accounts[asked % len(accounts)], now, positions=asked < len(accounts))
            asked += 1
        self._snapshots.pop(oms)
        next_at = began + min(f.snapshot_every_s for f in feeds)
        self._parts.agenda.set(("snapshot", oms), max(next_at, now + SNAPSHOT_AFTER_SWEEP_S))

    def _look_at(self, session: Session, account: int, now: float, *, positions: bool) -> None:
        oms = session.oms
        if not positions and self._parts.book.lists_under_way(oms, account):
            return
        look = Scope(oms=oms, account=account, user=EVERY, instrument=EVERY)
        name, kind = ("GetAccountPositions", ListPositions) if positions else ("GetOpenOrders", ListOpenOrders)
        call = self._parts.book.new_call(session, name, look, now)
        self._parts.outbox.put(kind(call.number, session.number, oms, account))
        self._parts.agenda.set(("call", call.number), now + self._parts.settings.retry.list_timeout_s)

    def cancel_rejected(self, event: CancelRejected, now: float) -> None:
        """A refusal that came as an event: look again, soon."""
        if self._is_news(event, now):
            text = f"{event.oms}: account {event.account}: a cancel was rejected later: {event.reason}"
            n = self._parts.outbox.record(Noted("cancel_rejected", text), event.wall)
            self._parts.outbox.event("cancel_rejected", text, event.wall, n=n)
        for trip in self._parts.trips.values():
            if trip.scope.oms == event.oms and trip.scope.account in (EVERY, event.account):
                self._parts.trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self._parts.book.next_call, now))
        self._parts.stir.add(event.oms)

    def _is_news(self, event: CancelRejected, now: float) -> bool:
        """Each session tells of it: what another one has just told is the same rejection."""
        key = (event.oms, event.account, event.order_id, event.reason)
        told, at = self._rejected.get(key) or (frozenset[int](), now)
        if told and event.session not in told and now - at < SAME_WITHIN_S:
            self._rejected[key] = (told | {event.session}, at)
            return False
        self._rejected.drop(lambda held: now - self._rejected[held][1] >= SAME_WITHIN_S)
        self._rejected[key] = (frozenset((event.session,)), now)
        return True

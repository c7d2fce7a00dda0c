"""Sweeper: carries the sweeps of all latched trips on, as far as the facts in the book allow.

Overlap is handled here: cancels go out for the outermost of the scopes that want one, and an account is
listed once however many trips meet it, while each trip counts its own evidence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.asking import Asking
from killswitch.domain.enumerations import Enumerations
from killswitch.domain.evidence import Evidence
from killswitch.domain.extra_looks import ExtraLooks
from killswitch.domain.gathering import Gathering
from killswitch.domain.lanes import Lanes
from killswitch.domain.last_resort import LastResort
from killswitch.domain.messages import (
    AnswerKind,
    Withdraw,
)
from killswitch.domain.paths import live, to_cancel
from killswitch.domain.refusals import Refusals
from killswitch.domain.remains import Remains
from killswitch.domain.scope import Holds, Scope
from killswitch.domain.sweep import Found, Next, Sweep, judge, names
from killswitch.domain.trips import RESIDUAL, UNKNOWN, Change, Input, State, Trip
from killswitch.domain.undo import Table
from killswitch.domain.wider import Wider
from killswitch.domain.witness import Witness, named

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call, Session
    from killswitch.domain.messages import AccountsFound, Answer, Answered, OpenOrders, Order
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Agenda, Undo

GUARD_SHARE: Final = 0.5
"""Of the steady budget of calls: what guard lists may use; their interval stretches to fit."""
BLIND_AFTER_GUARDS: Final = 3
REFUSED_AGAIN_S: Final = 5.0
"""Where every call was refused, all of it is tried again at this pace: a permission may come back."""
GHOSTS_MAX: Final = 50


class Sweeper:
    """Acts on the trips' sweeps. `changes` collects what the switch must put through its table."""

    def __init__(
        self,
        book: Book,
        trips: Table[str, Trip],
        agenda: Agenda,
        outbox: Outbox,
        undo: Undo,
        *,
        standing: Standing,
    ) -> None:
        self.book, self.trips, self.agenda, self.outbox = book, trips, agenda, outbox
        self._standing = standing
        self.changes: list[Change] = []
        self.evidence = Evidence(book, trips, undo)
        self.resort = LastResort(book, self.evidence, agenda, outbox, undo=undo, standing=standing)
        self.lanes = Lanes(book, self.evidence, agenda, outbox, undo, standing=standing, resort=self.resort)
        self.enumerations = Enumerations(book, trips, self.evidence, agenda, outbox, standing=standing)
        self.refusals = Refusals(book, trips, self.evidence)
        self.witness = Witness(self.evidence, outbox, undo)
        self.remains = Remains(book, self.evidence, undo)
        self.wider = Wider(book, outbox, undo)
        self.gathering = Gathering(book, trips, self.evidence, agenda, self.changes)
        self.extra = ExtraLooks(self, undo, standing)
        self.asking = Asking(self, standing)
        self._took: Table[str, float] = Table(undo)  # how long each OMS's last full round took

    def fresh(self, now: float, *, keep: Sweep | None = None) -> Sweep:
        """A sweep that begins now; what `keep` knows to be refused stays refused."""
        sweep = Sweep(began_call=self.book.next_call, mark=self.book.next_call, not_before=now)
        if keep is None:
            return sweep
        return replace(sweep, refused=keep.refused, by_order=keep.by_order, fully=keep.fully)

    def forget(self, trip: Trip) -> None:
        """The trip was reset: nothing of it may leave any more."""
        for what in ("look", "blind"):
            self.agenda.clear((what, trip.id))
        self.witness.forget(trip.id)
        self.evidence.forget(trip.id)
        self.lanes.forget(trip, tuple(t.scope for t in self.trips.values() if t.id != trip.id))

    def guard_every_s(self, oms: str) -> float:
        """The guard's real interval: every latched account once, within the budget, and at twice a round's time."""
        by_budget = self.evidence.calls_of_a_round(oms) / (GUARD_SHARE * self.book.calls_per_s(oms))
        # A round that takes long, on a slow link or a starved machine, must not chase its own tail.
        by_time = min(2 * (self._took.get(oms) or 0.0), self._standing.retry.list_timeout_s)
        return max(self._standing.confirm.guard_every_s, by_budget, by_time)

    def sent(self, number: int, session: int, now: float, wall: float) -> None:
        call = self.book.calls.get(number)
        if call is None or call.session != session:
            return
        self.book.calls[number] = replace(call, sent_at=now)
        if not call.cancels:
            return
        again = f"call {call.twin} again, which has no answer" if 0 < call.twin < number else ""
        self.witness.called(call, "sent", again, wall=wall)
        self.wider.sent(call, now)
        for trip in self.evidence.latched(call.oms):
            if not trip.scope.meets(call.scope):
                continue
            sweep = trip.sweep.touched(self.book.next_call, now)
            if call.order_id is None and not call.over_http:
                sweep = replace(sweep, carried=sweep.carried | {(session, call.scope)})
            self.trips[trip.id] = replace(trip, sweep=sweep, calls=trip.calls + 1)

    def answered(self, event: Answered, now: float) -> str | None:
        """An answer to a cancel, or an error in answer to a list. Returns the OMS to go on with."""
        call = self.book.answered(event.call, event.session)
        if call is None:
            return None
        self.agenda.clear(("call", call.number))
        if call.cancels:
            received = event.answer.kind in (AnswerKind.RECEIVED, AnswerKind.ABSENT)
            self.lanes.hedges.over(call, received=received)
            self.witness.called(call, event.answer.label, event.answer.text, wall=event.wall)
            self._cancel_answered(call, event.answer, now)
        elif call.name == "GetUserAccounts":
            self.enumerations.lost(call) if event.answer.limited else self.enumerations.settled(call)
        elif call.name != "GetOpenOrders":
            self.extra.answered(call, event.answer, now, event.wall)
        else:
            self._list_failed(call, now, event.answer.text or f"answer {event.answer.label}")
            if event.answer.kind is AnswerKind.REFUSED:
                self._escalate(call.scope, f"account {call.scope.account} can't be listed: {event.answer.text}")
        return call.oms

    def accounts_found(self, event: AccountsFound, now: float) -> str | None:
        call = self.book.answered(event.call, event.session)
        if call is None or not isinstance(call.scope.user, int):
            return None
        self.agenda.clear(("call", call.number))
        self.gathering.met(call.oms, event.accounts, now)
        before = self.book.users.get((call.oms, call.scope.user))
        if before is None or before[0] < call.number:  # else a slow session tells what another one told since
            self.book.users[call.oms, call.scope.user] = (call.number, frozenset(event.accounts))
        self.enumerations.settled(call)
        return call.oms

    def listed(self, event: OpenOrders, now: float) -> str | None:
        """A list of open orders came. Returns the OMS to go on with."""
        call = self.book.answered(event.call, event.session)
        if call is None or not isinstance(call.scope.account, int):
            return None
        self.agenda.clear(("call", call.number))
        listed = self.book.keep_list(call, event.orders, event.unreadable, now)
        account = call.scope.account
        self.witness.listed(call, account, listed, event.wall)
        for shown in {o.account for o in event.orders}:
            self.met(call.oms, shown, now)
        for trip in self.evidence.latched(call.oms):
            if account not in self.evidence.accounts(trip)[0]:
                continue
            # Too old to prove anything, a list can still show an order: nobody knows when it was written.
            found = self.evidence.find(trip, account, listed)
            if not found.count:
                continue
            if listed.call >= trip.sweep.mark:
                self.witness.late(trip, account, (*found.sure, *found.maybe), event.wall)
            self.trips[trip.id] = replace(trip, sweep=replace(trip.sweep, empties=0, sighted=self.book.next_call))
            if trip.state is State.CONFIRMED:
                self.changes.append((trip.id, Input.SIGHTED, f"{found.count} orders in a list of account {account}"))
        return call.oms

    def lost(self, number: int, now: float, wall: float, why: str, *, executes: bool = True) -> str | None:
        """Nothing will be heard of a call. Returns the OMS to go on with. `executes`: it may all the same."""
        call = self.book.end(number)
        if call is None:
            return None
        self.agenda.clear(("call", number))
        if call.name == "GetUserAccounts":
            self.enumerations.lost(call)
        if not call.cancels:
            self.extra.lost(call)
            self._list_failed(call, now, why)
            return call.oms
        self.lanes.hedges.over(call, received=False)
        self.witness.called(call, "lost", why, wall=wall)
        if call.sent_at is not None and executes:
            self._haunt(call)
        self.lanes.lost(call, now)
        return call.oms

    def timed_out(self, number: int, now: float, wall: float) -> str | None:
        """A call's time is up: its outcome is unknown."""
        call = self.book.calls.get(number)
        if call is None or call.overdue:
            return None
        if call.cancels or self.extra.is_waited_for(call):
            self.book.calls[number] = replace(call, overdue=True)
        else:
            self.book.end(number)  # a late answer needs no call to be read, and there may never be one
        self.book.hangs(call)
        self.witness.called(call, "timeout", wall=wall)
        if not call.cancels:
            if call.name == "GetUserAccounts":
                self.enumerations.settled(call)
            self.extra.timed_out(call, now, wall)
            self._list_failed(call, now, "no answer in time")
            return call.oms
        if call.sent_at is None:
            # The socket takes nothing: drop it there, else a storm of old cancels leaves at once later.
            self.outbox.put(Withdraw(call.oms, (number,)))
        self.lanes.unclear(call, now)
        return call.oms

    def order_working(self, oms: str, order: Order, now: float, wall: float) -> bool:
        """A working order was seen by event. True: a latched scope may hold it."""
        self.met(oms, order.account, now)
        if not self.book.sightings.is_news(oms, order):
            return False
        touched = False
        known = self.book.knows_order(oms, order)
        for trip in self.evidence.latched(oms):
            if trip.scope.holds(order) is Holds.NO:
                continue
            touched = True
            sweep = trip.sweep.touched(self.book.next_call, now)
            trip = replace(trip, sweep=sweep)  # noqa: PLW2901  # the trip as it is from here on
            self.trips[trip.id] = trip
            self.witness.late(trip, order.account, (order,), wall)
            if trip.state is State.CONFIRMED:
                self.changes.append((trip.id, Input.SIGHTED, f"{named(order)} of account {order.account} works"))
            elif not known:
                self.lanes.press(trip, by_person=False)
        if touched:
            self.book.sightings.worked(oms, order, self.book.next_call)
        return touched

    def order_ended(self, oms: str, order: Order, now: float) -> None:
        self.met(oms, order.account, now)
        self.book.sightings.ended(oms, order, self.book.next_call)

    def met(self, oms: str, account: int, now: float) -> None:
        """An account was seen."""
        self.gathering.met(oms, (account,), now)

    def session_up(self, session: Session, now: float) -> None:
        """A new session carried nothing yet: where it leads, what is latched is cancelled on it without waiting."""
        self.lanes.hedges.session_up(session, now)
        if to_cancel(self.book, session.oms) is session:
            self.lanes.hurry(session.oms)

    def session_down(self, session: Session) -> None:
        """What this connection carried proves nothing any more, nor do the rounds that rest on a list of it."""
        self.lanes.hurry(session.oms)
        for trip in self.evidence.latched(session.oms):
            rested = self.evidence.rests_on(trip, session.number)
            carried = frozenset((s, scope) for s, scope in trip.sweep.carried if s != session.number)
            # With no session left nobody can look: what was seen last is no outcome any more.
            alone = not live(self.book, session.oms) and trip.state is not State.CONFIRMED
            sweep = replace(trip.sweep, carried=carried, empties=0 if rested else trip.sweep.empties)
            self.trips[trip.id] = replace(trip, sweep=sweep, outcome=UNKNOWN if alone else trip.outcome)
            if trip.state is State.CONFIRMED and (rested or not self.evidence.proving(self.trips[trip.id])):
                self.changes.append((trip.id, Input.BLIND, "the session of its proof is gone"))

    def advance(self, oms: str, now: float, wall: float) -> None:
        """Do whatever the facts ask for now: cancels first, then judge rounds, then lists."""
        self.lanes.unsay(oms)
        for trip in self.evidence.replanned(oms):
            self.trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self.book.next_call, now))
            self.changes.append((trip.id, Input.BLIND, "the OMS heeds other ids than before, which needs another plan"))
        session = to_cancel(self.book, oms)
        if session is None:
            return
        self.lanes.send(session, now)
        latched = self.evidence.latched(oms)
        for trip in latched:
            self._settle(trip, session, now, wall)
        if self.evidence.latched(oms) != latched:  # no round came to its end: nothing new is to be cancelled
            self.lanes.send(session, now)
        self.asking.go_on(oms, now)

    def _settle(self, trip: Trip, session: Session, now: float, wall: float) -> None:
        """Judge the round under way, if it is full."""
        sweep, scope = trip.sweep, trip.scope
        accounts, complete = self.evidence.accounts(trip)
        if not accounts:  # none is known yet: there is nothing to prove by
            self.trips[trip.id] = replace(trip, outcome=UNKNOWN)
            return
        proving = self.evidence.proving(trip)
        if (founds := self.evidence.round(trip, accounts, proving)) is None:
            return
        count, beside = sum(f.count for _, f in founds), self.book.extras.round(trip, accounts, proving, now)
        if not count and beside.lacks:
            return
        if not count and not beside.count and self.evidence.oldest(trip, accounts, beside) < sweep.sighted:
            # One list of this round showed an order and was asked again since: no round in a row is empty yet.
            self.trips[trip.id] = replace(trip, sweep=replace(sweep, mark=max(sweep.mark, sweep.sighted), empties=0))
            return
        sweep = replace(sweep, rounds=sweep.rounds + 1, round_ended_at=now)
        self._took[scope.oms] = now - min((self.book.listed[scope.oms, a].asked_at for a in accounts), default=now)
        if count or beside.count:
            self.trips[trip.id] = replace(trip, sweep=sweep)
            if count:
                self._full_round(self.trips[trip.id], founds, session, now)
            self.extra.stays(self.trips[trip.id], beside, session, now, orders=count > 0)
            return
        complete = complete and not beside.why and (not self.evidence.asks_for_users(trip) or sweep.users_settled)
        # A round over accounts that may not be all is a look, and no part of the proof.
        empties = sweep.empties + 1 if complete else 0
        sweep = replace(sweep, empties=empties, previous=None, fruitless=0)
        proven = empties >= self._standing.confirm.empties
        if proven:
            wait = self.guard_every_s(scope.oms)
            self.agenda.set(("blind", trip.id), now + BLIND_AFTER_GUARDS * wait)
        elif complete:
            wait = self._standing.confirm.settle_s
        else:
            wait = self.lanes.backoff(sweep.waits)
        sweep = replace(sweep, not_before=now + wait, waits=0 if complete else sweep.waits + 1)
        outcome = trip.outcome if complete else UNKNOWN
        self.trips[trip.id] = replace(trip, sweep=sweep, verified_wall=wall, outcome=outcome)
        self.extra.tell(trip, beside)
        if proven and trip.state is not State.CONFIRMED:
            self.lanes.calm(self.evidence.plan(trip).calls)
            self.changes.append((trip.id, Input.PROVEN, f"{sweep.empties} empty rounds in a row"))

    def _full_round(self, trip: Trip, founds: list[tuple[int, Found]], session: Session, now: float) -> None:
        """A round that shows orders: wait while they fall, else cancel again, else one by one."""
        sure = [o for _, found in founds for o in found.sure]
        orders = sure + [o for _, found in founds for o in found.maybe]
        ids = names(orders)
        count = sum(found.count for _, found in founds)
        before = trip.sweep.previous or frozenset()
        plan = self.evidence.plan(trip)
        what, sweep = judge(trip.sweep, ids, count, by_order=bool(plan.by_order) or not plan.calls)
        sweep = replace(sweep, empties=0, waits=sweep.waits + 1, not_before=now + self.lanes.backoff(sweep.waits))
        trip = replace(trip, sweep=sweep, outcome=RESIDUAL)
        self.trips[trip.id] = trip
        if what is Next.WAIT:
            return
        if what is Next.CANCEL or ids - before:
            self.lanes.press(trip, by_person=False)
        if what is Next.SINGLES:
            self._singles(trip, founds, session, now)
        if len(sure) < count:
            text = f"{count - len(sure)} orders can't be attributed to the scope; they are not cancelled"
            self.changes.append((trip.id, Input.OVERDUE, text))

    def _singles(self, trip: Trip, founds: list[tuple[int, Found]], session: Session, now: float) -> None:
        """Stragglers one by one, or by what is left where that was refused."""
        sweep = trip.sweep
        if self.lanes.dead_end(trip, [o for _, found in founds for o in found.sure]):
            if now - sweep.refused_at >= REFUSED_AGAIN_S:
                self.trips[trip.id] = replace(trip, sweep=replace(self.fresh(now), doubtful=sweep.singles_refused))
            # What isn't refused of the scope's own calls has had no effect so far: it is all that there is.
            self.lanes.press(self.trips[trip.id], by_person=False)
            return
        if now < sweep.singles_at:
            return
        sweep = replace(sweep, singles_at=now + self.lanes.backoff(sweep.waits))
        if sweep.singles_refused and now - sweep.refused_at >= REFUSED_AGAIN_S:
            # Narrower calls without effect must not keep the stragglers' own turn from ever coming again.
            no = sweep.singles_refused
            sweep = replace(sweep, singles_refused=frozenset(), doubtful=no, refused_at=float("-inf"))
        trip = replace(trip, sweep=sweep)
        self.trips[trip.id] = trip
        left = sum(self.lanes.one_by_one(trip, account, found.sure, session, now) for account, found in founds)
        if not left:
            self.lanes.press(trip, by_person=False)  # nothing can be named: the scope's own call again

    def _cancel_answered(self, call: Call, answer: Answer, now: float) -> None:
        match answer.kind:
            case AnswerKind.RECEIVED | AnswerKind.ABSENT:
                self.lanes.received(call)
                self.refusals.trusted(call)
            case AnswerKind.UNCLEAR:
                self.lanes.unclear(call, now)
            case AnswerKind.REFUSED:
                self._refused(call, answer, now)

    def _refused(self, call: Call, answer: Answer, now: float) -> None:
        """The same call again is no use: it is narrowed, and people are told."""
        if not call.extra:
            self.refusals.refused(call, answer, now)
            self.lanes.not_received(call)
        self._escalate(call.scope, f"{call.name} for {call.scope.in_words()} was refused: {answer.text}")

    def _escalate(self, scope: Scope, why: str) -> None:
        for trip in self.evidence.latched(scope.oms):
            if trip.scope.meets(scope):
                self.changes.append((trip.id, Input.OVERDUE, why))

    def _list_failed(self, call: Call, now: float, why: str) -> None:
        if call.name == "GetOpenOrders":
            self.remains.failed(call, why)
            self.asking.failed(call, now)

    def _haunt(self, call: Call) -> None:
        for trip in self.evidence.latched(call.oms):
            if trip.scope.meets(call.scope):
                ghosts = (*trip.ghosts, call.number)[-GHOSTS_MAX:]
                self.trips[trip.id] = replace(trip, ghosts=ghosts)

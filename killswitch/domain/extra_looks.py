"""Looks beside the lists of orders: asking for quotes and block trades, hearing what they show, cancelling quotes.

A quote is cancelled by its ids, both sides at once or each by itself, and only where the scope surely holds it. No
document has a call that cancels the report of a block trade: one that stays is told by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.book import Listed
from killswitch.domain.extras import INSTRUMENTS_FOR_S, REFUSED_FOR_S, Kind, Known, Look, kinds_of, named, refusal
from killswitch.domain.messages import (
    AnswerKind,
    CancelOrder,
    CancelQuote,
    InstrumentsFound,
    ListBlockTrades,
    ListInstruments,
    ListQuotes,
    Looked,
    Noted,
    OpenBlockTrades,
    OpenQuotes,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import RESIDUAL, Input, State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Call, Session
    from killswitch.domain.extras import Round
    from killswitch.domain.messages import Answer, Beside, Order
    from killswitch.domain.standing import Standing
    from killswitch.domain.sweeper import Sweeper
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo

ANSWER_S: Final = 5.0
"""A look beside the orders that isn't answered by then is given up for this round: its answer is a few rows, and
the orders' own sweep must not wait for it."""
LISTS: Final = ("GetOpenOrders", "GetUserAccounts")
PAIR: Final = 2


class ExtraLooks:
    """Acts on what rests beside orders. What the table must hear goes into the sweeper's `changes`."""

    def __init__(self, sweeper: Sweeper, undo: Undo, standing: Standing) -> None:
        self._book, self._trips, self._agenda, self._outbox = (
            sweeper.book,
            sweeper.trips,
            sweeper.agenda,
            sweeper.outbox,
        )
        self._evidence, self._lanes, self._witness = sweeper.evidence, sweeper.lanes, sweeper.witness
        self._changes = sweeper.changes
        self._standing = standing
        self._looks: Table[int, Look] = Table(undo)  # calls under way
        self._calls: Table[Look, tuple[int, ...]] = Table(undo)  # the same, the other way round
        self._instruments: Table[str, int] = Table(undo)  # OMS -> the GetInstruments that a sweep rests on
        self._again: Table[str, float] = Table(undo)  # OMS -> when its instruments may be asked for again
        self._tries: Table[tuple[str, int], tuple[int, float]] = Table(undo)
        """(OMS, a quote's first id) -> how often it was cancelled, and when it may be again."""
        self._digests: Table[Look, str] = Table(undo)

    # --- asking

    def ask(self, trip: Trip, session: Session, now: float, keep: float) -> None:
        """Ask for what the round under way lacks beside orders, as far as the budget of calls goes."""
        if not self._ask(trip, session, now, keep):
            self._agenda.set(("look", trip.id), self._book.call_again_at(session.oms, now, keep))

    def _ask(self, trip: Trip, session: Session, now: float, keep: float) -> bool:
        extras, sweep = self._book.extras, trip.sweep
        accounts, _ = self._evidence.accounts(trip)
        if extras.needs_instruments(trip) and not self._ask_for_instruments(trip, session, now, keep):
            return False
        proving = self._evidence.proving(trip)
        empty = self._orders_are_gone(trip, accounts, proving)
        for look in extras.looks(trip, accounts):
            shown, failed = extras.listed.get(look), extras.failed.get(look)
            if shown is not None and sweep.counts(shown, proving):
                continue
            if failed is not None and extras.stands(trip, failed, proving, now):
                if failed.refused:
                    self._hurry(trip, failed.asked_at + REFUSED_FOR_S)
                continue
            first = shown is None or shown.call < sweep.began_call
            if not (empty or first or shown is None or extras.found(trip, look, shown).count):
                continue  # the round shows orders: it proves nothing, and this showed nothing of itself
            if any(c.number >= sweep.mark and c.asked_at >= sweep.not_before for c in self._under_way(look)):
                continue
            if not self._book.may_call(session.oms, now, keep):
                return False
            self._look(look, session, now)
        return True

    def probe(self, session: Session, now: float, kinds: tuple[Kind, ...] = tuple(Kind)) -> None:
        """One look of each kind at a new session: what is refused is told before the day on which it matters."""
        wanted = kinds_of(self._book.sites.get(session.oms))
        accounts = self._book.known_accounts(session.oms)
        for kind in [kind for kind in wanted if kind in kinds and accounts]:
            if not self._book.may_call(session.oms, now, 0.5):
                return
            instruments = self._book.extras.known_instruments(session.oms)
            if kind is Kind.BLOCK_TRADES:
                self._look(Look(session.oms, accounts[0], kind), session, now)
            elif instruments:
                self._look(Look(session.oms, accounts[0], kind, instruments[0]), session, now)
            elif self._instruments.get(session.oms) not in self._book.calls:
                self._list_instruments(session, now)  # its answer brings us back here

    def _look(self, look: Look, session: Session, now: float) -> None:
        for number in (self._calls.get(look) or ())[:-1]:
            # What nobody answers must not pile up: of an account and instrument two are waited for at most.
            self._over(number)
            self._book.end(number)
        call = self._book.new_call(session, look.kind.value, look.scope, now)
        self._looks[call.number] = look
        self._calls[look] = (*(self._calls.get(look) or ()), call.number)
        if look.instrument is not None:
            self._outbox.put(ListQuotes(call.number, session.number, look.oms, look.account, look.instrument))
        else:
            self._outbox.put(ListBlockTrades(call.number, session.number, look.oms, look.account))
        self._agenda.set(("call", call.number), now + min(ANSWER_S, self._standing.retry.list_timeout_s))

    def _ask_for_instruments(self, trip: Trip, session: Session, now: float, keep: float) -> bool:
        oms = session.oms
        held = self._book.extras.instruments.get(oms)
        fresh = held is not None and held.call >= trip.sweep.began_call
        if held is not None and fresh and now < held.asked_at + (REFUSED_FOR_S if held.why else INSTRUMENTS_FOR_S):
            if held.why:
                self._hurry(trip, held.asked_at + REFUSED_FOR_S)
            return True
        if self._instruments.get(oms) in self._book.calls:
            return True
        again = self._again.get(oms)
        if again is not None and now < again:
            self._hurry(trip, again)
            return True
        if not self._book.may_call(oms, now, keep):
            return False
        self._list_instruments(session, now)
        return True

    def _list_instruments(self, session: Session, now: float) -> None:
        look = Scope(oms=session.oms, account=EVERY, user=EVERY, instrument=EVERY)
        call = self._book.new_call(session, "GetInstruments", look, now)
        self._instruments[session.oms] = call.number
        self._outbox.put(ListInstruments(call.number, session.number, session.oms, inactive=True))
        self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)

    def _orders_are_gone(self, trip: Trip, accounts: tuple[int, ...], proving: frozenset[int]) -> bool:
        """The round's lists of orders are there, and empty of the scope's."""
        for account in accounts:
            listed = self._book.listed.get((trip.scope.oms, account))
            if listed is None or not trip.sweep.counts(listed, proving):
                return False
            if self._evidence.find(trip, account, listed).count:
                return False
        return True

    def _under_way(self, look: Look) -> tuple[Call, ...]:
        held = (self._book.calls.get(number) for number in self._calls.get(look) or ())
        return tuple(call for call in held if call is not None and not call.overdue)

    def _over(self, number: int) -> Look | None:
        """A look is waited for no more."""
        look = self._looks.pop(number)
        if look is not None:
            left = tuple(n for n in self._calls.get(look) or () if n != number)
            if left:
                self._calls[look] = left
            else:
                self._calls.pop(look)
        return look

    def _hurry(self, trip: Trip, at: float) -> None:
        due = self._agenda.when(("look", trip.id))
        if due is None or due > at:
            self._agenda.set(("look", trip.id), at)

    # --- hearing

    def heard(self, event: Beside, now: float) -> str | None:
        """What a look showed, or which instruments there are. Returns the OMS to go on with."""
        match event:
            case InstrumentsFound():
                return self.instruments(event, now)
            case OpenQuotes() | OpenBlockTrades():
                return self.listed(event, now)
            case _:
                return None

    def listed(self, event: OpenQuotes | OpenBlockTrades, now: float) -> str | None:
        """A list came. Returns the OMS to go on with."""
        call = self._book.answered(event.call, event.session)
        look = self._over(event.call)
        if call is None or look is None:
            return None
        self._agenda.clear(("call", call.number))
        ids = frozenset(o.order_id for o in event.orders if o.order_id is not None)
        shown = Listed(call.number, call.session, call.asked_at, now, event.orders, ids, event.unreadable)
        self._book.extras.keep(look, shown)
        for trip in self._evidence.latched(call.oms):
            accounts, _ = self._evidence.accounts(trip)
            if look.account not in accounts or look not in self._book.extras.looks(trip, (look.account,)):
                continue
            self._record(call, look, shown, event.wall)
            found = self._book.extras.found(trip, look, shown)
            if not found.count:
                continue
            if call.number >= trip.sweep.mark:
                self._witness.late(trip, look.account, found.sure, event.wall)
            sweep = replace(trip.sweep, empties=0, sighted=self._book.next_call)
            self._trips[trip.id] = replace(trip, sweep=sweep)
            if trip.state is State.CONFIRMED:
                self._changes.append((trip.id, Input.SIGHTED, f"{found.count} among {look.in_words()}"))
        return call.oms

    def instruments(self, event: InstrumentsFound, now: float) -> str | None:
        """The instruments of an OMS. Returns the OMS to go on with."""
        call = self._book.answered(event.call, event.session)
        if call is None or self._instruments.get(call.oms) != event.call:
            return None
        self._agenda.clear(("call", call.number))
        self._instruments.pop(call.oms)
        extras = self._book.extras
        before = extras.instruments.get(call.oms)
        why = f"{event.unreadable} rows of their list can't be read" if event.unreadable else ""
        ids = frozenset(event.instruments)
        extras.instruments[call.oms] = Known(call.number, call.asked_at, ids, why)
        if before is not None and ids - before.ids:
            # The rounds so far lacked it: count anew.
            for trip in self._evidence.latched(call.oms):
                if extras.needs_instruments(trip):
                    sweep = trip.sweep.touched(self._book.next_call, now)
                    self._trips[trip.id] = replace(trip, sweep=sweep)
        session = self._book.sessions.get(event.session)
        if before is None and session is not None:
            self.probe(session, now, (Kind.QUOTES,))
        return call.oms

    def answered(self, call: Call, answer: Answer, now: float, wall: float) -> None:
        """Something was answered with something else than what it asked for; what isn't a look changes nothing."""
        if answer.limited:
            self.lost(call)  # it says nothing of what was asked
            return
        self._failed(
            call, answer.text or f"answer {answer.label}", now, wall, refused=answer.kind is AnswerKind.REFUSED
        )
        self._over(call.number)

    def timed_out(self, call: Call, now: float, wall: float) -> None:
        """A look isn't answered; it still may be."""
        self._failed(call, "no answer", now, wall, refused=False)

    def is_waited_for(self, call: Call) -> bool:
        """A list that a sweep rests on and that is answered late shows something all the same."""
        return call.name in LISTS or call.number in self._looks

    def _failed(self, call: Call, why: str, now: float, wall: float, *, refused: bool) -> None:
        if call.name == "GetInstruments":
            if self._instruments.get(call.oms) == call.number:
                self._instruments.pop(call.oms)
                held = self._book.extras.instruments.get(call.oms)
                ids = frozenset[int]() if held is None else held.ids
                said = f"their list can't be had: {why}"
                self._book.extras.instruments[call.oms] = Known(call.number, call.asked_at, ids, said)
                self._again[call.oms] = now + ANSWER_S
            return
        look = self._looks.get(call.number)
        if look is None:
            return
        before = self._book.extras.notes()
        self._book.extras.keep_failed(look, call, why, refused=refused)
        text = refusal(look.oms, look.account, look.kind, why)
        if refused and text not in before and text in self._book.extras.notes():
            n = self._outbox.record(Noted("not_listed", text), wall)
            self._outbox.event("not_listed", text, wall, n=n)

    def lost(self, call: Call) -> None:
        """Nothing will be heard of a look: it is asked for again where a round needs it."""
        self._over(call.number)
        if self._instruments.get(call.oms) == call.number:
            self._instruments.pop(call.oms)

    def _record(self, call: Call, look: Look, shown: Listed, wall: float) -> None:
        """To the journal whenever it changed."""
        digest = hashlib.sha256(",".join(map(str, sorted(shown.ids))).encode()).hexdigest()[:16]
        if self._digests.get(look) == digest:
            return
        self._digests[look] = digest
        orders = tuple(sorted(shown.ids))
        count = len(shown.orders) + shown.unreadable
        at = (call.number, call.oms, call.session, look.account)
        self._outbox.record(Looked(*at, count, digest, orders, shown.unreadable, look.kind.value), wall)

    # --- what stands

    def stays(self, trip: Trip, seen: Round, session: Session, now: float, *, orders: bool) -> None:
        """A full round shows quotes or block trades. `orders`: it shows orders too, whose sweep has its own waits."""
        if not orders:
            sweep = trip.sweep
            wait = self._lanes.backoff(sweep.waits)
            sweep = replace(sweep, empties=0, previous=None, fruitless=0, waits=sweep.waits + 1, not_before=now + wait)
            self._trips[trip.id] = replace(trip, sweep=sweep, outcome=RESIDUAL)
        unsure, unreadable = 0, 0
        reports: list[Order] = []
        for look, shown, found in seen.founds:
            unsure += len(found.maybe)
            unreadable += found.unreadable
            if look.kind is Kind.BLOCK_TRADES:
                reports += found.sure
            elif found.sure:
                self._cancel(look, shown, found.sure, session, now)
        said = []
        if reports:
            said.append(f"{named(Kind.BLOCK_TRADES, tuple(reports))} stay: no call cancels the report of one")
        if unsure:
            said.append(f"{unsure} quotes or block trades can't be attributed to the scope; they are not cancelled")
        if unreadable:
            said.append(f"{unreadable} rows of quotes or block trades can't be read")
        if seen.refused:
            said.append(seen.why)
        if said and (
            not orders or trip.state is State.SWEEPING
        ):  # else it would take turns with what is said of orders
            self._changes.append((trip.id, Input.OVERDUE, "; ".join(said)))

    def tell(self, trip: Trip, seen: Round) -> None:
        """A round shows nothing, and what was refused may hide something."""
        if seen.refused:
            self._changes.append((trip.id, Input.OVERDUE, seen.why))

    def _cancel(self, look: Look, shown: Listed, sure: tuple[Order, ...], session: Session, now: float) -> None:
        """Both sides of a quote at once, and where that had no effect each by itself, in turn."""
        first = sure[0].order_id
        assert first is not None, "a side without an id is unreadable"
        times, again_at = self._tries.get((look.oms, first)) or (0, now)
        under_way = {c.order_id for c in self._book.cancels_under_way(look.scope) if not c.overdue}
        if now < again_at or any(order.order_id in under_way for order in sure):
            return
        self._tries[look.oms, first] = (times + 1, now + self._lanes.backoff(times))
        whole = len(shown.orders) == PAIR and len(sure) == PAIR and sure[0].order_id != sure[1].order_id
        if whole and times % 2 == 0:
            self._cancel_pair(look, sure, session, now)
            return
        for order in sure:
            call = self._new_cancel("CancelOrder", order, session, now)
            self._outbox.put(CancelOrder(call.number, session.number, look.oms, order.account, order.order_id, None))

    def _cancel_pair(self, look: Look, sides: tuple[Order, ...], session: Session, now: float) -> None:
        bid, ask = sides[0].order_id, sides[1].order_id
        assert look.instrument is not None, "only quotes come in pairs"
        assert bid is not None, "read as unreadable"
        assert ask is not None, "read as unreadable"
        call = self._new_cancel("CancelQuote", sides[0], session, now)
        instrument = sides[0].instrument or look.instrument
        self._outbox.put(CancelQuote(call.number, session.number, look.oms, sides[0].account, instrument, bid, ask))

    def _new_cancel(self, name: str, order: Order, session: Session, now: float) -> Call:
        touches = Scope(oms=session.oms, account=order.account, user=EVERY, instrument=order.instrument or EVERY)
        number = order.order_id
        call = self._book.new_call(session, name, touches, now, cancels=True, order_id=number, extra=True)
        self._agenda.set(("call", call.number), now + self._standing.retry.timeout_s)
        return call

    def configured(self, oms: str, before: tuple[Kind, ...], now: float) -> None:
        """A reload: where more is listed than before, what was proven without it is proven no more."""
        if not set(kinds_of(self._book.sites.get(oms))) - set(before):
            return
        for trip in self._evidence.latched(oms):
            self._trips[trip.id] = replace(trip, sweep=trip.sweep.touched(self._book.next_call, now))
            self._changes.append((trip.id, Input.BLIND, "more than its orders is listed from now on"))

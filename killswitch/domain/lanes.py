"""Lanes: the cancels of all sweeps. At most one native cancel per scope is unanswered; overlap costs one call.

Cancels go out for the outermost of the scopes that want one. A person's press waits for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.dialects import Dialect, can_say, narrowest
from killswitch.domain.hedges import Hedges
from killswitch.domain.messages import CancelAllOrders, CancelOrder, Withdraw
from killswitch.domain.scope import EVERY, Scope, covering, outermost
from killswitch.domain.sweep import SINGLES_MAX
from killswitch.domain.trips import State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call, Session
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.last_resort import LastResort
    from killswitch.domain.messages import Order
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.sweep import Whose
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Agenda, Undo


STREAK_MAX: Final = 5
BATCH_MAX: Final = 100
"""Orders of one account that are cancelled one by one in a turn, where no call takes them all."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The native cancels of one scope: at most one is unanswered, and they keep a distance.

    `dirty`: one must leave. `pressed`: by a person, so it waits for nothing. `unsure`: the last one's
    outcome is unknown; another leaves after `next_at` unless a list that counts is under way.
    """

    next_at: float = float("-inf")
    dirty: bool = False
    pressed: bool = False
    unsure: bool = False
    unclear: int = 0
    streak: int = 0  # cancels since the scope was last proven empty


NEW: Final = Lane()


class Lanes:
    """Decides which cancels leave now, and puts them."""

    def __init__(
        self,
        book: Book,
        evidence: Evidence,
        agenda: Agenda,
        outbox: Outbox,
        undo: Undo,
        *,
        standing: Standing,
        resort: LastResort,
    ) -> None:
        self._book, self._evidence, self._agenda, self._outbox = book, evidence, agenda, outbox
        self._standing, self._resort = standing, resort
        self.hedges = Hedges(book, evidence, agenda, outbox, standing=standing)
        self._lanes: Table[Scope, Lane] = Table(undo)
        self._singled: Table[tuple[str, int, int], float] = Table(undo)
        """(OMS, account, order) -> when it was cancelled by its id last."""

    def press(self, trip: Trip, *, by_person: bool) -> None:
        """Send the scope's cancels again, at once when a person asks."""
        for part in self._evidence.plan(trip).calls:
            lane = self._lanes.get(part) or Lane()
            self._lanes[part] = replace(lane, dirty=True, pressed=lane.pressed or by_person)

    def send(self, session: Session, now: float) -> None:
        wanted: dict[Scope, bool] = {}
        dialect = self._book.dialect(session.oms)
        for trip in self._evidence.latched(session.oms):
            if trip.state is State.CONFIRMED:
                continue
            for part in self._evidence.plan(trip, dialect).calls:
                lane = self._lanes.get(part) or NEW
                missing = not trip.sweep.carried_by(session.number, (part,))
                unsure = lane.unsure and not self._evidence.list_that_counts(trip)
                if missing or lane.dirty or unsure:
                    wanted[part] = lane.pressed
        outer = outermost(wanted)
        pressing = {s for part, by_person in wanted.items() if by_person for s in covering(part)}
        natives = self._natives_under_way(session.oms)
        unsent = {c.scope for c in natives if c.sent_at is None}
        under_way = {c.scope for c in natives}
        for scope in outer:
            pressed = scope in pressing
            if any(s in (unsent if pressed else under_way) for s in covering(scope)):
                continue  # its answer, or its time-out, brings us back here
            lane = self._lanes.get(scope) or Lane()
            if now < lane.next_at and not pressed:
                self._agenda.set(("lane", scope), lane.next_at)
                continue
            self._cancel_all(session, scope, now)

    def _cancel_all(self, session: Session, scope: Scope, now: float) -> None:
        call = self._book.new_call(session, "CancelAllOrders", scope, now, cancels=True)
        self._outbox.put(CancelAllOrders(call.number, session.number, scope))
        self._agenda.set(("call", call.number), now + self._standing.retry.timeout_s)
        self.hedges.watch(call)
        covered = {s for s in self._lanes if scope.covers(s)} | {scope}
        for part in covered:
            lane = self._lanes.get(part) or Lane()
            streak = lane.streak + 1
            # A trader who goes on must not make us spend the venue's limit on cancels: the first few keep the
            # shortest distance, those after them what the budget bears.
            distance = (
                self._standing.retry.first_s
                if streak <= STREAK_MAX
                else 1 / self._book.budget.full_calls_per_s(scope.oms)
            )
            self._lanes[part] = replace(
                lane,
                dirty=False,
                pressed=False,
                unsure=False,
                streak=streak,
                next_at=now + max(distance, self._standing.retry.first_s),
            )

    def dead_end(self, trip: Trip, orders: list[Order]) -> bool:
        """The single cancels were refused, and no narrower call is left: only the plan itself, from its beginning."""
        if not trip.sweep.singles_refused:
            return False
        return not any(
            not trip.sweep.single_refused(order.account, order.entered_by)
            or self._narrower(trip, order.account, (order,))
            for order in orders
        )

    def _narrower(self, trip: Trip, account: int, orders: tuple[Order, ...]) -> set[Scope]:
        """Native calls inside the scope, narrower than it, that hold these orders and were not refused."""
        dialect = self._book.dialect(trip.scope.oms)
        instruments, refused = {o.instrument for o in orders}, trip.sweep.refused
        narrower = {narrowest(dialect, trip.scope, account, instrument, refused=refused) for instrument in instruments}
        return {s for s in narrower if s is not None} - {trip.scope}

    def one_by_one(self, trip: Trip, account: int, orders: tuple[Order, ...], session: Session, now: float) -> int:
        """Cancel an account's stragglers by their ids; for many, or where that is refused, by narrower calls.

        Returns how many calls left or are under way for them.
        """
        sweep = trip.sweep
        denied = tuple(o for o in orders if sweep.single_refused(o.account, o.entered_by))
        if denied or (len(orders) > SINGLES_MAX and not sweep.by_order):
            narrower = self._narrower(trip, account, denied or orders)
            fresh = [s for s in sorted(narrower, key=str) if now >= (self._lanes.get(s) or Lane()).next_at]
            under_way = {c.scope for c in self._natives_under_way(trip.scope.oms)}
            for scope in fresh:
                if not any(s in under_way for s in covering(scope)):
                    self._cancel_all(session, scope, now)
                    lane = self._lanes[scope]
                    # Fruitless ones are not repeated before the stragglers had their turn.
                    self._lanes[scope] = replace(lane, next_at=now + 2 * self._standing.retry.max_s)
            if fresh and not sweep.by_order:
                return len(fresh)
        by_client_id = self._book.dialect(trip.scope.oms) is Dialect.V2
        named = [o for o in orders if o.order_id is not None or (by_client_id and o.client_order_id is not None)]
        at_most = BATCH_MAX if account in self._evidence.plan(trip).by_order else SINGLES_MAX
        for order in self._next_singles(trip, named, now)[:at_most]:
            self._cancel_one(trip, order, session, now)
        return len(named)

    def _next_singles(self, trip: Trip, orders: list[Order], now: float) -> list[Order]:
        """Those whose turn it is: of a batch that is still being carried out none is cancelled again so soon."""
        sweep, oms = trip.sweep, trip.scope.oms
        ordered = {c.order_id for c in self._book.cancels_under_way(trip.scope) if c.is_awaited}
        turn: list[Order] = []
        tried: set[Whose] = set()
        for order in orders:
            if order.order_id in ordered or sweep.single_refused(order.account, order.entered_by):
                continue
            at = self._singled.get((oms, order.account, order.order_id or 0))
            if order.order_id is not None and at is not None and now - at < self._standing.retry.max_s:
                continue
            whose = sweep.doubted(order.account, order.entered_by)
            if whose is None or whose not in tried:
                turn.append(order)
            if whose is not None:
                tried.add(whose)
        return turn

    def _cancel_one(self, trip: Trip, order: Order, session: Session, now: float) -> None:
        oms, fully = trip.scope.oms, trip.sweep.fully
        touches = Scope(
            oms=oms, account=order.account, user=order.entered_by or EVERY, instrument=order.instrument or EVERY
        )
        call = self._book.new_call(
            session,
            "CancelOrder",
            touches,
            now,
            cancels=True,
            order_id=order.order_id or 0,
            client_order_id=order.client_order_id,
            fully=fully,
        )
        self._outbox.put(
            CancelOrder(
                call.number, session.number, oms, order.account, order.order_id, order.client_order_id, fully=fully
            )
        )
        self._agenda.set(("call", call.number), now + self._standing.retry.timeout_s)
        self.hedges.watch(call)
        self._singled[oms, order.account, order.order_id or 0] = now

    def not_received(self, call: Call) -> None:
        """A single cancel was refused, or nobody knows what became of it: its order's next turn needn't wait."""
        if call.order_id is not None and isinstance(call.scope.account, int):
            self._singled.pop((call.oms, call.scope.account, call.order_id))

    def _natives_under_way(self, oms: str) -> tuple[Call, ...]:
        everything = Scope(oms=oms, account=EVERY, user=EVERY, instrument=EVERY)
        return tuple(c for c in self._book.cancels_under_way(everything) if c.order_id is None and c.is_awaited)

    def unclear(self, call: Call, now: float) -> None:
        """Nobody knows what became of it, and nobody else was told the same."""
        if call.over_http:
            self._resort.unclear(call, now)
            return
        if self.hedges.is_covered(call):
            return
        self.not_received(call)
        lane = self._lanes.get(call.scope)
        if lane is None or call.order_id is not None:
            return  # a straggler's turn comes again with the next round
        next_at = now + self.backoff(lane.unclear)
        self._lanes[call.scope] = replace(lane, unsure=True, unclear=lane.unclear + 1, next_at=next_at)
        self._agenda.set(("lane", call.scope), next_at)

    def backoff(self, k: int) -> float:
        return float(min(self._standing.retry.first_s * 2 ** min(k, 20), self._standing.retry.max_s))

    def received(self, call: Call) -> None:
        """An answer that says received, or that nothing is there."""
        if call.over_http:
            self._resort.received(call)
            return
        lane = self._lanes.get(call.scope)
        if lane is not None and call.order_id is None:
            self._lanes[call.scope] = replace(lane, unclear=0, unsure=False)

    def unsay(self, oms: str) -> None:
        """What waits to be written, and might be ignored in part by now, leaves no more: over whichever session.

        One whose hedge was received as well: it stands before a socket that takes nothing, and would leave later.
        """
        resort, heeded = self._book.resorts.get(oms), self._book.dialect(oms)
        over_http = heeded if resort is None else self._book.dialect(oms, over=resort.dialect)
        doomed = tuple(
            call.number
            for call in self._book.cancels_of(oms)
            if call.sent_at is None
            and call.order_id is None
            and not can_say(over_http if call.over_http else heeded, call.scope, whole_oms=True)
        )
        if doomed:
            self._outbox.put(Withdraw(oms, doomed))

    def lost(self, call: Call, now: float) -> None:
        """A native cancel left no more, or its session went: another must, after a breath."""
        if call.over_http:
            self._resort.unclear(call, now)
            return
        if self.hedges.is_covered(call):
            return
        self.not_received(call)
        lane = self._lanes.get(call.scope) if call.order_id is None else None
        if lane is not None:
            self._lanes[call.scope] = replace(lane, dirty=True, next_at=now + self._standing.retry.first_s)

    def calm(self, scopes: tuple[Scope, ...]) -> None:
        """These are proven empty: their next cancels leave without delay."""
        for scope in scopes:
            lane = self._lanes.get(scope)
            if lane is not None:
                self._lanes[scope] = replace(lane, streak=0, unclear=0, unsure=False)

    def hurry(self, oms: str) -> None:
        """No lane of this OMS keeps its distance to what left on an earlier session."""
        for scope, lane in self._lanes.items():
            if scope.oms == oms:
                self._lanes[scope] = replace(lane, next_at=float("-inf"))

    def forget(self, trip: Trip, latched: tuple[Scope, ...]) -> None:
        """The trip was reset: no cancel that was its alone may leave any more."""
        self._resort.forget(trip, latched)
        for scope in self._lanes:
            if not any(other.covers(scope) for other in latched):
                del self._lanes[scope]
        if not any(other.oms == trip.scope.oms for other in latched):
            self._singled.drop(lambda key: key[0] == trip.scope.oms)
        doomed = tuple(
            c.number
            for c in self._book.calls.values()
            if c.cancels and c.sent_at is None and not any(other.covers(c.scope) for other in latched)
        )
        if doomed:
            self._outbox.put(Withdraw(trip.scope.oms, doomed))

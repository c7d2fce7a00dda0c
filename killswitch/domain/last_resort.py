"""The last resort: cancels over HTTP, for trips whose OMS answers over no gateway.

It cancels and never proves: an answer over HTTP may come from a replica that lags, so nothing is listed there, and
what it carried makes no list of a session count. So a trip that is swept by it alone stays unknown, and is cancelled
again and again at a pace that the budget of calls bears.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import CancelAllOrders, CancelOrder
from killswitch.domain.paths import live, watching
from killswitch.domain.scope import EVERY, Scope, covering, outermost
from killswitch.domain.sweep import SINGLES_MAX
from killswitch.domain.trips import State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from killswitch.domain.book import Book, Call, Session
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.messages import Order
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.standing import Standing
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Agenda, Undo

AGAIN_S: Final = 2.0
"""Nothing shows what a cancel did, and orders may go on coming: the same one leaves again after so long, or more."""
SHARE: Final = 0.5
"""Of the steady budget of calls, at most."""
SINGLE_AGAIN_S: Final = 30.0
UNANSWERED_MAX: Final = 2
"""Cancels of one scope under way. A server that answers nothing isn't given more of them."""


@dataclass(frozen=True, slots=True)
class _Said:
    """The last cancel of a scope over HTTP. `unclear`: so many in a row without an answer that says received."""

    call: int
    next_at: float
    unclear: int = 0


@dataclass(frozen=True, slots=True)
class _Singled:
    """The last cancel of an order by its id, over HTTP. `due_at`: another one leaves from here on."""

    due_at: float
    unclear: int = 0


class LastResort:
    """Decides which cancels leave over HTTP now, and puts them."""

    def __init__(
        self,
        book: Book,
        evidence: Evidence,
        agenda: Agenda,
        outbox: Outbox,
        *,
        undo: Undo,
        standing: Standing,
    ) -> None:
        self._book, self._evidence = book, evidence
        self._agenda, self._outbox, self._standing = agenda, outbox, standing
        self._said: Table[Scope, _Said] = Table(undo)
        self._singled: Table[tuple[str, int, int], _Singled] = Table(undo)
        """(OMS, account, order) -> its cancel by its id."""
        self._received: Table[str, int] = Table(undo)
        """Trip -> cancels of this sweep that were received."""
        self._told: Table[str, int] = Table(undo)
        """Trip -> the sweep, by its first call, of which people were told."""

    # --- facts ---------------------------------------------------------------------------------------------

    def up(self, oms: str) -> None:
        """A new session over HTTP: no distance is kept to what left on an earlier one."""
        self._said.drop(lambda scope: scope.oms == oms)
        unclear = {key for key, singled in self._singled.items() if key[0] == oms and singled.unclear}
        self._singled.drop(unclear.__contains__)

    def received(self, call: Call) -> None:
        """An answer that says received, or that nothing is there."""
        said = self._said.get(call.scope)
        if call.order_id is None and said is not None:
            self._said[call.scope] = replace(said, unclear=0)
        for trip in self._evidence.latched(call.oms):
            if trip.state is not State.CONFIRMED and trip.scope.meets(call.scope):
                self._received[trip.id] = (self._received.get(trip.id) or 0) + 1

    def unclear(self, call: Call, now: float) -> None:
        """A cancel that nobody knows the outcome of."""
        said = self._said.get(call.scope)
        if call.order_id is not None:
            key = (call.oms, _account(call), call.order_id)
            singled = self._singled.get(key)
            if singled is not None:
                self._singled[key] = _Singled(now + self._wait_s(singled.unclear), singled.unclear + 1)
        elif said is not None and said.call == call.number:
            self._said[call.scope] = replace(said, unclear=said.unclear + 1, next_at=now + self._wait_s(said.unclear))

    def _wait_s(self, unclear: int) -> float:
        return float(min(self._standing.retry.first_s * 2 ** min(unclear, 20), self._standing.retry.max_s))

    def forget(self, trip: Trip, latched: tuple[Scope, ...]) -> None:
        """The trip was reset: no cancel that was its alone leaves any more."""
        self._received.pop(trip.id)
        self._told.pop(trip.id)
        self._said.drop(lambda scope: not any(other.covers(scope) for other in latched))
        if not any(other.oms == trip.scope.oms for other in latched):
            self._singled.drop(lambda key: key[0] == trip.scope.oms)

    def words(self, trip: Trip) -> str:
        """What people must know of a trip that isn't confirmed; "" where HTTP did nothing for it."""
        received = self._received.get(trip.id) or 0
        if not received or not (self._blind(trip.scope.oms) or self._evidence.orders_left(trip) is None):
            return ""
        return (
            f"; {received} cancel{'s were' if received > 1 else ' was'} received over HTTP, where nothing can be "
            "listed: nobody has seen what became of the orders"
        )

    # --- what leaves ---------------------------------------------------------------------------------------

    def send(self, oms: str, now: float, wall: float) -> None:
        """Cancel over HTTP what no gateway answers for."""
        resort = self._book.resorts.get(oms)
        if resort is None:
            return
        natives: dict[Scope, int] = {}
        singles: list[tuple[Trip, tuple[int, ...]]] = []
        for trip in self._evidence.latched(oms):
            if trip.state is State.CONFIRMED or not (self._blind(oms) or self._silent(trip)):
                continue
            plan = self._evidence.plan(trip, self._book.dialect(oms, over=resort.dialect))
            for part in plan.calls:
                natives[part] = max(natives.get(part, 0), trip.sweep.began_call)
            singles.append((trip, plan.by_order))
            self._tell(trip, wall)
        due = [self._native(resort, scope, natives, now) for scope in outermost(natives)]
        due += [self._orders(resort, trip, accounts, now) for trip, accounts in singles if accounts]
        later = min(due, default=float("inf"))
        if later < float("inf"):
            self._agenda.set(("resort", oms), later)

    def _blind(self, oms: str) -> bool:
        """No session could list anything."""
        return watching(self._book, oms) is None

    def _silent(self, trip: Trip) -> bool:
        """Every gateway that was asked owes the answer to a cancel of this scope, and has answered nothing since."""
        asked = live(self._book, trip.scope.oms)
        overdue = [c for c in self._book.cancels_under_way(trip.scope) if c.overdue]
        silent = {s.number for s in asked if any(c.session == s.number and c.number > s.answered for c in overdue)}
        return len(silent) >= min(len(asked), 2)

    def _native(self, resort: Session, scope: Scope, wanted: dict[Scope, int], now: float) -> float:
        """Send a scope's cancel if it is due. When it is due again."""
        under_way = [c for c in self._book.cancels_over_http(scope) if c.order_id is None]
        covering_it = [c for c in under_way if c.scope in covering(scope)]
        fresh = max((began for part, began in wanted.items() if scope.covers(part)), default=0)
        said = self._said.get(scope)
        if any(not c.overdue and c.number >= fresh for c in covering_it) or len(covering_it) >= UNANSWERED_MAX:
            return float("inf")  # its answer, or its time-out, brings us back here
        if said is not None and now < said.next_at and said.call >= fresh:
            return said.next_at
        call = self._book.new_call(resort, "CancelAllOrders", scope, now, cancels=True)
        self._outbox.put(CancelAllOrders(call.number, resort.number, scope))
        self._agenda.set(("call", call.number), now + self._standing.retry.timeout_s)
        distance = max(AGAIN_S, len(wanted) / (SHARE * self._book.budget.full_calls_per_s(scope.oms)))
        self._said[scope] = _Said(call.number, now + distance, 0 if said is None else said.unclear)
        return now + distance

    def _orders(self, resort: Session, trip: Trip, accounts: tuple[int, ...], now: float) -> float:
        """Where no call takes them all: those that the last lists showed, by their ids. When they are due again.

        An order that was in the scope is in it still, so its cancel is never too wide, however old the list is.
        """
        under_way = {c.order_id for c in self._book.cancels_over_http(trip.scope)}
        again_at = float("inf")
        for account in accounts:
            left = SINGLES_MAX
            for order in self._known(trip, account):
                assert order.order_id is not None
                key = (trip.scope.oms, account, order.order_id)
                before = self._singled.get(key) or _Singled(now)
                if order.order_id in under_way:
                    continue
                if before.due_at > now:
                    again_at = min(again_at, before.due_at)
                    continue
                if not left:
                    again_at = min(again_at, now + AGAIN_S)
                    continue
                left -= 1
                self._single(resort, trip, order, order.order_id, now)
                self._singled[key] = _Singled(now + SINGLE_AGAIN_S, before.unclear)
                again_at = min(again_at, now + SINGLE_AGAIN_S)
        return again_at

    def _known(self, trip: Trip, account: int) -> Iterator[Order]:
        """The orders of an account that are the scope's for sure and not known to be over."""
        listed = self._book.listed.get((trip.scope.oms, account))
        if listed is None:
            return
        for order in self._evidence.find(trip, account, listed).sure:
            if order.order_id is None:
                continue
            over = self._book.sightings.over.get((trip.scope.oms, account, order.order_id))
            if over is None or over.call <= listed.call:
                yield order

    def _single(self, resort: Session, trip: Trip, order: Order, order_id: int, now: float) -> None:
        oms, fully = trip.scope.oms, trip.sweep.fully
        user, instrument = order.entered_by or EVERY, order.instrument or EVERY
        touches = Scope(oms=oms, account=order.account, user=user, instrument=instrument)
        call = self._book.new_call(resort, "CancelOrder", touches, now, cancels=True, order_id=order_id, fully=fully)
        self._outbox.put(
            CancelOrder(call.number, resort.number, oms, order.account, order_id, order.client_order_id, fully=fully)
        )
        self._agenda.set(("call", call.number), now + self._standing.retry.timeout_s)

    def _tell(self, trip: Trip, wall: float) -> None:
        """Once a sweep."""
        if self._told.get(trip.id) == trip.sweep.began_call:
            return
        self._told[trip.id] = trip.sweep.began_call
        self._received.pop(trip.id)
        why = "there is no session with a gateway" if self._blind(trip.scope.oms) else "no gateway answers"
        text = f"{trip.scope.in_words()}: {why}: cancelled over HTTP, which proves nothing"
        self._outbox.event("over_http", text, wall, trip=trip.id)


def _account(call: Call) -> int:
    assert isinstance(call.scope.account, int), "a single cancel names an account"
    return call.scope.account

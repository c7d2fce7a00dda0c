"""Tallies: the events of an OMS that are counted, each once: orders, trades, rejections, cancels.

A gateway may tell of one event twice, and two sessions do. What has an id is counted once as long as that id is
remembered, which is the last REMEMBERED of its kind at that OMS; an order that works is known for as long as it
does. What has no id is counted on the oldest session only. A list tells of no event: an order that it shows first
is known from then on, and isn't counted as a new one.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import Event, OrderEnded, OrderRejected, OrderWorking, TradeSeen
from killswitch.domain.undo import Queue, Table
from killswitch.domain.watch.shown import Seen

if TYPE_CHECKING:
    from collections.abc import Hashable

    from killswitch.domain.messages import Labels, Order
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone

REMEMBERED: Final = 32_768
"""Ids of one kind at one OMS; beyond that the oldest is forgotten, and would count once more."""

PAIR_S: Final = 5.0
"""The two tellings of one rejection come together; what is further apart is two rejections."""

ONE: Final = Decimal(1)


class Tallies:
    """What was counted so far."""

    def __init__(self, undo: Undo, remembered: int = REMEMBERED) -> None:
        self._undo, self._remembered = undo, remembered
        # A memory an OMS and kind. An empty one left behind by a rollback says nothing.
        self._ids: dict[tuple[str, str], Table[Hashable, tuple[int, float]]] = {}
        self._queues: dict[tuple[str, str], Queue[Hashable]] = {}

    def take(self, event: Event, now: float, *, listed: bool, oldest: bool) -> tuple[Seen, ...]:
        """What counts of an event. `listed`: its order is known to work; `oldest`: so is its session."""
        match event:
            case OrderWorking(oms=oms, order=order):
                return self._order(oms, order, "Working", now, listed=listed)
            case OrderEnded(oms=oms, order=order, state=state):
                return self._order(oms, order, state, now, listed=listed)
            case TradeSeen():
                return self._trade(event, now, oldest=oldest)
            case OrderRejected():
                return self._rejected(event, now, oldest=oldest)
            case _:
                return ()

    def _order(self, oms: str, order: Order, state: str, now: float, *, listed: bool) -> tuple[Seen, ...]:
        if order.order_id is None:
            return ()  # nobody could tell its next event from another order's first one
        labels = _labels(order.account, order.instrument, order.entered_by)
        seen = []
        if state == "Rejected":
            if self._is_new(oms, "reject", order.order_id) and self._is_unpaired(
                oms, order.account, order.client_order_id, now, by_event=False
            ):
                seen.append(Seen("reject", labels, ONE, now))
            return tuple(seen)
        if self._is_new(oms, "order", order.order_id) and not listed:
            seen.append(Seen("order", labels, order.quantity or ONE, now))
        if state == "Canceled" and self._is_new(oms, "cancel", order.order_id):
            seen.append(Seen("cancel", labels, ONE, now))
        return tuple(seen)

    def _trade(self, event: TradeSeen, now: float, *, oldest: bool) -> tuple[Seen, ...]:
        # Both sides of a trade may be ours: each has the trade's id, on its own account or its own order.
        which = (event.trade_id, event.account, event.order_id)
        if not (oldest if event.trade_id is None else self._is_new(event.oms, "trade", which)):
            return ()
        labels = _labels(event.account, event.instrument, event.user)
        return (Seen("trade", labels, event.quantity or ONE, now),)

    def _rejected(self, event: OrderRejected, now: float, *, oldest: bool) -> tuple[Seen, ...]:
        if event.order_id is not None:
            new = self._is_new(event.oms, "reject", event.order_id)
        else:
            new = oldest and self._is_unpaired(event.oms, event.account, event.client_order_id, now, by_event=True)
        labels = _labels(event.account, event.instrument, event.user)
        return (Seen("reject", labels, ONE, now),) if new else ()

    def _is_unpaired(self, oms: str, account: int, client_order_id: int | None, now: float, *, by_event: bool) -> bool:
        """A server may tell of one rejection by an event of its own, which names no order, and by the order's state.

        A loop that sends the same client id again and again is many rejections: so each one pairs with one of
        the other sort, and isn't merged by its id. Those that never find theirs must not hide later ones.
        """
        step, which = (1 if by_event else -1), (account, client_order_id)
        held, since = self._memory(oms, "pair").get(which) or (0, now)
        if not held or now - since > PAIR_S:
            held, since = 0, now
        self._remember(oms, "pair", which, (held + step, since))
        return held * step >= 0

    def forget(self, gone: Gone) -> None:
        """OMSs went."""
        for at in [at for at in self._ids if gone.oms(at[0])]:
            self._undo.note(partial(self._ids.__setitem__, at, self._ids.pop(at)))
            self._undo.note(partial(self._queues.__setitem__, at, self._queues.pop(at)))

    # --- a memory with an end

    def _is_new(self, oms: str, kind: str, which: Hashable) -> bool:
        if which in self._memory(oms, kind):
            return False
        self._remember(oms, kind, which, (1, 0.0))
        return True

    def _memory(self, oms: str, kind: str) -> Table[Hashable, tuple[int, float]]:
        held = self._ids.get((oms, kind))
        if held is None:
            held = self._ids[oms, kind] = Table(self._undo)
            self._queues[oms, kind] = Queue(self._undo)
        return held

    def _remember(self, oms: str, kind: str, which: Hashable, value: tuple[int, float]) -> None:
        held, queue = self._memory(oms, kind), self._queues[oms, kind]
        if which not in held:
            queue.append(which)
            if len(queue) > self._remembered:
                held.pop(queue.popleft())
        held[which] = value


def _labels(account: int, instrument: int | None, user: int | None) -> Labels:
    held = (("account", account), ("instrument", instrument), ("user", user))
    return tuple((name, str(number)) for name, number in held if number is not None)

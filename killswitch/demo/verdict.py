"""What the demo is judged by: the simulated OMS's own order table and log, never what the daemon says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.simulator.orders import OrderState

if TYPE_CHECKING:
    from collections.abc import Collection

    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.log import Request


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so, in words, and whether it is."""

    words: str
    ok: bool


def verdict(exchange: Exchange, *, tripped: Collection[int], late: int) -> tuple[Check, ...]:
    """Whether everything in the tripped accounts was cancelled, the late order too, and nothing else was."""
    orders = exchange.orders.values()
    inside = [order for order in orders if order.account in tripped]
    outside = [order for order in orders if order.account not in tripped]
    left = sum(order.open for order in inside)
    named = " and ".join(map(str, sorted(tripped)))
    taken = cancelled_by_request(exchange)
    strays = [request for request in _cancels(exchange) if _account(exchange, request) not in tripped]
    return (
        Check(f"open orders in account {named}: {left}", left == 0),
        Check(
            f"the late order {late} is among the cancelled",
            late in taken and exchange.orders[late].state is OrderState.Canceled,
        ),
        Check(f"orders of other accounts: {len(outside)}, all still open", all(order.open for order in outside)),
        Check("every cancel that came in named a tripped account", bool(inside) and not strays),
    )


def cancelled_by_request(exchange: Exchange) -> set[int]:
    """The orders that a request cancelled."""
    return {e.order_id for e in exchange.log.endings if e.state is OrderState.Canceled and e.request is not None}


def cancelled_by(exchange: Exchange, request: Request) -> list[int]:
    """The orders that this request cancelled, oldest first."""
    return sorted(e.order_id for e in exchange.log.endings if e.request == request.number)


def open_at(exchange: Exchange, account: int, at: float) -> int:
    """How many orders of an account were open at this second of the exchange's time."""
    ended = {e.order_id: e.at for e in exchange.log.endings}
    at_ms = exchange.wall_at_zero_ms + at * 1000
    return sum(
        order.account == account and order.received_ms <= at_ms and ended.get(order.order_id, at + 1) > at
        for order in exchange.orders.values()
    )


def _cancels(exchange: Exchange) -> list[Request]:
    return [*exchange.log.of("CancelAllOrders"), *exchange.log.of("CancelOrder")]


def _account(exchange: Exchange, request: Request) -> object:
    """The account that a cancel is about; None where it names none."""
    if isinstance(request.body, str):
        return None
    order = exchange.orders.get(int(str(request.body.get("OrderId") or 0)))
    return order.account if order is not None else request.body.get("AccountId")

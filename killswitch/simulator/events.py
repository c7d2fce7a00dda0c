"""Events that the simulated OMS pushes, as name and JSON text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.simulator.orders import number, ticks

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.simulator.orders import Order
    from killswitch.simulator.positions import Position


@dataclass(frozen=True, slots=True)
class Event:
    """For the subscribers of `account` or of `instrument`'s prices; else for the sessions of `user`."""

    name: str
    payload: str
    account: int | None
    user: int | None = None
    instrument: int | None = None


def order_state(order: Order, *, short: bool) -> Event:
    """OrderStateEvent: the whole order object, or the older documents' fourteen fields of it."""
    return Event("OrderStateEvent", order.short_event() if short else order.full(), order.account)


def trade(order: Order, trade_id: int, quantity: Decimal, price: Decimal) -> Event:
    """OrderTradeEvent. Here the keys are AccountId and InstrumentId, and TradeTime is in .NET ticks."""
    payload = (
        f'{{"OMSId":{order.oms_id},"TradeId":{trade_id},"OrderId":{order.order_id},"AccountId":{order.account},'
        f'"ClientOrderId":{order.client_order_id},"InstrumentId":{order.instrument},"Side":"{order.side.name}",'
        f'"Quantity":{number(quantity)},"Price":{number(price)},"Value":{number(quantity * price)},'
        f'"TradeTime":{ticks(order.updated_ms)},"ContraAcctId":0,"OrderTradeRevision":1,"Direction":"NoChange"}}'
    )
    return Event("OrderTradeEvent", payload, order.account)


def position(held: Position) -> Event:
    """AccountPositionEvent: a row of GetAccountPositions."""
    return Event("AccountPositionEvent", held.row(), held.account)


def level1(instrument: int, payload: str) -> Event:
    """Level1UpdateEvent: what SubscribeLevel1 was answered with, as it is now."""
    return Event("Level1UpdateEvent", payload, None, instrument=instrument)


def new_order_reject(oms_id: int, account: int, client_order_id: int, reason: str) -> Event:
    """NewOrderRejectEvent. There is no order, so it has no order id; and it doesn't say what it was for."""
    body = {
        "OMSId": oms_id,
        "AccountId": account,
        "ClientOrderId": client_order_id,
        "Status": "Rejected",
        "RejectReason": reason,
    }
    return Event("NewOrderRejectEvent", json.dumps(body), account)


def cancel_reject(order: Order) -> Event:
    """CancelOrderRejectEvent: the cancel was received, but the order had ended by then."""
    body = {
        "OMSId": order.oms_id,
        "AccountId": order.account,
        "OrderId": order.order_id,
        "OrderRevision": 1,
        "OrderType": order.order_type.name,
        "InstrumentId": order.instrument,
        "Status": "Rejected",
        "RejectReason": "Order Not Found",
    }
    return Event("CancelOrderRejectEvent", json.dumps(body), order.account)


def cancel_all_reject(oms_id: int, account: int | None, instrument: int | None, user: int) -> Event:
    """CancelAllOrdersRejectEvent, to the caller's sessions when the call named no account."""
    body = {
        "OMSId": oms_id,
        "AccountId": account or 0,
        "InstrumentId": instrument or 0,
        "Status": "Rejected",
        "RejectReason": "Operation Failed",
    }
    return Event("CancelAllOrdersRejectEvent", json.dumps(body), account, user)

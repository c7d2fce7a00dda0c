"""What the AlphaPoint gateway tells by itself, after SubscribeAccountEvents and SubscribeLevel1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    CancelRejected,
    Event,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    PositionSeen,
    PriceSeen,
    TradeSeen,
)
from killswitch.wire.alphapoint_fields import Fields, as_id, as_text, load
from killswitch.wire.alphapoint_market import read_prices, read_rejection, read_trade
from killswitch.wire.alphapoint_replies import read_ended, read_order, read_position
from killswitch.wire.frame import ProtocolError

if TYPE_CHECKING:
    from killswitch.wire.frame import Frame

LOGGED_OUT: Final = "LogoutEvent"
"""No document lists it, but it is sent: the session's calls will be refused from here on."""


def read_event(frame: Frame, oms: str, session: int, wall: float) -> tuple[Event, ...]:
    """The facts in an event frame; none for an event that says nothing to us.

    Raises ProtocolError for an event that would say something if it could be read.
    """
    match frame.n:
        case "OrderStateEvent":
            return (_order_state(_fields(frame), oms, session, wall),)
        case "AccountPositionEvent":
            row = read_position(_fields(frame), None)
            if row is None:
                raise ProtocolError("an AccountPositionEvent that can't be read")
            return (PositionSeen(wall=wall, oms=oms, session=session, row=row),)
        case "Level1UpdateEvent" | "Leve1UpdateEvent":  # the vendor's page on SubscribeLevel1 has the latter, too
            return (_prices(_fields(frame), oms, session, wall),)
        case "OrderTradeEvent":
            return (_trade(_fields(frame), oms, session, wall),)
        case "NewOrderRejectEvent":
            return _new_order_reject(_fields(frame), oms, session, wall)
        case "CancelAllOrdersRejectEvent" | "CancelOrderRejectEvent":
            return _cancel_reject(frame, oms, session, wall)
        case _:
            return ()


def _fields(frame: Frame) -> Fields:
    body = load(frame.o)
    if not isinstance(body, dict):
        raise ProtocolError("an event whose payload is no object")
    return Fields(body)


def _order_state(fields: Fields, oms: str, session: int, wall: float) -> Event:
    order = read_order(fields, None)
    if order is None:
        raise ProtocolError("an OrderStateEvent that names no account")
    # The reason of a change says nothing certain (Working comes with UserModified, too): the state does.
    # A state that can't be read is no proof of an end, so it counts as a sight of the order.
    ended = read_ended(fields.get("orderstate"))
    if ended:
        return OrderEnded(wall=wall, oms=oms, session=session, order=order, state=ended)
    return OrderWorking(wall=wall, oms=oms, session=session, order=order)


def _prices(fields: Fields, oms: str, session: int, wall: float) -> PriceSeen:
    found = read_prices(fields, None)
    if found is None:
        raise ProtocolError("prices that name no instrument")
    return PriceSeen(
        wall=wall,
        oms=oms,
        session=session,
        instrument=found.instrument,
        bid=found.bid,
        ask=found.ask,
        last=found.last,
    )


def _trade(fields: Fields, oms: str, session: int, wall: float) -> TradeSeen:
    found = read_trade(fields)
    if found is None:
        raise ProtocolError("an OrderTradeEvent that names no account")
    return TradeSeen(
        wall=wall,
        oms=oms,
        session=session,
        account=found.account,
        instrument=found.instrument,
        user=found.user,
        trade_id=found.trade_id,
        order_id=found.order_id,
        quantity=found.quantity,
        price=found.price,
    )


def _new_order_reject(fields: Fields, oms: str, session: int, wall: float) -> tuple[Event, ...]:
    if as_text(fields.get("status")).lower() == "accepted":  # as in the events about refused cancels
        return ()
    found = read_rejection(fields)
    if found is None:
        raise ProtocolError("a NewOrderRejectEvent that names no account")
    return (
        OrderRejected(
            wall=wall,
            oms=oms,
            session=session,
            account=found.account,
            instrument=found.instrument,
            user=found.user,
            order_id=found.order_id,
            client_order_id=found.client_order_id,
            reason=found.reason,
        ),
    )


def _cancel_reject(frame: Frame, oms: str, session: int, wall: float) -> tuple[Event, ...]:
    fields = _fields(frame)
    # Status of CancelAllOrdersRejectEvent is "Accepted/Rejected" in the vendor's table.
    if as_text(fields.get("status")).lower() == "accepted":
        return ()
    account = as_id(fields.get("accountid", "account"))
    if account is None:
        raise ProtocolError(f"a {frame.n} that names no account")
    return (
        CancelRejected(
            wall=wall,
            oms=oms,
            session=session,
            account=account,
            order_id=as_id(fields.get("orderid")),
            reason=as_text(fields.get("rejectreason")),
        ),
    )

"""A call of the core as a request of the gateway's, and the reply to it as a fact for the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from killswitch.domain.messages import (
    AccountsFound,
    Answer,
    Answered,
    CancelAllOrders,
    CancelOrder,
    Event,
    Instruments,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    OpenOrders,
    Positions,
    PriceSeen,
    SubscribePrice,
)
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_market import read_instruments, read_subscribed_prices
from killswitch.wire.alphapoint_replies import (
    read_answer,
    read_open_orders,
    read_positions,
    read_user_accounts,
)

if TYPE_CHECKING:
    from killswitch.domain.dialects import Dialect
    from killswitch.wire.frame import Frame

Listing: TypeAlias = ListOpenOrders | ListUserAccounts | ListPositions | ListInstruments | SubscribePrice
Call: TypeAlias = CancelAllOrders | CancelOrder | Listing


def request_for(call: Call, oms_id: int, dialect: Dialect) -> alphapoint.Request:
    """The request that says this call to a server of this dialect. Raises ValueError for one that can't be said."""
    match call:
        case CancelAllOrders(scope=scope):
            return alphapoint.cancel_all_orders(oms_id, scope, dialect=dialect)
        case CancelOrder(account=account, order_id=order_id, client_order_id=client_order_id):
            return alphapoint.cancel_order(oms_id, account, order_id, client_order_id, dialect=dialect)
        case ListOpenOrders(account=account):
            return alphapoint.get_open_orders(oms_id, account)
        case ListUserAccounts(user=user):
            return alphapoint.get_user_accounts(oms_id, user)
        case ListPositions(account=account):
            return alphapoint.get_account_positions(oms_id, account)
        case ListInstruments():
            return alphapoint.get_instruments(oms_id)
        case SubscribePrice(instrument=instrument):
            return alphapoint.subscribe_level1(oms_id, instrument)
        case _:
            assert_never(call)


def answer_to(call: Call, frame: Frame, session: int, wall: float) -> Event:
    """What a reply tells: the list that was asked for, else the generic answer. Never raises."""
    told = read_answer(frame) if isinstance(call, CancelAllOrders | CancelOrder) else _told(call, frame, session, wall)
    if isinstance(told, Answer):
        return Answered(wall=wall, call=call.call, session=session, answer=told)
    return told


def _told(call: Listing, frame: Frame, session: int, wall: float) -> Event | Answer:
    number = call.call
    match call:
        case ListOpenOrders(account=account):
            orders = read_open_orders(frame, account)
            if isinstance(orders, Answer):
                return orders
            return OpenOrders(
                wall=wall,
                call=number,
                session=session,
                account=account,
                orders=orders.rows,
                unreadable=orders.unreadable,
            )
        case ListUserAccounts():
            accounts = read_user_accounts(frame)
            if isinstance(accounts, Answer):
                return accounts
            return AccountsFound(wall=wall, call=number, session=session, accounts=accounts)
        case ListPositions(account=account):
            positions = read_positions(frame, account)
            if isinstance(positions, Answer):
                return positions
            return Positions(
                wall=wall,
                call=number,
                session=session,
                account=account,
                rows=positions.rows,
                unreadable=positions.unreadable,
            )
        case ListInstruments():
            found = read_instruments(frame)
            if isinstance(found, Answer):
                return found
            return Instruments(wall=wall, call=number, session=session, rows=found.rows, unreadable=found.unreadable)
        case SubscribePrice(oms=oms, instrument=instrument):
            prices = read_subscribed_prices(frame, instrument)
            if isinstance(prices, Answer):
                return prices
            return PriceSeen(
                wall=wall,
                oms=oms,
                session=session,
                instrument=instrument,
                bid=prices.bid,
                ask=prices.ask,
                last=prices.last,
                call=number,
            )
        case _:
            assert_never(call)

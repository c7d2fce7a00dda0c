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
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    OpenOrders,
    Positions,
)
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_replies import (
    read_answer,
    read_open_orders,
    read_positions,
    read_user_accounts,
)

if TYPE_CHECKING:
    from killswitch.wire.frame import Frame

Call: TypeAlias = CancelAllOrders | CancelOrder | ListOpenOrders | ListUserAccounts | ListPositions


def request_for(call: Call, oms_id: int) -> alphapoint.Request:
    """The request that says this call. Raises ValueError for one that can't be said."""
    match call:
        case CancelAllOrders(scope=scope):
            return alphapoint.cancel_all_orders(oms_id, scope)
        case CancelOrder(account=account, order_id=order_id, client_order_id=client_order_id):
            return alphapoint.cancel_order(oms_id, account, order_id, client_order_id)
        case ListOpenOrders(account=account):
            return alphapoint.get_open_orders(oms_id, account)
        case ListUserAccounts(user=user):
            return alphapoint.get_user_accounts(oms_id, user)
        case ListPositions(account=account):
            return alphapoint.get_account_positions(oms_id, account)
        case _:
            assert_never(call)


def answer_to(call: Call, frame: Frame, session: int, wall: float) -> Event:
    """What a reply tells: the list that was asked for, else the generic answer. Never raises."""
    number = call.call
    told: Event | Answer
    match call:
        case CancelAllOrders() | CancelOrder():
            told = read_answer(frame)
        case ListOpenOrders(account=account):
            orders = read_open_orders(frame, account)
            if isinstance(orders, Answer):
                told = orders
            else:
                told = OpenOrders(
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
                told = accounts
            else:
                told = AccountsFound(wall=wall, call=number, session=session, accounts=accounts)
        case ListPositions(account=account):
            positions = read_positions(frame, account)
            if isinstance(positions, Answer):
                told = positions
            else:
                told = Positions(
                    wall=wall,
                    call=number,
                    session=session,
                    account=account,
                    rows=positions.rows,
                    unreadable=positions.unreadable,
                )
        case _:
            assert_never(call)
    if isinstance(told, Answer):
        return Answered(wall=wall, call=number, session=session, answer=told)
    return told

"""A call of the core as a request of the gateway's, and the reply to it as a fact for the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from killswitch.adapters.oms_credential import names_told, question
from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Answer,
    Answered,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    Event,
    Instruments,
    InstrumentsFound,
    ListAccounts,
    ListBlockTrades,
    ListInstruments,
    ListOpenOrders,
    ListPermissions,
    ListPositions,
    ListQuotes,
    ListSecondFactorCalls,
    ListUserAccounts,
    OpenBlockTrades,
    OpenOrders,
    OpenQuotes,
    Positions,
    PriceSeen,
    SubscribeAccount,
    SubscribePrice,
)
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_accounts import get_accounts, read_accounts
from killswitch.wire.alphapoint_market import read_instruments, read_subscribed_prices
from killswitch.wire.alphapoint_quotes import (
    cancel_quote,
    get_open_quotes,
    get_open_trade_reports,
    read_instrument_ids,
    read_quote_cancelled,
    read_quotes,
    read_trade_reports,
)
from killswitch.wire.alphapoint_replies import (
    read_answer,
    read_open_orders,
    read_positions,
    read_subscribed,
    read_user_accounts,
)

if TYPE_CHECKING:
    from killswitch.domain.dialects import Dialect
    from killswitch.wire.frame import Frame

Census: TypeAlias = ListUserAccounts | ListAccounts | SubscribeAccount
Listing: TypeAlias = (
    ListOpenOrders
    | ListQuotes
    | ListBlockTrades
    | ListPermissions
    | ListSecondFactorCalls
    | ListPositions
    | ListInstruments
    | SubscribePrice
    | Census
)
Call: TypeAlias = CancelAllOrders | CancelOrder | CancelQuote | Listing
CANCELS: Final = (CancelAllOrders, CancelOrder, CancelQuote)


def request_for(call: Call, oms_id: int, dialect: Dialect) -> alphapoint.Request:
    """The request that says this call to a server of this dialect. Raises ValueError for one that can't be said."""
    match call:
        case CancelAllOrders(scope=scope):
            return alphapoint.cancel_all_orders(oms_id, scope, dialect=dialect)
        case CancelOrder(account=account, order_id=order_id, client_order_id=client_order_id, fully=fully):
            return alphapoint.cancel_order(oms_id, account, order_id, client_order_id, dialect=dialect, fully=fully)
        case CancelQuote(account=account, instrument=instrument, bid=bid, ask=ask):
            return cancel_quote(oms_id, account, instrument, bid, ask)
        case ListOpenOrders(account=account):
            return alphapoint.get_open_orders(oms_id, account)
        case ListQuotes(account=account, instrument=instrument):
            return get_open_quotes(oms_id, account, instrument)
        case ListBlockTrades(account=account):
            return get_open_trade_reports(oms_id, account)
        case ListPermissions() | ListSecondFactorCalls():
            return question(call)
        case ListUserAccounts(user=user):
            return alphapoint.get_user_accounts(oms_id, user)
        case ListAccounts(start=start, limit=limit):
            return get_accounts(oms_id, start, limit)
        case SubscribeAccount(account=account):
            return alphapoint.subscribe_account_events(oms_id, account)
        case ListPositions(account=account):
            return alphapoint.get_account_positions(oms_id, account)
        case ListInstruments(inactive=inactive):
            return alphapoint.get_instruments(oms_id, inactive=inactive, dialect=dialect)
        case SubscribePrice(instrument=instrument):
            return alphapoint.subscribe_level1(oms_id, instrument)
        case _:
            assert_never(call)


def answer_to(call: Call, frame: Frame, session: int, wall: float) -> Event:
    """What a reply tells: the list that was asked for, else the generic answer. Never raises."""
    match call:
        case CancelAllOrders() | CancelOrder():
            told: Event | Answer = read_answer(frame)
        case CancelQuote():
            told = read_quote_cancelled(frame)
        case ListPermissions() | ListSecondFactorCalls():
            told = names_told(call, frame, session, wall)
        case ListQuotes() | ListBlockTrades() | ListInstruments(inactive=True):
            told = _also_told(call, frame, session, wall)
        case ListUserAccounts() | ListAccounts() | SubscribeAccount():
            told = _census(call, frame, session, wall)
        case _:
            told = _told(call, frame, session, wall)
    if isinstance(told, Answer):
        return Answered(wall=wall, call=call.call, session=session, answer=told)
    return told


def _also_told(
    call: ListQuotes | ListBlockTrades | ListInstruments, frame: Frame, session: int, wall: float
) -> Event | Answer:
    """What rests beside the orders, and on which instruments it may."""
    number = call.call
    if isinstance(call, ListInstruments):
        ids = read_instrument_ids(frame)
        if isinstance(ids, Answer):
            return ids
        return InstrumentsFound(
            wall=wall, call=number, session=session, instruments=ids.rows, unreadable=ids.unreadable
        )
    account = call.account
    if isinstance(call, ListQuotes):
        found = read_quotes(frame, account, call.instrument)
        if isinstance(found, Answer):
            return found
        return OpenQuotes(
            wall=wall,
            call=number,
            session=session,
            account=account,
            instrument=call.instrument,
            orders=found.rows,
            unreadable=found.unreadable,
        )
    found = read_trade_reports(frame, account)
    if isinstance(found, Answer):
        return found
    return OpenBlockTrades(
        wall=wall, call=number, session=session, account=account, orders=found.rows, unreadable=found.unreadable
    )


def _census(call: Census, frame: Frame, session: int, wall: float) -> Event | Answer:
    """Which accounts there are; and whether the events of one are subscribed to, which is a generic answer."""
    match call:
        case ListUserAccounts():
            accounts = read_user_accounts(frame)
            if isinstance(accounts, Answer):
                return accounts
            return AccountsFound(wall=wall, call=call.call, session=session, accounts=accounts)
        case ListAccounts():
            page = read_accounts(frame)
            if isinstance(page, Answer):
                return page
            return AccountsListed(
                wall=wall,
                call=call.call,
                session=session,
                accounts=page.accounts,
                rows=page.rows,
                unreadable=page.unreadable,
            )
        case SubscribeAccount():
            return read_subscribed(frame)
        case _:
            assert_never(call)


def _told(
    call: ListOpenOrders | ListPositions | ListInstruments | SubscribePrice,
    frame: Frame,
    session: int,
    wall: float,
) -> Event | Answer:
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

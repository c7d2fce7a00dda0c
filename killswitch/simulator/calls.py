"""What each call answers: body text in, JSON text out. Pure.

Unknown keys are ignored, and v2 knows a key in the vendor's exact spelling only. An id that is missing, null or
0 is one and the same: not given. So a misspelt key, a 0, or a key that the dialect doesn't know widens a
CancelAllOrders here just as it would on a live server.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn

from killswitch.simulator.answers import RECEIVED, Refused, both_sides, refusal, wants_code
from killswitch.simulator.dialects import AnyCase
from killswitch.simulator.faults import CutPage, Error
from killswitch.simulator.orders import OrderState, OrderType, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.users import User

    Body = Mapping[str, object]
    Handler = Callable[[Exchange, User, Body, float], str]

LISTS: Final = frozenset(
    {
        *("GetOpenOrders", "GetOpenQuotes", "GetOpenTradeReports"),
        *("GetAccountPositions", "GetUserAccounts", "GetAccounts", "GetInstruments"),
    }
)
_ID_MAX: Final = 2**63 - 1


def read_body(text: str) -> Body:
    """The payload as an object; numbers with a point are Decimals. Refused 100 when it isn't one."""

    def no_number(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        body = json.loads(text, parse_float=Decimal, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Refused(100) from None
    if not isinstance(body, dict):
        raise Refused(100)
    return body


def _ids_named(text: str) -> frozenset[str]:
    """The ids that a body names beside the OMS, as it spells them."""
    try:
        return frozenset(key for key in read_body(text) if key.endswith("Id") and key != "OMSId")
    except Refused:
        return frozenset()


def spelt(exchange: Exchange, body: Body) -> Body:
    """The body as this server reads its keys."""
    return AnyCase(body) if exchange.dialect.any_case else body


def answer(exchange: Exchange, caller: User | None, name: str, text: str, now: float) -> str | None:
    """The reply's payload, None for a function that doesn't exist; carries out what was asked.

    `caller` is None before sign-in, when every call here is Not Authorized.
    """
    if name == "GetValidate2FARequiredEndpoints":
        return json.dumps(exchange.two_factor_calls)  # public
    handler = _HANDLERS.get(name)
    if handler is None or (name == "GetAccounts" and not exchange.dialect.lists_accounts):
        return None
    if caller is None:
        return refusal(20)
    if name.lower() in exchange.two_factor_calls:
        return wants_code()
    fault = exchange.faults.take(Error, name, ids=_ids_named(text))
    if fault is not None and not fault.executed:
        return refusal(fault.code)
    try:
        body = spelt(exchange, read_body(text))
        if name != "GetUserPermissions":  # it is of users, and they are of no OMS
            check_oms(exchange, body)
        payload = handler(exchange, caller, body, now)
    except Refused as error:
        return refusal(error.code, error.detail)
    return payload if fault is None else refusal(fault.code)


def check_oms(exchange: Exchange, body: Body) -> None:
    if _identifier(body, "OMSId") != exchange.oms_id:
        raise Refused(100, "Invalid OMSId")


def _identifier(body: Body, key: str) -> int | None:
    """An id, None when it is missing, null or 0. Refused 100 for anything that isn't an id."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _ID_MAX:
        raise Refused(100, f"Invalid {key}")
    return value or None


def needed(body: Body, key: str) -> int:
    value = _identifier(body, key)
    if value is None:
        raise Refused(100, f"Invalid {key}")
    return value


def _looked_at(exchange: Exchange, caller: User, body: Body) -> int:
    """The account of a call that lists it."""
    account = needed(body, "AccountId")
    if not caller.may_look(account):
        raise Refused(20)
    if account not in exchange.accounts:
        raise Refused(104)
    return account


def _cancel_all_orders(exchange: Exchange, caller: User, body: Body, now: float) -> str:
    def read(key: str) -> int | None:
        return _identifier(body, key) if key in exchange.dialect.honours else None

    exchange.cancel_all(
        caller, now=now, account=read("AccountId"), user=read("UserId"), instrument=read("InstrumentId")
    )
    return RECEIVED


def _cancel_order(exchange: Exchange, caller: User, body: Body, now: float) -> str:
    if exchange.dialect.three_keys:
        order_id, account = needed(body, "OrderId"), needed(body, "AccountId")
        exchange.cancel_order(caller, now=now, order_id=order_id, account=account)
        return RECEIVED
    exchange.cancel_order(
        caller,
        now=now,
        order_id=_identifier(body, "OrderId"),
        account=_identifier(body, "AccountId"),
        client_order_id=_identifier(body, "ClientOrderId"),
    )
    return RECEIVED


def _get_open_orders(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    hidden = exchange.dialect.hides_quotes
    account = _looked_at(exchange, caller, body)
    orders = [o for o in exchange.open_orders(account=account) if not (hidden and o.beside)]
    rows = [o.short() for o in orders] if exchange.short_rows else [o.full() for o in orders]
    return f"[{','.join(rows)}]"


def _get_order_status(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    account = _looked_at(exchange, caller, body)
    order = exchange.orders.get(needed(body, "OrderId"))
    if order is None or order.account != account:
        raise Refused(104)
    return order.short() if exchange.short_rows else order.full()


def _get_user_accounts(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    wanted = _identifier(body, "UserId")
    name = body.get("UserName")
    if wanted is None and isinstance(name, str) and name:
        wanted = next((u.user_id for u in exchange.users.values() if u.name == name), 0)
    if wanted not in (None, caller.user_id) and not caller.operator:
        raise Refused(20)
    user = exchange.users.get(caller.user_id if wanted is None else wanted)
    if user is None:
        raise Refused(104)
    return json.dumps(sorted(user.accounts))


def _get_accounts(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    """All accounts of the OMS, for the operator. No document prints the rows; these begin as account infos do."""
    if not caller.operator:
        raise Refused(20)
    start, limit = _identifier(body, "StartIndex") or 0, _identifier(body, "Limit")
    listed = list(exchange.accounts.items())[start : None if limit is None else start + limit]
    cut = exchange.faults.take(CutPage)
    if cut is not None:
        listed = listed[: cut.rows]
    return json.dumps([{"OMSID": exchange.oms_id, "AccountId": a, "AccountName": name} for a, name in listed])


def _get_user_permissions(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    wanted = needed(body, "UserId")
    if wanted != caller.user_id and not caller.operator:
        raise Refused(20)
    user = exchange.users.get(wanted)
    if user is None:
        raise Refused(104)
    return json.dumps(sorted(user.permissions))


def _get_account_positions(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    return exchange.positions.rows(_looked_at(exchange, caller, body))


def _send_order(exchange: Exchange, caller: User, body: Body, now: float) -> str:
    account, instrument = needed(body, "AccountId"), needed(body, "InstrumentId")
    if not caller.may_trade(account):
        raise Refused(20)
    if account not in exchange.accounts or instrument not in exchange.instruments:
        raise Refused(104)
    try:
        side, kind = Side(_whole(body, "Side")), OrderType(_whole(body, "OrderType"))
    except ValueError:
        raise Refused(100) from None
    quantity, price = _decimal(body, "Quantity"), _decimal(body, "LimitPrice")
    if quantity <= 0 or (kind in (OrderType.Limit, OrderType.StopLimit) and price <= 0):
        reason = "Invalid Quantity" if quantity <= 0 else "Invalid Price"
        exchange.reject_order(account, client_order_id=_identifier(body, "ClientOrderId") or 0, reason=reason)
        return _rejected(reason)
    order = exchange.place(
        account=account,
        user=caller.user_id,
        instrument=instrument,
        now=now,
        side=side,
        quantity=quantity,
        price=price,
        stop_price=_decimal(body, "StopPrice"),
        order_type=kind,
        client_order_id=_identifier(body, "ClientOrderId") or 0,
    )
    assert order.state is not OrderState.Rejected
    return json.dumps({"status": "Accepted", "errormsg": "", "OrderId": order.order_id})


def _rejected(reason: str) -> str:
    """A SendOrder that was refused for what it asks; orders have an answer of their own shape, and an event too."""
    return json.dumps({"status": "Rejected", "errormsg": reason, "errorcode": 101})


def _whole(body: Body, key: str) -> int:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(100, f"Invalid {key}")
    return value


def _decimal(body: Body, key: str) -> Decimal:
    value = body.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Refused(100, f"Invalid {key}")
    return Decimal(value)


def _get_open_quotes(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    """An object whose sides may be null, in camelCase and with integer enumerations whatever the dialect."""
    account, instrument = needed(body, "AccountId"), needed(body, "InstrumentId")
    if not caller.may_quote(account):
        raise Refused(20)
    if account not in exchange.accounts or instrument not in exchange.instruments:
        raise Refused(104)
    rows = [side.short() if side is not None else "null" for side in exchange.quotes.shown(account, instrument)]
    return '{{"bid":{},"ask":{}}}'.format(*tuple(rows))


def _get_open_trade_reports(exchange: Exchange, caller: User, body: Body, _: float) -> str:
    account = _looked_at(exchange, caller, body)
    reports = [o for o in exchange.open_orders(account=account) if o.order_type is OrderType.BlockTrade]
    return "[" + ",".join(o.full() for o in reports) + "]"


def _create_quote(exchange: Exchange, caller: User, body: Body, now: float) -> str:
    account, instrument = needed(body, "AccountId"), needed(body, "InstrumentId")
    if not caller.may_quote(account):
        raise Refused(20)
    if account not in exchange.accounts or instrument not in exchange.instruments:
        raise Refused(104)
    numbers = {key: _decimal(body, key) for key in ("Bid", "BidQty", "Ask", "AskQty")}
    if min(numbers.values()) <= 0:
        raise Refused(100)
    exchange.quotes.place(
        account,
        caller.user_id,
        instrument,
        now,
        bid=(numbers["BidQty"], numbers["Bid"]),
        ask=(numbers["AskQty"], numbers["Ask"]),
    )
    return both_sides(RECEIVED, RECEIVED)


def _cancel_quote(exchange: Exchange, caller: User, body: Body, now: float) -> str:
    """By both ids. Without an account the caller's first one is meant, without an instrument any."""
    sides = []
    account = _identifier(body, "AccountId") or min(caller.accounts, default=0)
    instrument = _identifier(body, "InstrumentId")
    for quote in (needed(body, "BidQuoteId"), needed(body, "AskQuoteId")):
        try:
            exchange.quotes.cancel(caller, now=now, order_id=quote, account=account, instrument=instrument)
        except Refused as error:
            sides.append(refusal(error.code, error.detail))
        else:
            sides.append(RECEIVED)
    return both_sides(*sides)


_HANDLERS: Final[Mapping[str, Handler]] = {
    "CancelAllOrders": _cancel_all_orders,
    "CancelOrder": _cancel_order,
    "GetOpenOrders": _get_open_orders,
    "GetOpenQuotes": _get_open_quotes,
    "GetOpenTradeReports": _get_open_trade_reports,
    "CreateQuote": _create_quote,
    "CancelQuote": _cancel_quote,
    "GetOrderStatus": _get_order_status,
    "GetUserAccounts": _get_user_accounts,
    "GetAccounts": _get_accounts,
    "GetUserPermissions": _get_user_permissions,
    "GetAccountPositions": _get_account_positions,
    "SendOrder": _send_order,
}

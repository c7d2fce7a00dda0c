"""Quotes and block trades: what GetOpenOrders of newer servers leaves out.

A quote is a bid and an ask, each an order with an id of its own; GetOpenQuotes shows one account's quote of one
instrument. A block trade is a report of a trade that was agreed off the market; GetOpenTradeReports shows an
account's. The documents of 3.3, 3.5 and 4.x agree on the shapes; none says how "no quote" is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from killswitch.domain.messages import Answer, AnswerKind, Order
from killswitch.wire.alphapoint import ID_MAX, Request
from killswitch.wire.alphapoint_fields import Fields, as_decimal, as_id, load
from killswitch.wire.alphapoint_replies import (
    Rows,
    answer_within,
    no_list,
    read_answer,
    read_ended,
    read_open_orders,
    read_order,
    read_rows,
)
from killswitch.wire.frame import FrameType, ProtocolError

if TYPE_CHECKING:
    from killswitch.wire.frame import Frame

_SIDES: Final = ("bid", "ask")
_NOTHING: Final = ("orderid", "price", "quantity")
"""All three 0: an object that was never filled in, as the documents print their samples."""


def get_open_quotes(oms_id: int, account: int, instrument: int) -> Request:
    """One account's quote of one instrument; for Operator and MarketMaker. There is no wider form."""
    return _request("GetOpenQuotes", OMSId=oms_id, AccountId=account, InstrumentId=instrument)


def get_open_trade_reports(oms_id: int, account: int) -> Request:
    """Answered by an array of orders, those that are block trades."""
    return _request("GetOpenTradeReports", OMSId=oms_id, AccountId=account)


def cancel_quote(oms_id: int, account: int, instrument: int, bid: int, ask: int) -> Request:
    """CancelQuote with every id that it has.

    Both quote ids are required; without the account the caller's own is meant, and without the instrument
    whatever the account quotes. So none may be left out, and none is 0. Raises ValueError.
    """
    return _request(
        "CancelQuote", OMSId=oms_id, AccountId=account, InstrumentId=instrument, BidQuoteId=bid, AskQuoteId=ask
    )


def _request(name: str, **ids: int) -> Request:
    for key, value in ids.items():
        if isinstance(value, bool) or not 0 < value <= ID_MAX:
            raise ValueError(f"{key} must be an id above 0")
    return Request(name, msgspec.json.encode(ids).decode())


def read_quote_cancelled(frame: Frame) -> Answer:
    """The answer to CancelQuote: a generic answer for each side, or one for the whole call. Never raises.

    It says "received" only where both sides do, or one is not there any more.
    """
    try:
        body = load(frame.o)
    except ProtocolError:
        return read_answer(frame)
    fields = Fields(body if isinstance(body, dict) else {})
    if not (fields.has("bidresult") and fields.has("askresult")):
        answer = read_answer(frame)
        if answer.kind is AnswerKind.RECEIVED and (fields.has("bidresult") or fields.has("askresult")):
            return Answer(AnswerKind.UNCLEAR, "other", 0, "an answer for one side only")
        return answer
    sides = [answer_within(fields.get(f"{side}result"), frame) for side in _SIDES]
    worst = (AnswerKind.REFUSED, AnswerKind.UNCLEAR, AnswerKind.RECEIVED, AnswerKind.ABSENT)
    return min(sides, key=lambda answer: worst.index(answer.kind))


def read_quotes(frame: Frame, account: int, instrument: int) -> Rows[Order] | Answer:
    """GetOpenQuotes of `account` and `instrument`: the sides that may still work, bid before ask. Never raises.

    A side that is null, was never filled in, or says readably that it has ended doesn't stand; one that can't be
    read counts as unreadable. An object that doesn't name both sides shows nothing: the generic answer.
    """
    try:
        body = load(frame.o)
    except ProtocolError:
        return no_list(frame)
    if frame.m != FrameType.REPLY or not isinstance(body, dict):
        return no_list(frame)
    fields = Fields(body)
    if not all(fields.has(side) for side in _SIDES):
        return no_list(frame)
    orders: list[Order] = []
    unreadable = 0
    for side in _SIDES:
        value = fields.get(side)
        if value is None:
            continue
        found = _side(Fields(value), account, instrument) if isinstance(value, dict) else None
        if found is None:
            unreadable += 1
        elif isinstance(found, Order):
            orders.append(found)
    return Rows(tuple(orders), unreadable)


def _side(fields: Fields, account: int, instrument: int) -> Order | bool | None:
    """A side that may work; True for one that doesn't stand; None for one that can't be read."""
    if all(as_decimal(fields.get(name)) == 0 for name in _NOTHING) or read_ended(fields.get("orderstate")):
        return True
    order = read_order(fields, account)
    if order is None or order.order_id is None:
        return None
    return order if order.instrument is not None else replace(order, instrument=instrument)


def read_trade_reports(frame: Frame, account: int) -> Rows[Order] | Answer:
    """GetOpenTradeReports of `account`: whatever stands there, read as the rows of GetOpenOrders are."""
    return read_open_orders(frame, account)


def read_instrument_ids(frame: Frame) -> Rows[int] | Answer:
    """GetInstruments: the ids alone. Never raises."""
    return read_rows(frame, lambda fields: as_id(fields.get("instrumentid")) or False)

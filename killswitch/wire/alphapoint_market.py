"""What the AlphaPoint gateway says of its markets: instruments, best prices, trades, and orders it refused.

The vendor's 2.23 document and its later pages name the fields alike; only their case differs. A number that
can't be read is None and never 0: a price of 0 is how the vendor writes that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import Answer, AnswerKind, InstrumentRow
from killswitch.wire.alphapoint_fields import Fields, as_id, as_positive, as_text, load
from killswitch.wire.alphapoint_replies import read_answer, read_rows
from killswitch.wire.frame import FrameType, ProtocolError

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.wire.alphapoint_replies import Rows
    from killswitch.wire.frame import Frame

SUBSCRIBED_ALREADY: Final = 909
"""The second of two equal subscriptions is refused with it, and the first goes on."""
_LEVEL1_KEYS: Final = ("instrumentid", "bestbid", "bestoffer", "lasttradedpx")


@dataclass(frozen=True, slots=True)
class Prices:
    """Level 1 of one instrument, in its quote product."""

    instrument: int
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill of one order. `user`: who entered the order, where the dialect tells."""

    account: int
    instrument: int | None
    user: int | None
    trade_id: int | None
    order_id: int | None
    quantity: Decimal | None
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A new order that was refused."""

    account: int
    instrument: int | None
    user: int | None
    order_id: int | None
    client_order_id: int | None
    reason: str


def read_instruments(frame: Frame) -> Rows[InstrumentRow] | Answer:
    """GetInstruments: some 400 KB on a real venue, 24 fields a row, of which four count. Never raises."""
    return read_rows(frame, lambda fields: _instrument(fields) or False)


def _instrument(fields: Fields) -> InstrumentRow | None:
    instrument = as_id(fields.get("instrumentid"))
    base, quote = as_text(fields.get("product1symbol")), as_text(fields.get("product2symbol"))
    if instrument is None or not base or not quote:
        return None
    return InstrumentRow(instrument, as_text(fields.get("symbol")), base, quote)


def read_subscribed_prices(frame: Frame, instrument: int) -> Prices | Answer:
    """The answer to SubscribeLevel1 of `instrument`: its prices as they are now, or the generic answer.

    Never raises. Prices of another instrument than the one asked for are no answer that can be used.
    """
    try:
        body = load(frame.o)
    except ProtocolError:
        return read_answer(frame)
    fields = Fields(body if isinstance(body, dict) else {})
    if frame.m == FrameType.REPLY and any(fields.has(key) for key in _LEVEL1_KEYS):
        found = read_prices(fields, instrument)
        if found is not None and found.instrument == instrument:
            return found
        return Answer(AnswerKind.UNCLEAR, "other", 0, "the prices of another instrument")
    answer = read_answer(frame)
    if answer.code == SUBSCRIBED_ALREADY:
        return replace(answer, kind=AnswerKind.RECEIVED, label=str(SUBSCRIBED_ALREADY))
    return answer


def read_prices(fields: Fields, instrument: int | None) -> Prices | None:
    """Level 1; `instrument` where the object names none. None where nothing says whose prices they are."""
    named = fields.get("instrumentid")
    whose = instrument if named is None else as_id(named)
    if whose is None:
        return None
    bid, ask, last = (as_positive(fields.get(key)) for key in _LEVEL1_KEYS[1:])
    return Prices(whose, bid, ask, last)


def read_trade(fields: Fields) -> Trade | None:
    """OrderTradeEvent; None unless it names an account. Here the keys are AccountId and InstrumentId.

    OrderOriginator is a field of the newer dialects only. CounterPartyClientUserId is somebody else.
    """
    account = as_id(fields.get("accountid", "account"))
    if account is None:
        return None
    return Trade(
        account=account,
        instrument=as_id(fields.get("instrumentid", "instrument")),
        user=as_id(fields.get("orderoriginator")),
        trade_id=as_id(fields.get("tradeid")),
        order_id=as_id(fields.get("orderid")),
        quantity=as_positive(fields.get("quantity")),
        price=as_positive(fields.get("price")),
    )


def read_rejection(fields: Fields) -> Rejection | None:
    """NewOrderRejectEvent; None unless it names an account. It is documented without instrument, user and order id."""
    account = as_id(fields.get("accountid", "account"))
    if account is None:
        return None
    return Rejection(
        account=account,
        instrument=as_id(fields.get("instrumentid", "instrument")),
        user=as_id(fields.get("enteredby")),
        order_id=as_id(fields.get("orderid")),
        client_order_id=as_id(fields.get("clientorderid", "clordid", "clorderid")),
        reason=as_text(fields.get("rejectreason")),
    )

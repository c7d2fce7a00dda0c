"""An order of the simulated OMS, and what it looks like on the wire.

Every number is written as it is kept: a Decimal keeps its digits. Quantity is what remains, and 0 once an
order has ended. The keys are Instrument and Account, not InstrumentId and AccountId.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal

_TICKS_AT_EPOCH_MS: Final = 62_135_596_800_000

# The order object of GetOpenOrders and GetOrderStatus, with the vendor's spelling.
_FULL: Final = (
    '{"Side":"%(side)s","OrderId":%(order_id)d,"Price":%(price)s,"Quantity":%(remaining)s,'
    '"DisplayQuantity":%(remaining)s,"Instrument":%(instrument)d,"Account":%(account)d,'
    '%(account_name)s"OrderType":"%(order_type)s","ClientOrderId":%(client_order_id)d,"OrderState":"%(state)s",'
    '"ReceiveTime":%(received_ms)d,"ReceiveTimeTicks":%(received_ticks)d,"OrigQuantity":%(quantity)s,'
    '"QuantityExecuted":%(executed)s,"AvgPrice":%(average)s,"CounterPartyId":0,'
    '"ChangeReason":"%(change_reason)s","OrigOrderId":%(order_id)d,"OrigClOrdId":%(client_order_id)d,'
    '"EnteredBy":%(shown_by)d,"UserName":%(user_name)s,"IsQuote":%(quote)s,'
    '"InsideAsk":%(none)s,"InsideAskSize":%(none)s,"InsideBid":%(none)s,"InsideBidSize":%(none)s,'
    '"LastTradePrice":%(none)s,'
    '"RejectReason":"","IsLockedIn":false,"CancelReason":"%(cancel_reason)s","OrderFlag":"%(flag)s",'
    '"UseMargin":false,"StopPrice":%(stop_price)s,"PegPriceType":"Unknown","PegOffset":0,"PegLimitOffset":0,'
    '"IpAddress":null,"GrossValueExecuted":%(gross)s,"ExecutableValue":0,'
    '"LastUpdatedTime":%(updated_ms)d,"LastUpdatedTimeTicks":%(updated_ticks)d,"OMSId":%(oms_id)d}'
)
# Before 3.3 the row was short, in camelCase, with integer enumerations and without EnteredBy.
_SHORT: Final = (
    '{"omsId":%(oms_id)d,"side":%(side_number)d,"orderId":%(order_id)d,"price":%(price)s,'
    '"quantity":%(remaining)s,"displayQuantity":%(remaining)s,"instrument":%(instrument)d,'
    '"account":%(account)d,"orderType":%(order_type_number)d,"clientOrderId":%(client_order_id)d,'
    '"orderState":%(state_number)d}'
)
# OrderStateEvent as the older documents print it; there too nothing says who entered the order.
_SHORT_EVENT: Final = (
    '{"Side":"%(side)s","OrderId":%(order_id)d,"Price":%(price)s,"Quantity":%(remaining)s,'
    '"Instrument":%(instrument)d,"Account":%(account)d,"OrderType":"%(order_type)s",'
    '"ClientOrderId":%(client_order_id)d,"OrderState":"%(state)s","ReceiveTime":%(received_ms)d,'
    '"OrigQuantity":%(quantity)s,"QuantityExecuted":%(executed)s,"AvgPrice":%(average)s,'
    '"ChangeReason":"%(change_reason)s"}'
)


class Side(IntEnum):
    """`Side` in requests; replies carry the name."""

    Buy = 0
    Sell = 1
    Short = 2


class OrderType(IntEnum):
    """`OrderType` in requests; replies carry the name."""

    Market = 1
    Limit = 2
    StopMarket = 3
    StopLimit = 4
    TrailingStopMarket = 5
    TrailingStopLimit = 6
    BlockTrade = 7


class OrderState(IntEnum):
    """Only Working is open; the others are final."""

    Working = 1
    Rejected = 2
    Canceled = 3
    Expired = 4
    FullyExecuted = 5


@dataclass(slots=True, kw_only=True)
class Order:
    """One order. Times are milliseconds since 1970; `entered_by` is the user who sent it.

    `account_name`: "" where rows don't have it. `nameless`: its rows say all the same that user 0 did, with no
    name. `no_price`: how its rows write "none".
    """

    oms_id: int
    order_id: int
    account: int
    entered_by: int
    user_name: str
    instrument: int
    side: Side
    order_type: OrderType
    quantity: Decimal
    remaining: Decimal
    executed: Decimal
    price: Decimal
    stop_price: Decimal
    client_order_id: int
    received_ms: int
    updated_ms: int
    gross: Decimal
    account_name: str
    no_price: str
    quote: bool = False
    nameless: bool = False
    state: OrderState = OrderState.Working
    change_reason: str = "NewInputAccepted"
    cancel_reason: str = ""
    cancelling: bool = False
    """A cancel was accepted and hasn't been carried out yet; the order works until then."""
    row: str = ""
    """The full object as JSON text, kept so that a list of 20,000 orders is one join."""

    @property
    def open(self) -> bool:
        return self.state is OrderState.Working

    @property
    def beside(self) -> bool:
        """A quote's side or a block trade: what newer servers leave out of their lists of orders."""
        return self.quote or self.order_type is OrderType.BlockTrade

    def _values(self) -> dict[str, object]:
        executed = self.executed
        on_book = self.order_type in (OrderType.Limit, OrderType.Market)
        flag = "AddedToBook" if on_book else "0"
        if not self.open:
            flag = "AddedToBook, RemovedFromBook" if on_book else "0"
        return {
            "oms_id": self.oms_id,
            "order_id": self.order_id,
            "account": self.account,
            "account_name": f'"AccountName":{json.dumps(self.account_name)},' if self.account_name else "",
            "shown_by": 0 if self.nameless else self.entered_by,
            "user_name": json.dumps("" if self.nameless else self.user_name),
            "quote": "true" if self.quote else "false",
            "instrument": self.instrument,
            "side": self.side.name,
            "side_number": int(self.side),
            "order_type": self.order_type.name,
            "order_type_number": int(self.order_type),
            "state": self.state.name,
            "state_number": int(self.state),
            "quantity": number(self.quantity),
            "remaining": number(self.remaining),
            "executed": number(executed),
            "average": number(self.gross / executed) if executed else "0",
            "gross": number(self.gross),
            "price": number(self.price),
            "stop_price": number(self.stop_price),
            "client_order_id": self.client_order_id,
            "received_ms": self.received_ms,
            "received_ticks": ticks(self.received_ms),
            "updated_ms": self.updated_ms,
            "updated_ticks": ticks(self.updated_ms),
            "change_reason": self.change_reason,
            "cancel_reason": self.cancel_reason,
            "flag": flag,
            "none": self.no_price,
        }

    def full(self) -> str:
        """The whole order object as JSON text, made once after each change."""
        if not self.row:
            self.row = _FULL % self._values()
        return self.row

    def short(self) -> str:
        """The row of a server before 3.3."""
        return _SHORT % self._values()

    def short_event(self) -> str:
        """OrderStateEvent with the fourteen fields of the older documents."""
        return _SHORT_EVENT % self._values()


def number(value: Decimal) -> str:
    """A JSON number with every digit, never in scientific notation."""
    return format(value, "f")


def ticks(milliseconds: int) -> int:
    """Milliseconds since 1970 as 100 ns steps since the year 1, which the vendor's *Ticks fields hold."""
    return (milliseconds + _TICKS_AT_EPOCH_MS) * 10_000

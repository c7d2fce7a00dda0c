"""What the simulated OMS tells of its markets: the list of instruments, and Level 1 of each.

Level 1 starts around an instrument's own price, moves with every fill, and by hand (`Exchange.set_price`). A
price of 0 is no price, as on the wire.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from killswitch.simulator.orders import number
from killswitch.simulator.positions import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.simulator.positions import Instrument

_HALF_SPREAD: Final = Decimal("0.0001")
"""Of an instrument's price: how far the first bid and offer are from it."""

# With the vendor's spelling; "Rolling24NumTrades" is what the samples print.
_LEVEL1: Final = (
    '{"OMSId":%(oms_id)d,"InstrumentId":%(instrument)d,"BestBid":%(bid)s,"BestOffer":%(ask)s,'
    '"LastTradedPx":%(last)s,"LastTradedQty":%(last_quantity)s,"LastTradeTime":%(traded_ms)d,'
    '"SessionOpen":%(opened)s,"SessionHigh":%(high)s,"SessionLow":%(low)s,"SessionClose":%(opened)s,'
    '"Volume":%(last_quantity)s,"CurrentDayVolume":%(volume)s,"CurrentDayNumTrades":%(trades)d,'
    '"CurrentDayPxChange":%(change)s,"Rolling24HrVolume":%(volume)s,"Rolling24NumTrades":%(trades)d,'
    '"Rolling24HrPxChange":%(change)s,"TimeStamp":"%(traded_ms)d"}'
)


@dataclass(slots=True, kw_only=True)
class Quote:
    """Level 1 of one instrument; 0 where there is no such price. TimeStamp follows the last trade, not the quote."""

    bid: Decimal
    ask: Decimal
    last: Decimal
    opened: Decimal
    high: Decimal
    low: Decimal
    last_quantity: Decimal = field(default=ZERO)
    volume: Decimal = field(default=ZERO)
    trades: int = 0
    traded_ms: int = 0

    def level1(self, oms_id: int, instrument: int) -> str:
        """The answer to SubscribeLevel1, and the payload of Level1UpdateEvent."""
        return _LEVEL1 % {
            "oms_id": oms_id,
            "instrument": instrument,
            "bid": number(self.bid),
            "ask": number(self.ask),
            "last": number(self.last),
            "last_quantity": number(self.last_quantity),
            "opened": number(self.opened),
            "high": number(self.high),
            "low": number(self.low),
            "volume": number(self.volume),
            "change": number(self.last - self.opened),
            "trades": self.trades,
            "traded_ms": self.traded_ms,
        }


class Market:
    """The quotes by instrument."""

    def __init__(self, oms_id: int) -> None:
        self._oms_id = oms_id
        self.quotes: dict[int, Quote] = {}

    def open(self, instrument: Instrument) -> None:
        price, half = instrument.price, instrument.price * _HALF_SPREAD
        self.quotes[instrument.instrument_id] = Quote(
            bid=price - half, ask=price + half, last=price, opened=price, high=price, low=price
        )

    def level1(self, instrument: int) -> str:
        """Level 1 as JSON text."""
        return self.quotes[instrument].level1(self._oms_id, instrument)

    def set(self, instrument: int, *, bid: Decimal | None, ask: Decimal | None, last: Decimal | None) -> bool:
        """None leaves a price as it is. True when something changed."""
        quote = self.quotes[instrument]
        before = (quote.bid, quote.ask, quote.last)
        quote.bid = quote.bid if bid is None else bid
        quote.ask = quote.ask if ask is None else ask
        quote.last = quote.last if last is None else last
        return before != (quote.bid, quote.ask, quote.last)

    def traded(self, instrument: int, quantity: Decimal, price: Decimal, at_ms: int) -> None:
        """A fill: it is the last trade now."""
        quote = self.quotes[instrument]
        quote.last, quote.last_quantity, quote.traded_ms = price, quantity, at_ms
        quote.high, quote.low = max(quote.high, price), min(quote.low, price)
        quote.volume += quantity
        quote.trades += 1


def instrument_rows(oms_id: int, instruments: Mapping[int, Instrument], *, short: bool) -> str:
    """The JSON array of GetInstruments; `short` as servers before 3.3 write it: camelCase, integer enumerations."""
    return json.dumps([_row(oms_id, each, short=short) for each in instruments.values()])


def _row(oms_id: int, instrument: Instrument, *, short: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "OMSId": oms_id,
        "InstrumentId": instrument.instrument_id,
        "Symbol": instrument.symbol,
        "Product1": instrument.base,
        "Product1Symbol": instrument.base_symbol,
        "Product2": instrument.quote,
        "Product2Symbol": instrument.quote_symbol,
        "InstrumentType": 1 if short else "Standard",
        "VenueInstrumentId": instrument.instrument_id,
        "VenueId": 1,
        "SortIndex": 0,
        "SessionStatus": 1 if short else "Running",
        "PreviousSessionStatus": 2 if short else "Paused",
        "SessionStatusDateTime": "2024-01-01T00:00:00Z",
        "SelfTradePrevention": True,
        "QuantityIncrement": 0.00000001,
        "PriceIncrement": 0.01,
    }
    if short:
        return {"omsId" if key == "OMSId" else key[0].lower() + key[1:]: value for key, value in row.items()}
    return row | {
        "MinimumQuantity": 0.00000001,
        "MinimumPrice": 0.01,
        "VenueSymbol": instrument.symbol,
        "IsDisable": False,
    }

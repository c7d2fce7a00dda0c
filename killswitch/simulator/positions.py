"""Instruments and positions of the simulated OMS."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from killswitch.simulator.orders import Side, number

_ROW: Final = (
    '{"OMSId":%d,"AccountId":%d,"ProductSymbol":"%s","ProductId":%d,"Amount":%s,"Hold":%s,'
    '"PendingDeposits":0,"PendingWithdraws":0,"TotalDayDeposits":0,"TotalDayWithdraws":0,'
    '"TotalMonthDeposits":0,"TotalMonthWithdraws":0}'
)
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A pair: `base` is what is bought, `quote` what it is paid in; `price` is where a market order fills."""

    instrument_id: int
    symbol: str
    base: int
    base_symbol: str
    quote: int
    quote_symbol: str
    price: Decimal


@dataclass(slots=True, kw_only=True)
class Position:
    """One product on one account. `hold` is what a test sets; open orders don't move it."""

    oms_id: int
    account: int
    product: int
    symbol: str
    amount: Decimal = field(default=ZERO)
    hold: Decimal = field(default=ZERO)

    def row(self) -> str:
        """A row of GetAccountPositions, and the payload of AccountPositionEvent."""
        return _ROW % (
            self.oms_id,
            self.account,
            self.symbol,
            self.product,
            number(self.amount),
            number(self.hold),
        )


class Positions:
    """Amounts by account and product."""

    def __init__(self, oms_id: int) -> None:
        self._oms_id = oms_id
        self._held: dict[int, dict[int, Position]] = {}

    def at(self, account: int, product: int, symbol: str) -> Position:
        """The position, made with 0 when there is none."""
        held = self._held.setdefault(account, {})
        if product not in held:
            held[product] = Position(oms_id=self._oms_id, account=account, product=product, symbol=symbol)
        return held[product]

    def rows(self, account: int) -> str:
        """The JSON array of GetAccountPositions."""
        return f"[{','.join(p.row() for p in self._held.get(account, {}).values())}]"

    def fill(
        self, account: int, instrument: Instrument, side: Side, quantity: Decimal, price: Decimal
    ) -> tuple[Position, Position]:
        """Move base and quote by a fill; gives both positions."""
        sign = 1 if side is Side.Buy else -1
        base = self.at(account, instrument.base, instrument.base_symbol)
        quote = self.at(account, instrument.quote, instrument.quote_symbol)
        base.amount += sign * quantity
        quote.amount -= sign * quantity * price
        return base, quote

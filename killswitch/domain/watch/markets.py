"""Markets: the instruments of an OMS, their prices, and what one unit of a product is worth in the numeraire.

A price is the middle of bid and offer, or where these aren't both there the last trade; there is none where
neither is. From each product the shortest chain of instruments leads to the numeraire, of equally long ones that
whose instruments have the smaller ids: the same list always gives the same chains.
"""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.messages import InstrumentRow, Instruments, PriceSeen
    from killswitch.domain.undo import Undo

# No signal of the arithmetic may become an exception. The vendor's numbers have at most 28 digits.
_WIDE: Final = Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_HALF: Final = Decimal("0.5")


def price_of(event: PriceSeen) -> Decimal | None:
    """What the instrument is traded at; None: nobody can say."""
    bid, ask, last = (_usable(price) for price in (event.bid, event.ask, event.last))
    if bid is not None and ask is not None and bid <= ask:
        return _WIDE.multiply(_WIDE.add(bid, ask), _HALF)
    return last


def _usable(price: Decimal | None) -> Decimal | None:
    return price if price is not None and price.is_finite() and price > 0 else None


class Markets:
    """Instruments and prices of every OMS."""

    def __init__(self, undo: Undo) -> None:
        self._rows: Table[str, dict[int, InstrumentRow]] = Table(undo)  # replaced, never changed
        self._prices: Table[tuple[str, int], Decimal] = Table(undo)

    def take_list(self, oms: str, event: Instruments) -> bool:
        """True: something changed. A row that can't be read may be any that was known: then none is gone."""
        before = self._rows.get(oms)
        rows = {row.instrument: row for row in sorted(event.rows, key=lambda row: row.instrument)}
        if event.unreadable and before:
            rows = before | rows
        if rows == before:
            return False
        self._rows[oms] = rows
        return True

    def take_price(self, event: PriceSeen) -> tuple[Decimal | None, Decimal | None]:
        """The price before it, and from it on."""
        at, price = (event.oms, event.instrument), price_of(event)
        before = self._prices.get(at)
        if price is None:
            self._prices.pop(at)
        elif price != before:
            self._prices[at] = price
        return before, price

    def instruments(self, oms: str) -> tuple[int, ...]:
        """All that are known, in order."""
        return tuple(sorted(self._rows.get(oms) or ()))

"""Markets: the instruments of an OMS, their prices, and what one unit of a product is worth in the numeraire.

A price is the middle of bid and offer, or where these aren't both there the last trade; there is none where
neither is. From each product the shortest chain of instruments leads to the numeraire, of equally long ones that
whose instruments have the smaller ids: the same list always gives the same chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from killswitch.domain.messages import InstrumentRow, Instruments, PriceSeen
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone

# No signal of the arithmetic may become an exception. The vendor's numbers have at most 28 digits.
_WIDE: Final = Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_HALF: Final = Decimal("0.5")
_ONE: Final = Decimal(1)


@dataclass(frozen=True, slots=True)
class Step:
    """One instrument of a chain. `inverse`: it is walked from its quote product to its base product."""

    instrument: int
    inverse: bool


@dataclass(frozen=True, slots=True)
class Chains:
    """What leads to the numeraire. Both are never changed, only replaced.

    `of`: product -> steps; none for the numeraire itself. `users`: instrument -> the products whose chain has it.
    """

    of: Mapping[str, tuple[Step, ...]]
    users: Mapping[int, tuple[str, ...]]


def chains(rows: Iterable[InstrumentRow], numeraire: str) -> Chains:
    """The chains of all products from which the numeraire can be reached."""
    beside: dict[str, list[InstrumentRow]] = {}
    for row in rows:
        if row.base != row.quote:
            beside.setdefault(row.base, []).append(row)
            beside.setdefault(row.quote, []).append(row)
    of: dict[str, tuple[Step, ...]] = {numeraire: ()}
    layer = [numeraire]
    while layer:
        found: dict[str, tuple[Step, ...]] = {}
        for nearer in layer:
            for row in beside.get(nearer, ()):
                further = row.base if row.quote == nearer else row.quote
                chain = (Step(row.instrument, inverse=row.quote == further), *of[nearer])
                if further not in of and (further not in found or _ids(chain) < _ids(found[further])):
                    found[further] = chain
        of |= found
        layer = sorted(found)
    users: dict[int, list[str]] = {}
    for product in sorted(of):
        for instrument in sorted(set(_ids(of[product]))):
            users.setdefault(instrument, []).append(product)
    return Chains(of, {instrument: tuple(products) for instrument, products in users.items()})


def _ids(chain: tuple[Step, ...]) -> tuple[int, ...]:
    return tuple(step.instrument for step in chain)


def price_of(event: PriceSeen) -> Decimal | None:
    """What the instrument is traded at; None: nobody can say."""
    bid, ask, last = (_usable(price) for price in (event.bid, event.ask, event.last))
    if bid is not None and ask is not None and bid <= ask:
        return _WIDE.multiply(_WIDE.add(bid, ask), _HALF)
    return last


def _usable(price: Decimal | None) -> Decimal | None:
    return price if price is not None and price.is_finite() and price > 0 else None


class Markets:
    """Instruments and prices of every OMS. `numeraires`: OMS -> the product that worth is told in."""

    def __init__(self, numeraires: Mapping[str, str], undo: Undo) -> None:
        self._numeraires: Final = numeraires
        self._rows: Table[str, Mapping[int, InstrumentRow]] = Table(undo)  # replaced, never changed
        self._chains: Table[str, Chains] = Table(undo)
        self._prices: Table[tuple[str, int], Decimal] = Table(undo)

    def forget(self, gone: Gone) -> None:
        """OMSs went."""
        for of_oms in (self._rows, self._chains):
            of_oms.drop(gone.oms)
        self._prices.drop(lambda at: gone.oms(at[0]))

    def take_list(self, oms: str, event: Instruments) -> bool:
        """True: something changed. A row that can't be read may be any that was known: then none is gone."""
        before = self._rows.get(oms)
        rows = {row.instrument: row for row in sorted(event.rows, key=lambda row: row.instrument)}
        if event.unreadable and before:
            rows = {**before, **rows}
        if rows == before:
            return False
        self._rows[oms] = rows
        if oms in self._numeraires:
            ordered = [rows[instrument] for instrument in sorted(rows)]
            self._chains[oms] = chains(ordered, self._numeraires[oms])
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

    # --- looking

    def instruments(self, oms: str) -> tuple[int, ...]:
        """All that are known, in order."""
        return tuple(sorted(self._rows.get(oms) or ()))

    def in_chains(self, oms: str) -> tuple[int, ...]:
        """Those whose prices are needed to tell what any product is worth, in order."""
        held = self._chains.get(oms)
        return () if held is None else tuple(sorted(held.users))

    def row(self, oms: str, instrument: int) -> InstrumentRow | None:
        held = self._rows.get(oms)
        return None if held is None else held.get(instrument)

    def users(self, oms: str, instrument: int) -> tuple[str, ...]:
        """The products whose worth rests on that instrument's price."""
        held = self._chains.get(oms)
        return () if held is None else held.users.get(instrument, ())

    def chain(self, oms: str, product: str) -> tuple[Step, ...] | None:
        """None: nothing leads from it to the numeraire, as far as anybody knows."""
        if product == self._numeraires.get(oms):
            return ()
        held = self._chains.get(oms)
        return None if held is None else held.of.get(product)

    def rate(self, oms: str, product: str) -> Decimal | None:
        """What one unit of it is worth; None: some price on its way lacks. Rounded once, at 100 digits."""
        chain = self.chain(oms, product)
        if chain is None:
            return None
        over, under = _ONE, _ONE
        for step in chain:
            price = self._prices.get((oms, step.instrument))
            if price is None:
                return None
            if step.inverse:
                under = _WIDE.multiply(under, price)
            else:
                over = _WIDE.multiply(over, price)
        return over if under == _ONE else _WIDE.divide(over, under)

    def why_no_rate(self, oms: str, product: str) -> str:
        """Why nobody can say what a product is worth."""
        chain = self.chain(oms, product)
        if chain is None:
            if oms not in self._rows:
                return f"{product} has no price: the instruments aren't listed yet"
            return f"{product} has no price: no instruments lead from it to {self._numeraires.get(oms)}"
        lacking = [step.instrument for step in chain if (oms, step.instrument) not in self._prices]
        return f"{product} has no price: instrument {lacking[0]} has none" if lacking else f"{product} can't be told"

"""Worths: sums of what is held, or ordered, each part at what it is worth in the numeraire. Kept part by part.

`equity` of an account is the sum over its products; `open_notional` of an account's open orders of an instrument is
the sum over what is left of them, in the quote product at their limits, and in the base product where they have
none. A sum with a part that nobody can price is no number: never the sum of the others.

A price reaches only the sums that hold a product whose chain it is part of, and a position only its own. What a part
adds is rounded to 28 decimals, kept, and taken away exactly as it was added: so a sum is what adding up its parts
anew would give, whatever came before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from killswitch.domain.undo import Table
from killswitch.domain.watch.shown import EQUITY

if TYPE_CHECKING:
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.markets import Markets
    from killswitch.domain.watch.shown import Told

# Exact for all that stands on the grid, below 10 to the 970. No signal may become an exception.
_EXACT: Final = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_GRID: Final = Decimal("1e-28")
_ZERO: Final = Decimal(0)
_NAN: Final = Decimal("NaN")

Of: TypeAlias = tuple[str, str]
"""("product", its symbol); or ("base" | "quote", an instrument's id): that product of it."""

Touched: TypeAlias = "dict[Told, bool]"
"""The sums that an event touched. True: what they rest on may be another."""


@dataclass(frozen=True, slots=True)
class Part:
    """`product` None: nobody knows which. `worth` None: nobody knows how much."""

    amount: Decimal
    product: str | None
    worth: Decimal | None


@dataclass(frozen=True, slots=True)
class Sum:
    """`opened`: a list showed all of it. `missing`: parts without worth; `blank`: what couldn't be read at all."""

    opened: bool = False
    total: Decimal = _ZERO
    missing: int = 0
    blank: int = 0


def exact(amount: Decimal, price: Decimal) -> Decimal:
    """The product of two of the vendor's numbers, unrounded."""
    return _EXACT.multiply(amount, price)


def plus(total: Decimal, amount: Decimal, sign: int) -> Decimal:
    """With it, or (sign below 0) without it; unrounded."""
    return _EXACT.add(total, amount) if sign > 0 else _EXACT.subtract(total, amount)


def worth_of(amount: Decimal, rate: Decimal | None) -> Decimal | None:
    """What that many units are worth, in 28 decimals; None: nobody knows."""
    if rate is None:
        return None
    worth = _EXACT.quantize(_EXACT.multiply(amount, rate), _GRID)
    return worth if worth.is_finite() else None


class Worths:
    """All sums."""

    def __init__(self, markets: Markets, undo: Undo) -> None:
        self._markets: Final = markets
        self._undo: Final = undo
        self._sums: Final[Table[Told, Sum]] = Table(undo)
        # A table a sum, a product, an OMS. An empty one left behind by a rollback says nothing.
        self._parts: Final[dict[Told, Table[Of, Part]]] = {}
        self._holders: Final[dict[tuple[str, str], Table[tuple[Told, Of], bool]]] = {}
        self._of_oms: Final[dict[str, Table[Told, bool]]] = {}

    def forget(self, gone: Gone) -> None:
        """OMSs went, or count in another numeraire."""
        self._sums.drop(lambda told: gone.oms(told[0]))
        tables: tuple[dict[Any, Any], ...] = (self._parts, self._holders)
        for held in tables:
            for key in [key for key in held if gone.oms(key[0])]:
                self._undo.note(partial(held.__setitem__, key, held.pop(key)))
        for oms in [oms for oms in self._of_oms if gone.oms(oms)]:
            self._undo.note(partial(self._of_oms.__setitem__, oms, self._of_oms.pop(oms)))

    # --- what changes

    def open(self, told: Told, touched: Touched) -> None:
        """A list showed all of it: from now on the sum is known."""
        held = self._sum(told)
        if not held.opened:
            self._keep(told, replace(held, opened=True))
            touched[told] = True
        else:
            touched.setdefault(told, False)

    def blank(self, told: Told, count: int, touched: Touched) -> None:
        """So much of it couldn't be read."""
        held = self._sum(told)
        if held.blank != count:
            self._keep(told, replace(held, blank=count))
            touched[told] = True

    def blanks(self, told: Told) -> int:
        return self._sum(told).blank

    def put(self, told: Told, of: Of, amount: Decimal, touched: Touched) -> None:
        """So much of it is held now; 0: none."""
        part = None
        if amount:
            amount = amount if amount.is_finite() else _NAN
            part = self._valued(told[0], of, amount)
        self._set(told, of, part, touched)

    def add(self, told: Told, of: Of, amount: Decimal, touched: Touched) -> None:
        """So much more of it is held now."""
        held = self._parts[told].get(of) if told in self._parts else None
        self.put(told, of, amount if held is None else _EXACT.add(held.amount, amount), touched)

    def priced(self, oms: str, instrument: int, touched: Touched) -> None:
        """The price of an instrument is another one, or none any more."""
        for product in self._markets.users(oms, instrument):
            holders = self._holders.get((oms, product))
            if holders is None or not len(holders):
                continue
            rate = self._markets.rate(oms, product)
            for told, of in holders:
                part = self._parts[told][of]
                self._set(told, of, replace(part, worth=worth_of(part.amount, rate)), touched)

    def relisted(self, oms: str, touched: Touched) -> None:
        """The instruments are others: so may be what leads to the numeraire."""
        for told in self._of_oms.get(oms, ()):
            for of in self._parts.get(told, ()):
                self._set(told, of, self._valued(oms, of, self._parts[told][of].amount), touched)
            touched[told] = True

    # --- looking

    def parts(self, told: Told) -> tuple[Of, ...]:
        """What of it isn't 0."""
        return tuple(self._parts.get(told, ()))

    def is_open(self, told: Told) -> bool:
        return self._sum(told).opened

    def value(self, told: Told) -> Decimal:
        """The sum, without zeros at its end. It is one only where nothing lacks."""
        return self._sum(told).total.normalize(_EXACT)

    def rests_on(self, told: Told) -> frozenset[str]:
        """The instruments whose prices it needs."""
        products = {part.product for part in self._parts[told].values()} if told in self._parts else set()
        chains = [self._markets.chain(told[0], product) or () for product in products if product is not None]
        return frozenset(str(step.instrument) for chain in chains for step in chain)

    def lacks(self, told: Told) -> str:
        """Why it can't be told; "" where it can."""
        held = self._sum(told)
        if held.blank:
            return "a row of its positions can't be read" if told[1] == EQUITY else "an order of it can't be read"
        if not held.missing:
            return ""
        of, part = min((of, part) for of, part in self._parts[told].items() if part.worth is None)
        if part.product is None:
            return f"instrument {of[1]} isn't in the list of instruments"
        if not part.amount.is_finite():
            return f"the amount of {part.product} can't be read"
        return self._markets.why_no_rate(told[0], part.product)

    # --- inside

    def _sum(self, told: Told) -> Sum:
        return self._sums.get(told) or _EMPTY

    def _keep(self, told: Told, held: Sum) -> None:
        if told not in self._sums:
            self._of_oms.setdefault(told[0], Table(self._undo))[told] = True
        self._sums[told] = held

    def _valued(self, oms: str, of: Of, amount: Decimal) -> Part:
        product = self._product(oms, of)
        rate = None if product is None else self._markets.rate(oms, product)
        return Part(amount, product, worth_of(amount, rate))

    def _product(self, oms: str, of: Of) -> str | None:
        if of[0] == "product":
            return of[1]
        row = self._markets.row(oms, int(of[1]))
        return None if row is None else row.base if of[0] == "base" else row.quote

    def _set(self, told: Told, of: Of, part: Part | None, touched: Touched) -> None:
        parts = self._parts.setdefault(told, Table(self._undo))
        before, held = parts.get(of), self._sum(told)
        if part == before:
            return
        total, missing = held.total, held.missing
        if before is not None:
            missing -= before.worth is None
            total = total if before.worth is None else _EXACT.subtract(total, before.worth)
            del parts[of]
        if part is not None:
            missing += part.worth is None
            total = total if part.worth is None else _EXACT.add(total, part.worth)
            parts[of] = part
        self._keep(told, replace(held, total=total, missing=missing))
        is_other = _basis(before) != _basis(part)
        if is_other:
            self._move(told, of, before, part)
        touched[told] = touched.get(told, False) or is_other

    def _move(self, told: Told, of: Of, before: Part | None, part: Part | None) -> None:
        if before is not None and before.product is not None:
            self._holders[told[0], before.product].pop((told, of))
        if part is not None and part.product is not None:
            self._holders.setdefault((told[0], part.product), Table(self._undo))[told, of] = True


_EMPTY: Final = Sum()


def _basis(part: Part | None) -> tuple[str | None, bool] | None:
    return None if part is None else (part.product, part.worth is None)

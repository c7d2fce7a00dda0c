"""An OMS as a source of readings: its rooms side by side, so that whoever follows one sees the same readings.

The rules and the recorder each keep one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    Event,
    Heard,
    Instruments,
    Listed,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceSeen,
    RestsOn,
    TradeSeen,
)
from killswitch.domain.undo import Table
from killswitch.domain.watch.gone import Gone
from killswitch.domain.watch.holdings import Holdings
from killswitch.domain.watch.markets import Markets
from killswitch.domain.watch.proofs import Proofs
from killswitch.domain.watch.shown import (
    EQUITY,
    EVENTS,
    LISTED_BY,
    NOTIONAL,
    ORDERS,
    POSITIONS,
    PRICE,
    PRICES,
    WORTHS,
    Doubt,
    Lack,
    Seen,
    Shown,
    labels_of,
)
from killswitch.domain.watch.tallies import Tallies
from killswitch.domain.watch.worths import Worths, exact, plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from killswitch.domain.messages import Labels, Order
    from killswitch.domain.settings import FeedSpec
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.shown import Account, Told
    from killswitch.domain.watch.worths import Of, Touched

SETTLE_S: Final = 0.1
"""A fill moves two positions, which the vendor tells one after the other: in between the account looks poorer, or
richer, by all that was traded. So its equity is told once its positions were quiet for so long, …"""
SETTLE_MAX_S: Final = 1.0
"""… or after so long, for one that is never quiet."""
_ZERO: Final = Decimal(0)
NO_PRICE: Final = "there is neither bid and offer nor a last trade"


class Venue:
    """What every OMS showed so far. Nothing in it reads a clock."""

    def __init__(self, feeds: Iterable[FeedSpec], undo: Undo) -> None:
        mine = [(feed.oms, feed) for feed in feeds if feed.kind == "oms" and feed.oms is not None]
        self._stale_after_s = {oms: feed.stale_after_s for oms, feed in mine}
        self._numeraires = {oms: feed.numeraire for oms, feed in mine if feed.numeraire is not None}
        self._undo: Final = undo
        self.proofs: Final = Proofs(undo)
        self.markets: Final = Markets(self._numeraires, undo)
        self._holdings = Holdings(undo)
        self._tallies = Tallies(undo)
        self._worths = Worths(self.markets, undo)
        # Sums that could be told but for the age of what they rest on: a table an OMS.
        self._aged: dict[str, Table[Told, bool]] = {oms: Table(undo) for oms in self._numeraires}
        self._moving: Table[Told, tuple[float, float]] = Table(undo)
        """Equities whose positions are on the move, since when and until when."""

    def session_up(self, session: int, oms: str) -> bool:
        """True when it is the only session of that OMS: its link is back."""
        return self.proofs.session_up(session, oms)

    def session_down(self, session: int) -> str | None:
        """The OMS of it; None for a session that wasn't up."""
        return self.proofs.session_down(session)

    def forget(self, gone: Gone) -> None:
        """OMSs went: neither what they showed nor a session that still ends means anything."""
        for room in (self.proofs, self.markets, self._holdings, self._tallies, self._worths):
            room.forget(gone)
        self._moving.drop(lambda told: gone.oms(told[0]))

    def change(self, feeds: Iterable[FeedSpec]) -> None:
        """Other feeds. In another numeraire every sum begins anew, with the next lists."""
        before = (self._stale_after_s.copy(), self._numeraires.copy(), self._aged.copy())
        self._undo.note(lambda: self._take(*before))
        mine = [(feed.oms, feed) for feed in feeds if feed.kind == "oms" and feed.oms is not None]
        numeraires = {oms: feed.numeraire for oms, feed in mine if feed.numeraire is not None}
        moved = {oms for oms in {*before[1], *numeraires} if before[1].get(oms) != numeraires.get(oms)}
        for room in (self._worths, self.markets):
            room.forget(Gone(frozenset(), frozenset(), frozenset(moved)))
        self.proofs.forget_worths(moved)
        self._moving.drop(lambda told: told[0] in moved)
        aged = {oms: Table(self._undo) if oms in moved else self._aged[oms] for oms in numeraires}
        self._take({oms: feed.stale_after_s for oms, feed in mine}, numeraires, aged)

    def _take(
        self, stale_after_s: Mapping[str, float], numeraires: Mapping[str, str], aged: Mapping[str, Table[Told, bool]]
    ) -> None:
        for held, new in ((self._stale_after_s, stale_after_s), (self._numeraires, numeraires), (self._aged, aged)):
            held.clear()  # the markets look into the same
            held.update(new)  # type: ignore[arg-type]  # each into its own

    def is_up(self, oms: str) -> bool:
        return self.proofs.is_up(oms)

    def proven_at(self, oms: str, name: str, labels: Labels) -> float | None:
        """When the last look was that proves a reading, in `now`'s seconds."""
        return self.proofs.proven_at(oms, name, labels)

    def is_listed(self, oms: str, name: str, account: str | None) -> bool:
        """That account, or with None any account, was listed on a session that is up: what it lacks isn't there.

        Not so with prices: an instrument of which nobody knows a price has one.
        """
        what = WORTHS.get(name) or LISTED_BY.get(name)
        if what is None or what == PRICES:
            return False
        return self.proofs.is_listed(oms, what, None if what == EVENTS else account)

    def why_not(self, oms: str, name: str, labels: Labels, now: float) -> str:
        """Why a reading can't be told, or what it rests on has aged; "": nothing but its own silence is known."""
        return self.proofs.lacks((oms, name, labels)) or self.proofs.oldest((oms, name, labels), now)

    def take(self, event: Event, now: float) -> Shown | None:
        """What an event showed; None where it is none of an OMS, or of a session nobody knows."""
        match event:
            case Positions() | OpenOrders() | Instruments() | Listed():
                oms = self.proofs.oms_of(event.session)
                if oms is None:  # a list doesn't name its OMS, and a dead session's list is late
                    return None
            case PositionSeen() | OrderWorking() | OrderEnded() | PriceSeen() | TradeSeen() | OrderRejected():
                oms = event.oms
            case Heard():
                oms = event.oms
            case RestsOn():
                return self._rests_on(event, now)
            case _:
                return None
        return self._of_session(oms, event, event.session, now)

    def settle(self, oms: str, now: float) -> Shown:
        """The equities whose positions have come to rest by now. Too early or twice is harmless."""
        touched: Touched = {}
        for told, (_, until) in self._moving.items() if len(self._moving) else ():
            if told[0] == oms and until <= now:
                del self._moving[told]
                touched[told] = False
        seen, lacks, rests = self._summed(0.0, touched, now)
        return Shown(
            oms,
            alive=False,
            seen=tuple(seen),
            lacks=tuple(lacks),
            rests=tuple(rests),
            settles_at=self._settles_at(oms),
        )

    def _settles_at(self, oms: str) -> float | None:
        if not len(self._moving):
            return None
        return min((until for told, (_, until) in self._moving.items() if told[0] == oms), default=None)

    def _of_session(self, oms: str, event: Event, session: int, now: float) -> Shown:
        alive = self.proofs.oms_of(session) == oms
        if alive:
            self.proofs.hear(session, now)
            if not self.proofs.is_oldest(session, oms):
                return self._overheard(oms, event, session, now)
        touched: Touched = {}
        held = self._listed(event, session) if alive else None
        relisted = isinstance(event, Instruments) and self.markets.take_list(oms, event)
        counted = self._counted(oms, event, now)
        priced, lacks, rests = self._priced(event, touched) if isinstance(event, PriceSeen) and alive else ((), (), ())
        seen, doubts = self._holdings.take(oms, event)
        if oms in self._numeraires:
            if relisted:
                self._worths.relisted(oms, touched)
            doubts = (*doubts, *self._moved(oms, event, touched, doubts, now))
            if alive and (isinstance(event, Positions | OpenOrders) or self.proofs.shows(session, PRICES)):
                for told in self._aged[oms]:
                    touched.setdefault(told, False)
        worths, more_lacks, more_rests = self._summed(event.wall, touched, now)
        return Shown(
            oms,
            alive,
            seen=(*counted, *priced, *seen, *worths),
            doubts=doubts,
            lacks=(*lacks, *more_lacks),
            proven=self._proven(oms, session, now) if alive else (),
            rests=(*rests, *more_rests),
            held=held,
            settles_at=self._settles_at(oms),
        )

    def _overheard(self, oms: str, event: Event, session: int, now: float) -> Shown:
        """What comes over a session that doesn't watch is told in an order of its own: values are taken from one
        session only. What is counted by its id is counted, whichever session was the first to tell.
        """
        return Shown(
            oms,
            alive=True,
            seen=self._counted(oms, event, now),
            proven=self._proven(oms, session, now),
            settles_at=self._settles_at(oms),
        )

    def _listed(self, event: Event, session: int) -> int | None:
        """What is listed or subscribed to on a session now. Returns the instrument that it wasn't before."""
        match event:
            case Positions():
                self.proofs.show(session, POSITIONS, str(event.account))
            case OpenOrders():
                self.proofs.show(session, ORDERS, str(event.account))
            case Listed():
                self.proofs.show(session, event.what, str(event.which))
            case PriceSeen():
                return event.instrument if self.proofs.show(session, PRICES, str(event.instrument)) else None
            case _:
                pass
        return None

    def _counted(self, oms: str, event: Event, now: float) -> tuple[Seen, ...]:
        match event:
            case OrderWorking() | OrderEnded():
                listed = self._holdings.knows(oms, event.order)
                return self._tallies.take(event, now, listed=listed, oldest=True)
            case TradeSeen() | OrderRejected():
                oldest = self.proofs.is_oldest(event.session, oms)
                return self._tallies.take(event, now, listed=False, oldest=oldest)
            case _:
                return ()

    def _proven(self, oms: str, session: int, now: float) -> tuple[tuple[str, float], ...]:
        looks = [(name, now) for name, what in LISTED_BY.items() if self.proofs.shows(session, what)]
        if oms in self._numeraires:
            sums = [(name, self.proofs.worth_heard(session, oms, name, now)) for name in WORTHS]
            looks += [(name, as_of) for name, as_of in sums if as_of is not None]
        return tuple(looks)

    # --- prices and what rests on them

    def _priced(
        self, event: PriceSeen, touched: Touched
    ) -> tuple[tuple[Seen, ...], tuple[Lack, ...], tuple[RestsOn, ...]]:
        """A price that is none any more keeps the time of its last look, and ages from there."""
        before, price = self.markets.take_price(event)
        if before != price:
            self._worths.priced(event.oms, event.instrument, touched)
        instrument = str(event.instrument)
        labels, why = (("instrument", instrument),), NO_PRICE if price is None else ""
        rests = self._rest(event.wall, (event.oms, PRICE, labels), frozenset((instrument,)), why)
        seen = () if price is None else (Seen(PRICE, labels, price),)
        return seen, (Lack(PRICE, labels, why),) if why else (), rests

    def _moved(
        self, oms: str, event: Event, touched: Touched, doubts: tuple[Doubt, ...], now: float
    ) -> tuple[Doubt, ...]:
        """What an event means to the sums. Returns what can't be read of the orders' worth, as of their number."""
        match event:
            case Positions():
                told = (oms, EQUITY, labels_of((oms, str(event.account))))
                there = {("product", row.product): row.amount for row in event.rows}
                for of, amount in there.items():
                    self._worths.put(told, of, amount, touched)
                for of in self._worths.parts(told) if not event.unreadable else ():
                    if of not in there:
                        self._worths.put(told, of, _ZERO, touched)
                self._worths.blank(told, event.unreadable, touched)
                self._worths.open(told, touched)
                self._moving.pop(told)
            case PositionSeen():
                told = (oms, EQUITY, labels_of((oms, str(event.row.account))))
                self._worths.put(told, ("product", event.row.product), event.row.amount, touched)
                if told in touched:
                    since, _ = self._moving.get(told) or (now, now)
                    self._moving[told] = (since, min(now + SETTLE_S, since + SETTLE_MAX_S))
            case OpenOrders() | OrderWorking() | OrderEnded():
                number = event.account if isinstance(event, OpenOrders) else event.order.account
                account = (oms, str(number))
                self._reordered(account, touched)
                if isinstance(event, OpenOrders):
                    for instrument in self._holdings.instruments(account):
                        self._worths.open((oms, NOTIONAL, labels_of(account, instrument=instrument)), touched)
                return tuple(Doubt(NOTIONAL, d.labels, d.reason) for d in doubts if d.name == "open_orders")
            case _:
                pass
        return ()

    def _reordered(self, account: Account, touched: Touched) -> None:
        """Open orders came, changed or went: each sum takes what that comes to, at once."""
        tolds: dict[int | None, Told] = {}
        moved: dict[tuple[Told, Of], Decimal] = {}
        blanks: dict[Told, int] = {}
        for changed in self._holdings.changes:
            for order, sign in zip(changed, (-1, 1), strict=True):
                if order is None:
                    continue
                instrument = str(order.instrument)
                told = tolds.get(order.instrument)
                if told is None:
                    told = tolds[order.instrument] = (account[0], NOTIONAL, labels_of(account, instrument=instrument))
                worth = _unpriced(order)
                if worth is None:
                    blanks[told] = blanks.get(told, 0) + sign
                else:
                    of = (worth[0], instrument)
                    moved[told, of] = plus(moved.get((told, of), _ZERO), worth[1], sign)
        for told in tolds.values():
            self._worths.open(told, touched)
        for (told, of), amount in moved.items():
            self._worths.add(told, of, amount, touched)
        for told, count in blanks.items():
            self._worths.blank(told, self._worths.blanks(told) + count, touched)

    def _summed(self, wall: float, touched: Touched, now: float) -> tuple[list[Seen], list[Lack], list[RestsOn]]:
        """The sums that were touched, as far as they can be told now."""
        seen, lacks, rests = list[Seen](), list[Lack](), list[RestsOn]()
        for told in sorted(told for told in touched if self._worths.is_open(told)):
            oms, name, labels = told
            why = self._worths.lacks(told)
            if touched[told]:
                rests += self._rest(wall, told, self._worths.rests_on(told), why)
            if why:
                self._aged[oms].pop(told)
                lacks.append(Lack(name, labels, why))
                continue
            if told in self._moving:
                continue
            as_of = self.proofs.proven_at(*told)
            if as_of is None or now >= as_of + self._stale_after_s[oms]:
                self._aged[oms][told] = True  # it ages as it is, until something proves what it rests on
                continue
            self._aged[oms].pop(told)
            seen.append(Seen(name, labels, self._worths.value(told), as_of))
        return seen, lacks, rests

    def _rest(self, wall: float, told: Told, instruments: frozenset[str], lacks: str) -> tuple[RestsOn, ...]:
        if not self.proofs.rest(told, instruments, lacks):
            return ()
        oms, name, labels = told
        listed = tuple(sorted(instruments))
        return (RestsOn(wall=wall, oms=oms, name=name, labels=labels, instruments=listed, lacks=lacks),)

    def _rests_on(self, event: RestsOn, now: float) -> Shown:
        """A recording tells what it rested on; the prices and positions themselves it doesn't hold."""
        told = (event.oms, event.name, event.labels)
        known_at = None if event.known_s_ago is None else now - event.known_s_ago
        self.proofs.rest(told, frozenset(event.instruments), event.lacks, known_at)
        lacks = (Lack(event.name, event.labels, event.lacks),) if event.lacks else ()
        return Shown(event.oms, alive=False, lacks=lacks)


def _unpriced(order: Order) -> tuple[str, Decimal] | None:
    """What is left of an order: so much of the quote product at its limit, or of the base product without one.

    None: that can't be read.
    """
    left, price = order.quantity, order.price
    if left is None or not left.is_finite() or (price is not None and not price.is_finite()):
        return None
    return ("base", left) if price is None else ("quote", exact(left, price))

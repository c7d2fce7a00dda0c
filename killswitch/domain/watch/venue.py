"""An OMS as a source of readings: its rooms side by side, so that whoever follows one sees the same readings.

The rules and the recorder each keep one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    Event,
    Heard,
    Instruments,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceHeld,
    PriceSeen,
    RestsOn,
    TradeSeen,
)
from killswitch.domain.watch.holdings import Holdings
from killswitch.domain.watch.markets import Markets
from killswitch.domain.watch.proofs import Proofs
from killswitch.domain.watch.shown import EVENTS, LISTED_BY, ORDERS, POSITIONS, PRICE, PRICES, Lack, Seen, Shown
from killswitch.domain.watch.tallies import Tallies

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.undo import Undo

NO_PRICE: Final = "there is neither bid and offer nor a last trade"


class Venue:
    """What every OMS showed so far. Nothing in it reads a clock."""

    def __init__(self, undo: Undo) -> None:
        self.proofs: Final = Proofs(undo)
        self.markets: Final = Markets(undo)
        self._holdings = Holdings(undo)
        self._tallies = Tallies(undo)

    def session_up(self, session: int, oms: str) -> bool:
        """True when it is the only session of that OMS: its link is back."""
        return self.proofs.session_up(session, oms)

    def session_down(self, session: int) -> str | None:
        """The OMS of it; None for a session that wasn't up."""
        return self.proofs.session_down(session)

    def is_up(self, oms: str) -> bool:
        return self.proofs.is_up(oms)

    def proven_at(self, oms: str, name: str, labels: Labels) -> float | None:
        """When the last look was that proves a reading, in `now`'s seconds."""
        return self.proofs.proven_at(oms, name, labels)

    def is_listed(self, oms: str, name: str, account: str | None) -> bool:
        """That account, or with None any account, was listed on a session that is up: what it lacks isn't there.

        Not so with prices: an instrument of which nobody knows a price has one.
        """
        what = LISTED_BY.get(name)
        if what is None or what == PRICES:
            return False
        return self.proofs.is_listed(oms, what, None if what == EVENTS else account)

    def why_not(self, oms: str, name: str, labels: Labels) -> str:
        """Why a reading can't be told; "": nothing is known against it."""
        return self.proofs.lacks((oms, name, labels))

    def take(self, event: Event, now: float) -> Shown | None:
        """What an event showed; None where it is none of an OMS, or of a session nobody knows."""
        match event:
            case Positions() | OpenOrders() | Instruments():
                oms = self.proofs.oms_of(event.session)
                if oms is None:  # a list doesn't name its OMS, and a dead session's list is late
                    return None
            case (
                PositionSeen() | OrderWorking() | OrderEnded() | Heard() | PriceSeen() | TradeSeen() | OrderRejected()
            ) | PriceHeld():
                oms = event.oms
            case RestsOn():
                return self._rests_on(event)
            case _:
                return None
        alive = self.proofs.oms_of(event.session) == oms
        if alive:
            self.proofs.hear(event.session, now)
        match event:
            case Positions():
                self.proofs.show(event.session, POSITIONS, str(event.account))
            case OpenOrders():
                self.proofs.show(event.session, ORDERS, str(event.account))
            case Instruments():
                self.markets.take_list(oms, event)
            case PriceSeen() if alive:
                return self._price(event, now)
            case PriceHeld() if alive:
                self.proofs.show(event.session, PRICES, str(event.instrument))
            case _:
                pass
        seen = self._counted(oms, event, now)
        held, doubts = self._holdings.take(oms, event)
        return Shown(oms, alive, (*seen, *held), doubts, proven=self._proven(event.session, now) if alive else ())

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

    def _proven(self, session: int, now: float) -> tuple[tuple[str, float], ...]:
        return tuple((name, now) for name, what in LISTED_BY.items() if self.proofs.shows(session, what))

    # --- prices

    def _price(self, event: PriceSeen, now: float) -> Shown:
        """A price that is none any more keeps the time of its last look, and ages from there."""
        instrument = str(event.instrument)
        held = event.instrument if self.proofs.show(event.session, PRICES, instrument) else None
        _, price = self.markets.take_price(event)
        labels, why = (("instrument", instrument),), NO_PRICE if price is None else ""
        rests = self._rest(event, PRICE, labels, (instrument,), why)
        return Shown(
            event.oms,
            alive=True,
            seen=() if price is None else (Seen(PRICE, labels, price),),
            lacks=(Lack(PRICE, labels, why),) if why else (),
            proven=self._proven(event.session, now),
            rests=rests,
            held=held,
        )

    def _rest(
        self, event: PriceSeen, name: str, labels: Labels, instruments: tuple[str, ...], lacks: str
    ) -> tuple[RestsOn, ...]:
        if not self.proofs.rest((event.oms, name, labels), frozenset(instruments), lacks):
            return ()
        rests = RestsOn(wall=event.wall, oms=event.oms, name=name, labels=labels, instruments=instruments, lacks=lacks)
        return (rests,)

    def _rests_on(self, event: RestsOn) -> Shown:
        """A recording tells what it rested on; the prices and positions themselves it doesn't hold."""
        told = (event.oms, event.name, event.labels)
        self.proofs.rest(told, frozenset(event.instruments), event.lacks)
        lacks = (Lack(event.name, event.labels, event.lacks),) if event.lacks else ()
        return Shown(event.oms, alive=self.is_up(event.oms), lacks=lacks)

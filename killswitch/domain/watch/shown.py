"""What an event of an OMS showed, as the rooms that read it tell the rules: values, doubts, and what lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Labels, RestsOn

POSITIONS: Final = "positions"
ORDERS: Final = "orders"
PRICES: Final = "prices"
EVENTS: Final = "events"

PRICE: Final = "price"
COUNTED: Final = ("order", "trade", "reject", "cancel")
"""Readings that are events: each is one to count, and none for a while is no silence."""

LISTED_BY: Final = {"position": POSITIONS, "hold": POSITIONS, "open_orders": ORDERS, PRICE: PRICES} | dict.fromkeys(
    COUNTED, EVENTS
)
"""The built-in readings, and what of a session shows each of them: a list, or a subscription."""

EQUITY: Final = "equity"
NOTIONAL: Final = "open_notional"
WORTHS: Final = {EQUITY: POSITIONS, NOTIONAL: ORDERS}
"""The readings that are worked out of others, in the feed's numeraire, and the list of what they are sums of."""

BUILT_IN: Final = (*LISTED_BY, *WORTHS)
"""All readings of an OMS feed."""

ALWAYS: Final = ("position", "hold", "open_orders")
"""Those that an OMS feed always asks for; what the others need is asked for where a rule reads them."""

Account: TypeAlias = tuple[str, str]
"""(OMS, account id as text)"""
Told: TypeAlias = "tuple[str, str, Labels]"
"""(OMS, reading, labels)"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A built-in reading and its value. `as_of` None: as of its event, where that came over a live session."""

    name: str
    labels: Labels
    value: Decimal
    as_of: float | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A built-in reading that can't be read. `labels` as far as they are known."""

    name: str
    labels: Labels
    reason: str


@dataclass(frozen=True, slots=True)
class Lack:
    """A built-in reading that can't be told for now: something that it rests on lacks."""

    name: str
    labels: Labels
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What one event of an OMS showed. `alive`: it came over a session that is up.

    `proven`: the readings of which something is proven by it, and as of when. `rests`: what the freshness of
    readings rests on from now on. `held`: an instrument whose prices this session is known to hear from now on.
    `settles_at`: when `Venue.settle` has something to tell.
    """

    oms: str
    alive: bool
    seen: tuple[Seen, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    lacks: tuple[Lack, ...] = ()
    proven: tuple[tuple[str, float], ...] = ()
    rests: tuple[RestsOn, ...] = ()
    held: int | None = None
    settles_at: float | None = None


def labels_of(account: Account, **more: str) -> Labels:
    """`more` in the order of its names."""
    return (("account", account[1]), *more.items())

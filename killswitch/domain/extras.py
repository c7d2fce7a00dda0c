"""Extras: what rests on an account beside its orders, where newer servers list it by calls of its own.

Quotes and block trades, as far as the configuration asks for them. Facts and judgements only: which calls a round over
a scope needs beside the lists of orders, what they showed, and whether that is evidence. Who asks is extra_looks.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from killswitch.domain.dialects import Dialect
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sweep import Found, find
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from killswitch.domain.book import Book, Call, Listed
    from killswitch.domain.messages import Order
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Undo

REFUSED_FOR_S: Final = 5.0
"""So long a refusal stands before the same is asked again: a permission may come back."""
INSTRUMENTS_FOR_S: Final = 60.0
"""So long a list of instruments is taken for whole: a venue adds one now and then."""


class Kind(Enum):
    """What is listed apart from orders, by the call that lists it."""

    QUOTES = "GetOpenQuotes"
    BLOCK_TRADES = "GetOpenTradeReports"


WORDS: Final = {Kind.QUOTES: "quotes", Kind.BLOCK_TRADES: "block trades"}


@dataclass(frozen=True, slots=True)
class Look:
    """One call that shows a part of an account. `instrument`: of quotes, which are shown for one at a time."""

    oms: str
    account: int
    kind: Kind
    instrument: int | None = None

    @property
    def scope(self) -> Scope:
        """What the call looks at."""
        return Scope(oms=self.oms, account=self.account, user=EVERY, instrument=self.instrument or EVERY)

    def in_words(self) -> str:
        of = f" of instrument {self.instrument}" if self.instrument is not None else ""
        return f"the {WORDS[self.kind]} of account {self.account}{of}"


@dataclass(frozen=True, slots=True)
class Failed:
    """A look that showed nothing: call `call` was answered with something else, or not in time."""

    call: int
    session: int
    asked_at: float
    why: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Known:
    """The instruments of an OMS, as call `call` listed them. `why`: the list isn't whole, or there is none."""

    call: int
    asked_at: float
    ids: frozenset[int]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round shows beside orders. `founds`: of the newest lists of this sweep, whether they count or not.

    `lacks`: a list that counts is still to come. `why`: what can't be looked at, "" where everything can.
    """

    founds: tuple[tuple[Look, Listed, Found], ...]
    lacks: bool
    why: str
    oldest: int  # the number of the oldest call that counts in it
    refused: bool = False

    @property
    def count(self) -> int:
        return sum(found.count for _, _, found in self.founds)


NOTHING: Final = Round((), lacks=False, why="", oldest=2**63)


class Wanted(Protocol):
    """What a configured OMS says of it."""

    @property
    def quotes(self) -> bool: ...

    @property
    def block_trades(self) -> bool: ...


class Named(Wanted, Protocol):
    """A configured OMS."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect | None: ...

    @property
    def calls_per_minute(self) -> int: ...


def kinds_of(site: Wanted | None) -> tuple[Kind, ...]:
    """What the configuration wants listed beside orders."""
    if site is None:
        return ()
    wanted = ((site.quotes, Kind.QUOTES), (site.block_trades, Kind.BLOCK_TRADES))
    return tuple(kind for is_wanted, kind in wanted if is_wanted)


def covers(site: Wanted | None) -> str:
    """What VERIFIED speaks of there, in words: "orders, quotes"."""
    return ", ".join(("orders", *(WORDS[kind] for kind in kinds_of(site))))


def remarks(omses: Iterable[Named]) -> Iterator[str]:
    """What a person should know before the day of what VERIFIED means at each OMS, and of what it takes."""
    for oms in omses:
        missing = [kind for kind in Kind if kind not in kinds_of(oms)]
        if missing and oms.dialect in (Dialect.V4, None):
            keys = " and ".join(kind.name.lower() for kind in missing)
            words = " and ".join(WORDS[kind] for kind in missing)
            yield (
                f"OMS {oms.name}: VERIFIED speaks of {covers(oms)} only: a v4 server leaves {words} out of its list of "
                f"orders, and {keys} {'asks' if len(missing) == 1 else 'ask'} for them when true."
            )
        if oms.quotes:
            yield (
                f"OMS {oms.name}: quotes are listed by account and instrument, a call each: where a scope names no "
                "instrument, a round takes one for every instrument of the OMS and every account, of "
                f"calls_per_minute = {oms.calls_per_minute}."
            )


class Extras:
    """The latest list, or failure, of each look, and the instruments of each OMS. `version` grows with each."""

    def __init__(self, book: Book, undo: Undo) -> None:
        self._book = book
        self.listed: Table[Look, Listed] = Table(undo)
        self.failed: Table[Look, Failed] = Table(undo)
        self.instruments: Table[str, Known] = Table(undo)
        self.refusals: Table[tuple[str, int, Kind], str] = Table(undo)
        """(OMS, account, kind) -> why such a look was refused last; nothing once one was answered."""
        self._versions: Table[str, int] = Table(undo)

    def version(self, oms: str) -> int:
        """Another number whenever something was learnt there."""
        return self._versions.get(oms) or 0

    def keep(self, look: Look, shown: Listed) -> None:
        """A list came. What is older than it is replaced."""
        before, failed = self.listed.get(look), self.failed.get(look)
        if before is None or before.call < shown.call:
            self.listed[look] = shown
        if failed is not None and failed.call < shown.call:
            del self.failed[look]
        self.refusals.pop((look.oms, look.account, look.kind))
        self._versions[look.oms] = self.version(look.oms) + 1

    def keep_failed(self, look: Look, call: Call, why: str, *, refused: bool) -> None:
        """Nothing was shown."""
        if refused:
            self.refusals[look.oms, look.account, look.kind] = why
        self.failed[look] = Failed(call.number, call.session, call.asked_at, why, refused)
        self._versions[look.oms] = self.version(look.oms) + 1

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        self.listed.drop(lambda look: look.oms == oms)
        self.failed.drop(lambda look: look.oms == oms)
        self.refusals.drop(lambda key: key[0] == oms)
        self.instruments.pop(oms)

    def notes(self) -> tuple[str, ...]:
        """What can't be looked at, for people: a sentence for each OMS and kind."""
        said: dict[tuple[str, Kind], str] = {}
        for (oms, account, kind), why in self.refusals.items():
            if kind in kinds_of(self._book.sites.get(oms)):
                said.setdefault((oms, kind), refusal(oms, account, kind, why))
        return tuple(said.values())

    # --- what a trip needs

    def needs_instruments(self, trip: Trip) -> bool:
        """Quotes are shown for one instrument at a time, and the scope names none."""
        kinds = kinds_of(self._book.sites.get(trip.scope.oms))
        return Kind.QUOTES in kinds and trip.scope.instrument is EVERY

    def looks(self, trip: Trip, accounts: tuple[int, ...]) -> tuple[Look, ...]:
        """The calls that a round over the trip's scope needs beside the lists of orders, as far as they are known."""
        oms, instrument = trip.scope.oms, trip.scope.instrument
        kinds = kinds_of(self._book.sites.get(oms))
        if not kinds:
            return ()
        which = (instrument,) if instrument is not EVERY else self.known_instruments(oms)
        return tuple(
            Look(oms, account, kind, of)
            for account in accounts
            for kind in kinds
            for of in (which if kind is Kind.QUOTES else (None,))
        )

    def known_instruments(self, oms: str) -> tuple[int, ...]:
        held = self.instruments.get(oms)
        return () if held is None else tuple(sorted(held.ids))

    def calls_per_account(self, trip: Trip) -> int:
        """How many calls a round needs for each account, that for its orders among them."""
        return 1 + len(self.looks(trip, (0,)))

    # --- what they showed

    def round(self, trip: Trip, accounts: tuple[int, ...], proving: frozenset[int], now: float) -> Round:
        """What is known of a trip's scope beside its orders."""
        if not kinds_of(self._book.sites.get(trip.scope.oms)):
            return NOTHING
        why, lacks = self._enumerated(trip)
        whys = {why: None} if why else {}
        founds: list[tuple[Look, Listed, Found]] = []
        oldest, refused = NOTHING.oldest, False
        for look in self.looks(trip, accounts):
            shown, failed = self.listed.get(look), self.failed.get(look)
            if shown is not None and shown.call >= trip.sweep.began_call:
                founds.append((look, shown, self.found(trip, look, shown)))
            if shown is not None and trip.sweep.counts(shown, proving):
                oldest = min(oldest, shown.call)
            elif failed is not None and self.stands(trip, failed, proving, now):
                said = f"{WORDS[look.kind]} can't be listed: {failed.why}"
                whys[said] = None
                refused = refused or failed.refused
            else:
                lacks = True
        return Round(tuple(founds), lacks, "; ".join(whys), oldest, refused)

    def _enumerated(self, trip: Trip) -> tuple[str, bool]:
        """Why the instruments aren't all known, and whether that is still to come."""
        if not self.needs_instruments(trip):
            return "", False
        held = self.instruments.get(trip.scope.oms)
        if held is None or held.call < trip.sweep.began_call:
            return "", True
        return held.why and f"quotes may rest on more instruments than are known: {held.why}", False

    def stands(self, trip: Trip, failed: Failed, proving: frozenset[int], now: float) -> bool:
        """Whether it is known for this round that a look shows nothing: another try would be too soon."""
        if failed.call < trip.sweep.began_call:
            return False
        if failed.refused:
            return now < failed.asked_at + REFUSED_FOR_S
        counts = failed.call >= trip.sweep.mark and failed.asked_at >= trip.sweep.not_before
        return counts and failed.session in proving

    def found(self, trip: Trip, look: Look, shown: Listed) -> Found:
        """What of it the trip's scope holds, without what the account's list of orders has shown already."""
        orders = self._book.listed.get((look.oms, look.account))
        known: frozenset[int] = frozenset() if orders is None else orders.ids
        return find(trip.scope, tuple(o for o in shown.orders if o.order_id not in known), shown.unreadable)

    def left(self, trip: Trip, accounts: tuple[int, ...]) -> int:
        """What stands beside orders, by the newest lists of this sweep."""
        return sum(found.count for found in self.seen(trip, accounts))

    def seen(self, trip: Trip, accounts: tuple[int, ...]) -> tuple[Found, ...]:
        """The same, list by list."""
        shown = ((look, self.listed.get(look)) for look in self.looks(trip, accounts))
        return tuple(
            self.found(trip, look, listed)
            for look, listed in shown
            if listed is not None and listed.call >= trip.sweep.began_call
        )

    def unseen(self, trip: Trip, account: int) -> str:
        """Why something of this account beside its orders couldn't be looked at in this sweep; "": nothing says so."""
        for look in self.looks(trip, (account,)):
            failed = self.failed.get(look)
            if failed is not None and failed.call >= trip.sweep.began_call:
                return f"its {WORDS[look.kind]} can't be listed: {failed.why}"
        return self._enumerated(trip)[0]


def refusal(oms: str, account: int, kind: Kind, why: str) -> str:
    """What a person is told of a look that was refused."""
    return (
        f"OMS {oms}: the {WORDS[kind]} of account {account} can't be listed: {why}: a trip there cancels its orders, "
        "and will not be VERIFIED"
    )


def named(kind: Kind, orders: tuple[Order, ...]) -> str:
    """Such as "block trades 601 and 602 of account 14"."""
    ids = [str(order.order_id) for order in orders[:20] if order.order_id is not None]
    more = f" and {len(orders) - len(ids)} more" if len(orders) > len(ids) else ""
    accounts = sorted({order.account for order in orders})
    return f"{WORDS[kind]} {', '.join(ids)}{more} of account {', '.join(map(str, accounts[:20]))}"

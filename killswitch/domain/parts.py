"""The parts of the switch that its rooms share: one undo log, one agenda, one outbox, one book, one table of trips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.book import Book
from killswitch.domain.credentials import Credentials
from killswitch.domain.desk import Desk
from killswitch.domain.expiry import Expiry
from killswitch.domain.outbox import Outbox
from killswitch.domain.preview import Looks
from killswitch.domain.shadows import Shadows
from killswitch.domain.standing import Standing
from killswitch.domain.sweeper import Sweeper
from killswitch.domain.undo import Agenda, Table, Undo
from killswitch.domain.watch.rules import Watch

if TYPE_CHECKING:
    from killswitch.domain.messages import CauseView, Labels, Restored
    from killswitch.domain.settings import Settings
    from killswitch.domain.trips import Trip


class Parts:
    """Made once by the switch. Everything that changes in it can be taken back, but for `stir`, which a pass empties.

    `status`: sentences under a name ("journal": why it can't be written; "why TRIP": why it is escalated).
    `gateways`: (OMS, gateway) -> up, since when, why not. `stir`: the OMSes whose sweeps must be gone on with.
    `again`: (trip, rule, labels) -> a cause as it is now, where it came more than once: beside the trip, for a trip of
    thousands of series must not be made anew at each of their readings. `repeats`: trip -> how often that was.
    """

    def __init__(self, settings: Settings, restored: Restored, now: float) -> None:
        self.undo = Undo()
        self.standing = Standing(settings, self.undo)
        self.agenda = Agenda(self.undo)
        self.outbox = Outbox(self.undo, restored.next_n)
        self.book = Book(self.standing, self.undo)
        for oms, why in restored.narrowed:
            self.book.narrow(oms, why)
        self.trips: Table[str, Trip] = Table(self.undo)
        self.sweeper = Sweeper(
            self.book,
            self.trips,
            self.agenda,
            self.outbox,
            self.undo,
            standing=self.standing,
        )
        self.desk = Desk(self.outbox, self.undo, restored)
        self.looks = Looks(self.book, self.agenda, self.outbox, self.undo, self.standing)
        self.watch = Watch(
            settings.feeds, settings.watched, self.undo, self.agenda, now, keeps=True, armed=restored.hearts
        )
        self.watch.memory.put_back(restored.kept, now, restored.wall, restored.last_wall)
        self.numbers: Table[str, int] = Table(self.undo)
        self.numbers["serial"] = restored.serial
        self.numbers["late"] = 0
        self.status: Table[str, str] = Table(self.undo)
        self.shadows = Shadows(
            self.book,
            self.trips,
            self.agenda,
            self.outbox,
            self.undo,
            status=self.status,
            standing=self.standing,
        )
        self.gateways: Table[tuple[str, str], tuple[bool, float, str]] = Table(self.undo)
        self.brokers: Table[str, tuple[bool, str]] = Table(self.undo)
        self.again: Table[tuple[str, str, Labels], CauseView] = Table(self.undo)
        self.repeats: Table[str, int] = Table(self.undo)
        self.stir: set[str] = set()
        self.credentials = Credentials(self)
        self.expiry = Expiry(self)

    def look_failed(self, call: int, now: float) -> None:
        """Nothing comes of this list any more: a preview or a shadow trip may wait for it."""
        self.looks.failed(call)
        self.shadows.failed(call, now)

    @property
    def settings(self) -> Settings:
        """Those that stand now."""
        return self.standing.settings

    def rules_of_trips(self) -> frozenset[str]:
        """The rules that latched trips wait for, by the names that they had when they breached."""
        return frozenset(cause.rule for trip in self.trips.values() for cause in trip.causes if cause.rule)

    def causes_of(self, trip: Trip) -> tuple[CauseView, ...]:
        """A trip's causes as they are now."""
        return tuple(self.again.get((trip.id, c.rule, c.labels)) or c if c.rule else c for c in trip.causes)

    def forget_causes(self, trip: Trip) -> None:
        """A trip has ended."""
        self.repeats.pop(trip.id)
        for cause in trip.causes:
            self.again.pop((trip.id, cause.rule, cause.labels))

    def stir_session(self, session: int) -> None:
        """The sweeps of the OMS whose session this is have something new to act on."""
        held = self.book.sessions.get(session)
        self.stir_up(held.oms if held is not None else None)

    def stir_up(self, oms: str | None) -> None:
        """The sweeps of this OMS have something new to act on."""
        if oms is not None:
            self.stir.add(oms)

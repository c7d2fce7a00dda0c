"""Rehearsing the rules: they alone, on a clock made of the readings' own times, with no OMS and no broker.

What falls due between two readings (a limit that must hold for a while, a silence) is taken at its own time,
so the same recording gives the same breaches at the same times, however fast it is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from killswitch.domain.messages import (
    BadReading,
    Beat,
    FeedDown,
    FeedUp,
    Heard,
    Keep,
    Listed,
    LoopStood,
    Reading,
    RestsOn,
    SessionDown,
    SessionUp,
)
from killswitch.domain.undo import Agenda, Undo
from killswitch.domain.watch.readings import lanes_of
from killswitch.domain.watch.rules import Armed, Breach, Watch
from killswitch.domain.watch.shown import PRICE, WORTHS
from killswitch.wire.announce import scope_json
from killswitch.wire.recording import Began, Line, Missing, RecordingError, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from killswitch.config import Rules
    from killswitch.domain.messages import Event
    from killswitch.domain.scope import Scope
    from killswitch.domain.view import Standing
    from killswitch.domain.watch.rules import Found
    from killswitch.domain.watch.shown import Told
    from killswitch.wire.recording import Recorded

ENDS: Final = ".jsonl"
NOBODYS_SESSION: Final = 0
"""The OMS session that stands where a recording tells of none; real ones count from 1."""
NOBODYS_ACCOUNT: Final = 0


class UnreadableRecording(ValueError):  # noqa: N818  # as the journal's
    """A file is no recording: a sentence with file and line."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A breach at its edge: what the daemon would have tripped. `at`: seconds since 1970.

    `shadow`: by a rule in shadow, so that nothing would have been cancelled.
    """

    at: float
    rule: str
    scope: Scope
    cause: str
    shadow: bool = False


class Onlooker(Protocol):
    """Who watches a rehearsal go by. Times in seconds since 1970."""

    def moment(self, at: float) -> None:
        """The recording has come to this time."""

    def started(self, at: float) -> None:
        """What was known before is forgotten from here on."""

    def stood(self, at: float, standings: Iterable[Standing]) -> None:
        """How a series stands to its rules: told right before and right after each of its readings."""

    def found(self, at: float, found: Found) -> None:
        """What the rules found, breaches and warnings."""


class Rehearsal:
    """Feeds lines to the rules. All feeds are up from the first line on, unless that is a start of the daemon.

    A start forgets what was before it, as the daemon did, but for what its journal keeps: dead-men that were armed, and
    the windows of its rules as they stood at the last line before. `strangers`: readings that belong to no feed, by
    name; `missing`: events that were never recorded.
    """

    def __init__(self, rules: Rules, onlooker: Onlooker | None = None) -> None:
        self._onlooker = onlooker
        self._feeds, self._rules = rules.feeds, rules.rules
        self._in_shadow = frozenset(rule.name for rule in rules.rules if rule.mode == "shadow")
        self._named = {feed.name: feed for feed in self._feeds}
        self._givers: dict[str, tuple[str, ...]] = {}
        self._of_oms: dict[str, tuple[str, ...]] = {}
        for feed in self._feeds:
            for _, reading in lanes_of(feed):
                self._givers[reading] = (*self._givers.get(reading, ()), feed.name)
            if feed.oms is not None:
                self._of_oms[feed.oms] = (*self._of_oms.get(feed.oms, ()), feed.name)
        self.strangers: dict[str, int] = {}
        self.missing = 0
        self._undo = Undo()
        self._agenda = Agenda(self._undo)
        self._watch: Watch | None = None
        self._now = self._wall = 0.0
        self._clock_s: float | None = None
        self._standing = False  # the daemon's loop stood still: it handles what arrived, and judges nothing late
        self._ahead_s = 0.0  # our clock less the recorded one: 0 unless that began anew
        # Where a recording has no start: the session of each OMS, and the accounts taken for listed on it.
        self._guessed: dict[str, tuple[int, set[int]]] = {}
        self._guessing = False
        self._rested: set[Told] = set()  # and the readings of which it is said, or guessed, what they rest on
        self._armed: set[tuple[str, str]] = set()

    def take(self, line: Line) -> Iterator[Rehearsed]:
        """What one line means, and what fell due before it."""
        event, wall = line.event, line.event.wall
        if isinstance(event, Began) or self._watch is None:
            self._begin(line)
            if not isinstance(event, Began):
                yield from self._all_up(wall)
        else:
            yield from self._go_on(line)
        assert self._watch is not None
        if isinstance(event, Missing):
            self.missing += event.lost
        if isinstance(event, LoopStood):
            self._standing = not event.over
        for its in (*self._before(event), *self._events(event)):
            self._show(its)
            yield from self._edges(self._watch.handle(its, self._now), wall)
            self._show(its)

    def wait(self, wall: float) -> Iterator[Rehearsed]:
        """Let time go on until then."""
        if self._watch is not None:
            yield from self._until(self._now + max(wall - self._wall, 0.0))

    def feeds_of(self, reading: str, feed: str = "") -> tuple[str, ...]:
        """The feeds that a reading belongs to: that one, or all that give it."""
        if feed:
            return (feed,) if feed in self._named else ()
        return self._givers.get(reading, ())

    # --- the clock

    def _begin(self, line: Line) -> None:
        self._undo = Undo()
        self._agenda = Agenda(self._undo)
        self._standing = False
        kept = self._kept()
        self._wall, self._clock_s, self._ahead_s = line.event.wall, line.clock_s, 0.0
        self._now = line.event.wall if line.clock_s is None else line.clock_s
        self._guessed, self._rested, self._guessing = {}, set(), not isinstance(line.event, Began)
        if isinstance(line.event, Began):
            self._armed.update(line.event.armed)
        self._watch = Watch(
            self._feeds, self._rules, self._undo, self._agenda, self._now, keeps=True, armed=self._armed
        )
        self._watch.memory.put_back(kept, self._now, self._wall, 0.0)
        self._undo.commit()
        if self._onlooker is not None:
            self._onlooker.started(self._wall)

    def _kept(self) -> tuple[Keep, ...]:
        """The windows that outlive a life of the daemon."""
        if self._watch is None:
            return ()
        self._watch.memory.tell_again(self._now)
        return (Keep(self._wall, self._now, self._watch.memory.all(self._now)),)

    def _go_on(self, line: Line) -> Iterator[Rehearsed]:
        """By the recorded monotonic clock where there is one: a wall clock that is set moves nothing."""
        wall, clock_s = line.event.wall, line.clock_s
        if clock_s is not None and self._clock_s is not None and clock_s >= self._clock_s:
            now = clock_s + self._ahead_s
        else:
            now = self._now + (wall - self._wall)
            self._ahead_s = 0.0 if clock_s is None else max(now, self._now) - clock_s
        if not self._standing and not (isinstance(line.event, LoopStood) and not line.event.over):
            yield from self._until(now)
        self._now, self._wall, self._clock_s = max(now, self._now), wall, clock_s

    def _until(self, now: float) -> Iterator[Rehearsed]:
        assert self._watch is not None
        while (due := self._agenda.due()) is not None and due <= now:
            at = max(due, self._now)
            what = self._agenda.take(due)
            yield from self._edges(self._watch.wake(what, at), self._wall + (at - self._now), at)

    # --- events

    def _all_up(self, wall: float) -> Iterator[Rehearsed]:
        assert self._watch is not None
        for feed in self._feeds:
            up: Event = FeedUp(wall=wall, feed=feed.name)
            if feed.kind == "oms" and feed.oms is not None:
                up = SessionUp(wall=wall, oms=feed.oms, gateway="", session=NOBODYS_SESSION)
            yield from self._edges(self._watch.handle(up, self._now), wall)

    def _before(self, event: Recorded) -> Iterator[Event]:
        """A recording whose beginning is gone doesn't show which accounts its first session had listed: those
        of which it has readings are taken for listed, so that what is quiet isn't stale.
        """
        match event:
            case SessionUp(oms=oms, session=session) | Heard(oms=oms, session=session) if self._guessing:
                old, accounts = self._guessed.get(oms, (NOBODYS_SESSION, set[int]()))
                if old == NOBODYS_SESSION:
                    yield SessionUp(wall=event.wall, oms=oms, gateway="", session=session)
                    yield SessionDown(wall=event.wall, oms=oms, gateway="", session=old, why="")
                    if isinstance(event, Heard):
                        yield from _listed(session, NOBODYS_ACCOUNT, event.wall)
                    self._guessed[oms] = (session, accounts)
            case Reading(feed=name, labels=labels) if self._guessing and name in self._named:
                oms_of = self._named[name].oms
                account = dict(labels).get("account", "")
                if oms_of is None or oms_of not in self._guessed:
                    return
                session, accounts = self._guessed[oms_of]
                if account.isdecimal() and int(account) not in accounts:
                    accounts.add(int(account))
                    yield from _listed(session, int(account), event.wall)
                yield from self._guess_rests(event, oms_of, session)
            case RestsOn(oms=oms, name=name, labels=labels):
                self._rested.add((oms, name, labels))

    def _guess_rests(self, event: Reading, oms: str, session: int) -> Iterator[Event]:
        """A price is taken for subscribed to on that session, and a sum for one that rests on no price."""
        told, instrument = (oms, event.name, event.labels), dict(event.labels).get("instrument", "")
        if event.name not in (PRICE, *WORTHS) or told in self._rested:
            return
        self._rested.add(told)
        prices = (instrument,) if event.name == PRICE and instrument.isdecimal() else ()
        for held in prices:
            yield Listed(wall=event.wall, session=session, what="prices", which=int(held))
        yield RestsOn(wall=event.wall, oms=oms, name=event.name, labels=event.labels, instruments=prices, lacks="")

    def _events(self, event: Recorded) -> tuple[Event, ...]:
        match event:
            case Reading() | BadReading():
                feeds = self.feeds_of(event.name, event.feed)
                if not feeds:
                    self.strangers[event.name] = self.strangers.get(event.name, 0) + 1
                return tuple(replace(event, feed=feed) for feed in feeds)
            case Beat() | FeedUp() | FeedDown() if event.feed not in self._named:
                return ()
            case Beat(feed=feed, retained=False) if (oms := self._named[feed].oms) is not None:
                session, _ = self._guessed.get(oms, (NOBODYS_SESSION, None))
                return (Heard(wall=event.wall, oms=oms, session=session),)
            case Began() | LoopStood() | Missing():
                return ()
            case _:
                return (event,)

    def _show(self, event: Event) -> None:
        """What a reading is about to change, or changed, for whoever looks on."""
        if self._onlooker is None or self._watch is None:
            return
        self._onlooker.moment(event.wall)
        match event:
            case Reading(feed=feed, name=name, labels=labels):
                self._onlooker.stood(event.wall, self._watch.standings((feed, name, labels), self._now))
            case Beat(feed=feed) | BadReading(feed=feed):
                self._onlooker.stood(event.wall, self._watch.standings_of_feed(feed, self._now))
            case SessionUp(oms=oms) | SessionDown(oms=oms) | Heard(oms=oms):
                for feed in self._of_oms.get(oms, ()):
                    self._onlooker.stood(event.wall, self._watch.standings_of_feed(feed, self._now))
            case _:
                pass

    def _edges(self, found: tuple[Found, ...], wall: float, at: float | None = None) -> Iterator[Rehearsed]:
        self._undo.commit()
        for one in found:
            if self._onlooker is not None and self._watch is not None:
                self._onlooker.found(wall, one)
                if isinstance(one, Breach):  # of time alone, too: the line must come to where the limit is
                    self._onlooker.stood(
                        wall, self._watch.standing(one.rule, one.labels, self._now if at is None else at)
                    )
            if isinstance(one, Armed):
                self._armed.add((one.rule, one.feed))  # the journal keeps it over a start
            if isinstance(one, Breach) and not one.repeated:
                yield Rehearsed(wall, one.rule, one.scope, one.text, one.rule in self._in_shadow)


def _listed(session: int, account: int, wall: float) -> tuple[Event, ...]:
    return (
        Listed(wall=wall, session=session, what="positions", which=account),
        Listed(wall=wall, session=session, what="orders", which=account),
    )


# --- reading recordings -------------------------------------------------------------------------------------


def recordings(paths: Iterable[Path]) -> list[Path]:
    """The files, oldest first by their first line; of a directory all that are named *.jsonl or *.jsonl.N.

    Raises UnreadableRecording.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if path.exists() and not path.is_file():  # a pipe can't be read twice, and it is: for when it begins
                raise UnreadableRecording(f"{path}: it is no regular file")
            files.append(path)
            continue
        inside = [f for f in path.iterdir() if f.is_file() and _is_named(f.name)]
        if not inside:
            raise UnreadableRecording(f"{path}: no file in it is named *{ENDS} or *{ENDS}.N")
        files += inside
    begun = [(line.event.wall, name, path) for path in files for name, line in [(str(path), _first(path))] if line]
    return [path for _, _, path in sorted(begun)]


def _is_named(name: str) -> bool:
    stem, _, number = name.rpartition(".")
    return name.endswith(ENDS) or (stem.endswith(ENDS) and number.isdecimal())


def _first(path: Path) -> Line | None:
    return next((line for line, _ in lines_of(path)), None)


def lines_of(path: Path) -> Iterator[tuple[Line, int]]:
    """Each line, and how many bytes were read up to its end. A last line that is cut off is passed over: a
    recorder may be writing it. Raises UnreadableRecording.
    """
    read = 0
    try:
        with path.open("rb") as file:
            for number, data in enumerate(file, 1):
                read += len(data)
                if not data.strip():
                    continue
                try:
                    yield decode(data.decode()), read
                except (RecordingError, UnicodeDecodeError) as error:
                    if not data.endswith(b"\n") and number > 1:
                        return
                    why = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
                    raise UnreadableRecording(f"{path}, line {number}: {why}") from None
    except OSError as error:
        raise UnreadableRecording(f"{path}: it can't be read ({error.strerror or type(error).__name__})") from None


def as_json(trip: Rehearsed, at: str) -> str:
    """One line: {"at","rule","scope","cause"}. A part of the scope that isn't named is every.

    `shadow` is there, and true, for a rule in shadow.
    """
    said = {"at": at, "rule": trip.rule, "scope": scope_json(trip.scope), "cause": trip.cause}
    return json.dumps(said | ({"shadow": True} if trip.shadow else {}))

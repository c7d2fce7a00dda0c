"""The recorder: every reading that reaches the rules, appended to a file for replay.

`see` only queues, so that the loop never waits. A thread of its own turns events into lines (a long list of
orders too) and appends them in batches. A disk that is full or hangs costs readings, which are counted, said
once and marked in the file; it never stops the daemon. A recording is no evidence: it isn't synced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from killswitch.domain.messages import (
    BadReading,
    Beat,
    FeedDown,
    FeedUp,
    Heard,
    Instruments,
    Listed,
    LoopStood,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    Reconfigured,
    SessionDown,
    SessionUp,
    Stopping,
    Tick,
    TradeSeen,
)
from killswitch.domain.undo import Undo
from killswitch.domain.watch import limit
from killswitch.domain.watch.doubts import NOT_FINITE
from killswitch.domain.watch.venue import Venue
from killswitch.wire.recording import Began, Line, Missing, RecordingError, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from killswitch.domain.messages import Event
    from killswitch.domain.settings import FeedSpec
    from killswitch.domain.watch.shown import Shown
    from killswitch.wire.recording import Recorded

log = logging.getLogger(__name__)

SIZE_MAX: Final = 64 * 1024 * 1024
"""Bytes of a file: some 400,000 readings, which replay reads in less than a minute."""
FILES_MAX: Final = 8
"""Files in all: half a gigabyte, about a day at 40 readings a second. The disk is the journal's as well, and must
never be filled by what is only good to have."""
WAITING_MAX: Final = 100_000
"""Events that wait for the disk; what comes on top is dropped and counted."""
BATCH_EVERY_S: Final = 0.2
CLOSE_S: Final = 2.0
TAIL: Final = 64 * 1024

WATCHED: Final = frozenset(
    (
        *(Reading, BadReading, Beat, FeedUp, FeedDown, SessionUp, SessionDown, Heard),
        *(Positions, PositionSeen, OpenOrders, OrderWorking, OrderEnded, OrderRejected, TradeSeen),
        *(Instruments, PriceSeen, Tick, LoopStood, Stopping),
    )
)


class Recorder:
    """Appends to `path`; full ones become `path`.1 (the newest), .2 and so on, the oldest of them goes."""

    def __init__(
        self,
        path: Path,
        daemon: str,
        feeds: Iterable[FeedSpec],
        *,
        size_max: int = SIZE_MAX,
        files_max: int = FILES_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._path, self._daemon = path, daemon
        self._size_max, self._files_max, self._waiting_max = size_max, files_max, waiting_max
        self._lines = _Lines(feeds)
        self._waiting: deque[tuple[Event, float]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._fd = -1
        self._size = 0
        self._unsaid = 0  # lost and not yet marked in the file
        self._over = 0  # dropped by the loop, which alone counts here
        self._over_told = 0
        self._failing = False
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self, now: float, wall: float, armed: tuple[tuple[str, str], ...] = ()) -> None:
        """Begin. The file says where a start was: what the rules knew before it is gone, but for armed dead-men."""
        self._waiting.append((Began(wall=wall, daemon=self._daemon, armed=armed), now))
        self._wake.set()
        self._thread.start()

    def see(self, event: Event, now: float) -> None:
        """What the rules took at `now` (monotonic seconds). Never waits, never raises."""
        if type(event) not in WATCHED or (isinstance(event, Tick) and not self._lines.have_sums):
            return
        if len(self._waiting) >= self._waiting_max:
            self._over += 1
            return
        self._waiting.append((event, now))
        if not self._wake.is_set():
            self._wake.set()

    def join(self, sessions: Iterable[SessionUp], now: float) -> None:
        """Begin in the middle, with the sessions that are up; the rules know more than the file will say."""
        self._waiting.extend((session, now) for session in sessions)
        self._wake.set()
        self._thread.start()

    def change(self, event: Reconfigured, now: float) -> None:
        """Record the feeds of another configuration, from what is seen after this on."""
        self._waiting.append((event, now))
        self._wake.set()

    def close(self) -> None:
        """Write what waits, for at most CLOSE_S."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    # --- in the thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            if not self._closing:
                time.sleep(BATCH_EVERY_S)  # so that one write takes many
            self._wake.clear()
            self._drain()
        self._drain()
        self._shut()

    def _drain(self) -> None:
        while self._waiting:
            events = [self._waiting.popleft() for _ in range(min(len(self._waiting), 10_000))]
            over = self._over - self._over_told
            if over:
                self._over_told += over
                self._lose(over, "readings come faster than they can be written")
            try:
                self._write(self._encoded(events), len(events), events[0])
            except Exception as error:  # noqa: BLE001  # whatever it is: the recording suffers, nothing else does
                self._lose(len(events), f"internal error ({type(error).__name__})")

    def _encoded(self, events: list[tuple[Event, float]]) -> list[bytes]:
        lines = []
        for event, now in events:
            for line in self._lines.of(event, now):
                try:
                    lines.append(encode(line).encode() + b"\n")
                except RecordingError as error:
                    self._lose(1, str(error))
        return lines

    def _write(self, lines: list[bytes], events: int, first: tuple[Event, float]) -> None:
        if self._unsaid:
            with contextlib.suppress(RecordingError):
                gap = Missing(wall=first[0].wall, lost=self._unsaid)
                lines.insert(0, encode(Line(gap, first[1])).encode() + b"\n")
        written = 0
        try:
            for part in self._parts(lines):
                self._append(part)
                written += part.count(b"\n")
        except OSError as error:
            self._lose(max(1, events * (len(lines) - written) // max(len(lines), 1)), error.strerror or str(error))
            return
        self._unsaid = 0
        if self._failing:
            self._failing = False
            log.warning("the recording goes on; %d readings are missing in it", self.lost)

    def _parts(self, lines: list[bytes]) -> Iterator[bytes]:
        """The lines, in as few writes as the files' size allows."""
        held: list[bytes] = []
        size = 0
        for line in lines:
            if held and self._size + size + len(line) > self._size_max:
                yield b"".join(held)
                held, size = [], 0
            held.append(line)
            size += len(line)
        if held:
            yield b"".join(held)

    def _append(self, data: bytes) -> None:
        if not self._is_there():
            self._open()
        if self._size and self._size + len(data) > self._size_max:
            self._rotate()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # Half a line would spoil the next one; cutting off needs no room on the disk.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._shut()
            raise
        self._size += len(data)

    def _is_there(self) -> bool:
        """The file under our name is still the one we write: somebody may have moved or removed it."""
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        self._shut()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        whole = self._end_of_lines()
        if whole < self._size:  # a process that was killed left half a line
            os.ftruncate(self._fd, whole)
            self._size = whole

    def _end_of_lines(self) -> int:
        begin = max(self._size - TAIL, 0)
        tail = os.pread(self._fd, TAIL, begin)
        return begin + tail.rfind(b"\n") + 1 if b"\n" in tail or begin == 0 else self._size

    def _rotate(self) -> None:
        self._shut()
        self._numbered(self._files_max - 1).unlink(missing_ok=True)
        for number in range(self._files_max - 2, -1, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")

    def _shut(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _lose(self, events: int, why: str) -> None:
        self.lost += events
        self._unsaid += events
        if not self._failing:
            self._failing = True
            log.error("readings are not recorded to %s: %s; the daemon goes on without", self._path, why)


class _Lines:
    """What the rules take of an event, as lines. An OMS's events become readings here as they do in the rules."""

    def __init__(self, feeds: Iterable[FeedSpec]) -> None:
        held = tuple(feeds)
        self._undo = Undo()
        self._venue = Venue(held, self._undo)
        self._go_by(held)

    def _go_by(self, held: tuple[FeedSpec, ...]) -> None:
        self.have_sums = any(feed.numeraire is not None for feed in held)
        self._names = frozenset(feed.name for feed in held)
        self._feeds_of: dict[str, tuple[str, ...]] = {}
        for feed in held:
            if feed.kind == "oms" and feed.oms is not None:
                self._feeds_of[feed.oms] = (*self._feeds_of.get(feed.oms, ()), feed.name)

    def of(self, event: Event, now: float) -> Iterator[Line]:
        match event:
            case Reading() | BadReading() | Beat() | FeedUp() | FeedDown():
                if event.feed in self._names:
                    yield Line(_finite(event), now)
            case Began() | LoopStood():
                yield Line(event, now)
            case Stopping():  # a sign of life: how long nobody watched decides what of its windows a start believes
                yield Line(LoopStood(wall=event.wall, over=True), now)
            case Reconfigured():
                self._venue.change(event.settings.feeds)
                self._go_by(event.settings.feeds)
            case SessionUp() | SessionDown():
                if isinstance(event, SessionUp):  # of an OMS without a feed too: a reload may bring one
                    self._venue.session_up(event.session, event.oms)
                else:
                    self._venue.session_down(event.session)
                if event.oms in self._feeds_of:
                    yield Line(event, now)
            case Tick():
                for oms in self._feeds_of:
                    look = self._venue.settle(oms, now)
                    yield from self._rests(look, now)
                    yield from self._values(event, look, now)
            case _:
                taken = self._venue.take(event, now)
                if taken is not None and taken.oms in self._feeds_of:
                    yield from self._of_oms(event, taken, now)
        self._undo.commit()

    def _of_oms(self, event: Event, look: Shown, now: float) -> Iterator[Line]:
        """What the event proves is judged as soon as its line is read: so what readings rest on, and what it proves,
        comes before that it was heard.
        """
        yield from self._rests(look, now)
        if look.held is not None and isinstance(event, PriceSeen):
            yield Line(Listed(wall=event.wall, session=event.session, what="prices", which=look.held), now)
        match event:
            case Positions() | OpenOrders():
                what: Literal["positions", "orders"] = "positions" if isinstance(event, Positions) else "orders"
                yield Line(Listed(wall=event.wall, session=event.session, what=what, which=event.account), now)
            case Heard() | PositionSeen() | OrderWorking() | OrderEnded() if look.alive:
                yield Line(Heard(wall=event.wall, oms=look.oms, session=event.session), now)
            case OrderRejected() | TradeSeen() | PriceSeen() | Instruments() if look.alive:
                yield Line(Heard(wall=event.wall, oms=look.oms, session=event.session), now)
        yield from self._values(event, look, now)

    def _rests(self, look: Shown, now: float) -> Iterator[Line]:
        for rests in look.rests:
            known_at = self._venue.proofs.known_at((rests.oms, rests.name, rests.labels))
            yield Line(rests if known_at is None else replace(rests, known_s_ago=now - known_at), now)

    def _values(self, event: Event, look: Shown, now: float) -> Iterator[Line]:
        for feed in self._feeds_of[look.oms]:
            for seen in look.seen:
                yield Line(
                    _finite(
                        Reading(
                            wall=event.wall,
                            feed=feed,
                            name=seen.name,
                            labels=seen.labels,
                            value=seen.value,
                            fresh=look.alive or seen.as_of is not None,
                            retained=not look.alive,  # time alone told it: that is no beat
                            lag_s=0.0 if seen.as_of is None else now - seen.as_of,
                        )
                    ),
                    now,
                )
            for doubt in look.doubts:
                bad = BadReading(wall=event.wall, feed=feed, name=doubt.name, labels=doubt.labels, reason=doubt.reason)
                yield Line(bad, now)


def _finite(event: Recorded) -> Recorded:
    """NaN and infinities are no values to the rules either; as one they couldn't be written."""
    if not isinstance(event, Reading) or limit.exact(event.value) is not None:
        return event
    return BadReading(wall=event.wall, feed=event.feed, name=event.name, labels=event.labels, reason=NOT_FINITE)

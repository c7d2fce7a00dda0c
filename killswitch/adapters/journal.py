"""The journal: one SQLite file that exactly one connection writes, and a spool beside it.

The connection lives in a thread of its own (WAL, synchronous=FULL). A record that is urgent is also appended
to `<journal>.spool` in the pass in which it was decided: one write, not synced. A process that is killed
before the commit finds it there at its next start. A lock on the spool keeps a second daemon out.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.adapters.journal_spool import Spool
from killswitch.adapters.journal_store import (
    JournalError,
    JournalInUse,
    JournalUnreadable,
    Store,
    place,
    read_rows,
    read_windows,
    verify,
)
from killswitch.adapters.journal_windows import newest
from killswitch.domain.messages import (
    Called,
    Commanded,
    JournalFailed,
    Journalled,
    Looked,
    Noted,
    Record,
    Restored,
    Started,
    Stopped,
    Tripped,
    WasReset,
)
from killswitch.wire.record import GENESIS, Row, Unreadable, encode, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from killswitch.adapters.journal_store import Waiting
    from killswitch.adapters.journal_windows import Windows
    from killswitch.domain.messages import Event, Keep

__all__ = ["Journal", "JournalError", "JournalInUse", "JournalUnreadable", "read_rows", "verify"]

RETRY_S: Final = 0.5
REPEAT_S: Final = 5.0
"""The same failure is reported again after this."""
REPEAT_WINDOWS_S: Final = 60.0
BATCH: Final = 1_000
WAITING_MAX: Final = 100_000
"""Records waiting for the disk. At the limit those of calls and lists that are not urgent are dropped, counted
and named in a record of their own; at twice the limit so is all but trips, resets, commands, start and stop,
which are kept whatever happens: they are what a restart needs, and there are few of them."""


class Journal:
    """Keeps records, in order, for as long as it takes, and says when they are on disk."""

    def __init__(self, path: Path, submit: Callable[[Event], None], wall: Callable[[], float]) -> None:
        self._path = path
        self._submit = submit
        self._wall = wall
        self._store = Store(path)
        self._spool = Spool(path.with_name(path.name + ".spool"))
        self._spooled = 0  # the last number that the spool holds; 0: it is empty
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: deque[Waiting] = deque()
        self._writing: tuple[Waiting, ...] = ()
        self._room_at = WAITING_MAX
        # As many as there are series at the most: of each window only the newest waits.
        self._windows: Windows = {}
        self._broken_windows: tuple[bytes, ...] = ()
        self._windows_at = 0.0  # not to be tried again before
        self._last_n = 0
        self._wake = asyncio.Event()
        self._one_writes = asyncio.Lock()
        self._closing = False
        self._closed = False
        self._said = ("", 0.0)
        self._said_of_windows = 0.0
        self.dropped = 0

    @classmethod
    def open(
        cls, path: Path, *, submit: Callable[[Event], None], wall: Callable[[], float]
    ) -> tuple[Journal, Restored]:
        """Open or make the journal and fold it. Before the loop starts: it waits for the disk.

        What only the spool knows is folded too, and committed here, or by `run` where that fails for now.
        `wall` gives seconds since 1970. Raises JournalUnreadable, JournalInUse.
        """
        journal = cls(path, submit, wall)
        try:
            return journal, journal._thread.submit(journal._restore).result()
        except BaseException:
            journal._thread.submit(journal._store.close).result()
            journal._thread.shutdown()
            journal._spool.close()
            raise

    def do(self, action: Record) -> None:
        """Take a record; never waits, never raises for the disk. An urgent one is in the spool on return."""
        if not (action.urgent or self._closed):
            self._put((action.n, action))
            return
        data = encode(action)
        if not self._closed:
            self._put((action.n, data))
        self._to_spool(action.n, data)

    def keep(self, action: Keep) -> None:
        """Take windows; never waits, never raises for the disk. They are written when no record waits."""
        newest(self._windows, action)
        self._wake.set()

    async def run(self) -> None:
        """Write what waits, one transaction after the other, until `close`."""
        while not self._closed and (self._waiting or not self._closing):
            if self._waiting:
                if not await self._write():
                    await asyncio.sleep(RETRY_S)
            elif not self._windows:
                await self._news(None)
            elif (wait_s := self._windows_at - time.monotonic()) > 0:
                await self._news(wait_s)  # a record must not wait for what windows wait for
            else:
                await self._write_windows()

    async def _news(self, within_s: float | None) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._wake.wait()

    async def close(self, limit_s: float = 5.0) -> int:
        """Flush and close. What the database doesn't take in time goes to the spool, synced.

        Returns how many records neither of them took: 0, unless the disk is gone.
        """
        self._closing = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._waiting or self._one_writes.locked():
                    if not await self._write():
                        await asyncio.sleep(RETRY_S / 5)
                if self._windows:
                    await self._write_windows()
        self._closed = True
        lost = self._spool_the_rest()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)
        self._spool.close()
        return lost

    # --- opening

    def _restore(self) -> Restored:
        there, warnings = self._path.exists(), list[str]()
        spooled = self._read_spool(warnings)
        try:
            self._store.connect()
        except (sqlite3.Error, OSError) as error:
            if not there:
                raise JournalUnreadable(f"the journal {self._path} can't be made: {error}") from None
            warnings.append(f"the journal {self._path} can't be written for now: {error}")
        if self._store.made:
            found = "the journal was empty" if there else "there was no journal"
            warnings.append(f"{found} at {self._path}: a new one was made")
        try:
            restored = fold(self._all_rows(spooled))
        except Unreadable as error:
            raise JournalUnreadable(f"{self._path}: {error}") from None
        if spooled:
            self._spooled = spooled[-1][0]
            try:
                self._store.append(spooled)
                self._spool.clear()
                self._spooled = 0
            except (sqlite3.Error, OSError) as error:
                self._waiting.extend(spooled)
                warnings.append(f"the spool can't be committed for now: {error}")
        self._last_n = restored.next_n - 1
        kept, self._broken_windows, warning = read_windows(self._path)
        warnings += [*restored.warnings, *filter(None, [warning])]
        return replace(restored, fresh=self._store.made, warnings=tuple(warnings), kept=kept, wall=self._wall())

    def _read_spool(self, warnings: list[str]) -> Sequence[Waiting]:
        try:
            self._spool.open()
            lines, broken, torn = self._spool.read()
        except BlockingIOError:
            raise JournalInUse(f"another process has the journal {self._path} open") from None
        except OSError as error:
            warnings.append(f"the spool beside the journal can't be read or written: {error.strerror}")
            return []
        if broken:
            warnings.append(f"{broken} lines of the spool can't be read")
        if torn:
            warnings.append("the last line of the spool was cut off while it was written")
        return lines

    def _all_rows(self, spooled: Sequence[Waiting]) -> Iterator[Row]:
        last, before = 0, GENESIS
        held: dict[int, bytes] = {}
        numbers = {n for n, _ in spooled}
        for row in read_rows(self._path):
            last, before = row.n, row.hash or ""
            if row.n in numbers:
                held[row.n] = row.data
            yield row
        yield from place(last, before, held.get, spooled).rows

    # --- writing

    async def _write(self) -> bool:
        """One transaction. False: it failed, was reported, and its records wait again in their places."""
        async with self._one_writes:
            if not self._waiting or self._closed:
                return True
            batch = tuple(self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting))))
            self._writing = batch
            loop = asyncio.get_running_loop()
            try:
                placed = await loop.run_in_executor(self._thread, self._store.append, batch)
            except (sqlite3.Error, OSError) as error:
                self._waiting.extendleft(reversed(batch))
                self._failed(f"the journal can't be written: {error}")
                return False
            except BaseException:
                # Cancelled: the thread may still commit them; the next append then finds them there.
                self._waiting.extendleft(reversed(batch))
                raise
            finally:
                self._writing = ()
        self._written(max(n for n, _ in batch), placed.moved)
        return True

    async def _write_windows(self) -> None:
        """Another transaction. What fails is reported and waits again, unless something newer came of it."""
        async with self._one_writes:
            if self._closed:
                return
            windows, self._windows = self._windows, {}
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._thread, self._store.keep, windows, self._broken_windows)
            except (sqlite3.Error, OSError) as error:
                self._windows = windows | self._windows
                self._windows_failed(f"the rules' windows can't be kept: {error}")
            except BaseException:
                self._windows = windows | self._windows  # cancelled: to write them twice does no harm
                raise
            else:
                self._broken_windows = ()
                if self._said_of_windows:
                    # No record may come for hours that would say that the disk is there again.
                    self._said_of_windows = 0.0
                    self._submit(Journalled(wall=self._wall(), n=self._last_n))

    def _windows_failed(self, why: str) -> None:
        """Said seldom: a record that is written in between takes it back, and it would be told again and again."""
        now = time.monotonic()
        self._windows_at = now + RETRY_S
        if not self._said_of_windows or now - self._said_of_windows >= REPEAT_WINDOWS_S:
            self._said_of_windows = now
            self._submit(JournalFailed(wall=self._wall(), why=why))

    def _written(self, last: int, moved: int) -> None:
        self._last_n = max(last, self._last_n)
        self._said = ("", 0.0)
        if moved:
            self._failed(f"{moved} records were kept under new numbers, since theirs were taken")
        if 0 < self._spooled <= last:
            try:
                self._spool.clear()
                self._spooled = 0
            except OSError as error:
                self._failed(f"the spool can't be emptied: {error.strerror}")
        self._submit(Journalled(wall=self._wall(), n=last))

    def _failed(self, why: str) -> None:
        now, (last_why, said) = time.monotonic(), self._said
        if why != last_why or now - said >= REPEAT_S:
            self._said = (why, now)
            self._submit(JournalFailed(wall=self._wall(), why=why))

    def _to_spool(self, n: int, data: bytes) -> bool:
        try:
            self._spool.write(data)
        except OSError as error:
            self._failed(f"the spool can't be written: {error.strerror or error}")
            return False
        self._spooled = max(self._spooled, n)
        return True

    def _spool_the_rest(self) -> int:
        lost = 0
        for n, record in (*self._writing, *self._waiting):
            lost += not self._to_spool(n, record if isinstance(record, bytes) else encode(record))
        try:
            self._spool.sync()
        except OSError as error:
            self._failed(f"the spool can't be synced: {error.strerror}")
        return lost

    # --- waiting

    def _put(self, entry: Waiting) -> None:
        if len(self._waiting) >= self._room_at:
            self._make_room()
        self._waiting.append(entry)
        self._wake.set()

    def _make_room(self) -> None:
        """WAITING_MAX says what goes. One record of the first number that went says that and how many."""
        dropped = self._drop(1)
        if len(self._waiting) >= 2 * WAITING_MAX:
            dropped += self._drop(2)
        # Not at every record from now on, where nothing more can go.
        self._room_at = max(WAITING_MAX, len(self._waiting) + WAITING_MAX // 10)
        if dropped:
            self._failed(f"{self.dropped} records were dropped since the start: too many wait for the disk")

    def _drop(self, worth: int) -> int:
        """Drop what is worth less. 0: calls and lists; 2: what a restart needs; 1: the rest."""
        kept: deque[Waiting] = deque()
        first: int | None = None
        for n, record in self._waiting:
            if _worth(record) >= worth:
                kept.append((n, record))
            elif first is None:
                first = n
                kept.append((n, b""))
        if first is None:
            return 0
        dropped = len(self._waiting) - len(kept) + 1
        self.dropped += dropped
        text = f"{dropped} records from here on were dropped, {self.dropped} since the start: too many waited"
        note = Record(first, self._wall(), Noted("journal_dropped", text))
        self._waiting = deque((n, note if record == b"" else record) for n, record in kept)
        return dropped


def _worth(record: Record | bytes) -> int:
    if isinstance(record, bytes) or record.urgent:
        return 2
    match record.body:
        case Called() | Looked():
            return 0
        case Tripped() | WasReset() | Commanded() | Started() | Stopped():
            return 2
        case _:
            return 1

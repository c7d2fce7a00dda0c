"""The journal's database: reading it as far as it can be read, and the one connection that writes.

SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once, so nobody else writes,
and whoever only reads opens the file read-only.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.adapters import journal_windows
from killswitch.wire.record import GENESIS, Row, Verdict, encode, link, read_row, renumber
from killswitch.wire.record import verify as verify_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from killswitch.adapters.journal_windows import Windows
    from killswitch.domain.messages import Keep, Record

BUSY_MS: Final = 250
"""How long a write waits for another program's lock before that is reported."""

WAL_KEPT_MAX: Final = 8 * 2**20
"""Bytes of the write-ahead log that are kept once it was copied into the file."""

_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SKIP_MAX: Final = 64
_BEYOND: Final = 100_000

_MAKE: Final = """CREATE TABLE IF NOT EXISTS record (
    n INTEGER PRIMARY KEY, wall REAL, kind TEXT, body TEXT, hash TEXT)"""
_INSERT: Final = "INSERT INTO record (n, wall, kind, body, hash) VALUES (?, ?, ?, CAST(? AS TEXT), ?)"
_READ: Final = "SELECT n, wall, kind, body, hash FROM record WHERE n > ? ORDER BY n LIMIT 500"
_LAST: Final = "SELECT n, hash FROM record ORDER BY n DESC LIMIT 1"

Waiting: TypeAlias = tuple[int, "Record | bytes"]
"""A record's number and the record, or its bytes where they were made already (urgent, or from the spool)."""


class JournalError(Exception):
    """The journal can't be used: a sentence for a person."""


class JournalUnreadable(JournalError):  # noqa: N818 - the word of the configuration's unreadable_journal
    """There is a journal, or there should be, and nothing at all can be folded from it."""


class JournalInUse(JournalError):  # noqa: N818 - as above
    """Another program holds the journal."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of an append: rows written, and how many were numbered anew since their number was taken."""

    rows: tuple[Row, ...]
    moved: int


# --- reading -----------------------------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[Row]:
    """The rows in order, read-only, also while the daemon writes. Raises JournalUnreadable, JournalInUse.

    Where the file is damaged, what lies before and after is read; a row without hash stands for each place
    that was skipped.
    """
    with contextlib.closing(_open_to_read(path)) as connection:
        try:
            yield from _rows(connection)
        except sqlite3.Error as error:
            raise _reading_failed(path, error) from None


def verify(path: Path) -> Verdict:
    """Whether the hash chain holds. Raises JournalUnreadable, JournalInUse."""
    return verify_rows(read_rows(path))


def read_windows(path: Path) -> tuple[tuple[Keep, ...], tuple[bytes, ...], str]:
    """What was kept of windows, the keys of rows that can't be read, and a warning or "". Never raises for them."""
    try:
        with contextlib.closing(_open_to_read(path)) as connection:
            return journal_windows.read(connection)
    except JournalError as error:
        return (), (), f"the windows that were kept can't be read, and must warm up again: {error}"


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise JournalUnreadable(f"there is no journal at {path}")
    uri = path.resolve().as_uri() + "?mode=ro"
    wal = path.with_name(path.name + "-wal")
    # A journal in a folder that can't be written has no shared memory to make; without a WAL none is needed.
    for form in (uri, *(() if wal.exists() else (uri + "&immutable=1",))):
        connection = None
        try:
            connection = sqlite3.connect(form, uri=True, timeout=BUSY_MS / 1000, check_same_thread=False)
            connection.text_factory = bytes  # a flipped byte need not be UTF-8
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone() is None:
                connection.close()
                raise JournalUnreadable(f"{path} is a database, but holds no journal")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            failure = error
        else:
            return connection
    raise _reading_failed(path, failure)


def _reading_failed(path: Path, error: sqlite3.Error) -> JournalError:
    if _code(error) in _BUSY:
        return JournalInUse(f"the journal {path} is locked by another program")
    if _code(error) == sqlite3.SQLITE_NOTADB:
        return JournalUnreadable(f"{path} is no journal: it is not a database, or its beginning is damaged")
    return JournalUnreadable(f"the journal {path} can't be read: {error}")


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows that can be read. Behind a damaged page it feels its way by growing steps of numbers."""
    after, step, top = -(2**63), 1, None
    while True:
        try:
            found = 0
            for n, wall, kind, body, hashed in connection.execute(_READ, (after,)):
                yield _row(n, wall, kind, body, hashed)
                after, step, found = n, 1, found + 1
        except sqlite3.DatabaseError as error:
            if _code(error) not in _CORRUPT:
                raise
            after = max(after, 0)
            top = _top(connection, after) if top is None else top
            yield Row(after + 1, 0.0, "", b"", None)
            after, step = after + step, min(2 * step, _SKIP_MAX)
            if after >= top:
                return
        else:
            if not found:
                return


def _top(connection: sqlite3.Connection, after: int) -> int:
    try:
        ((n, _),) = connection.execute(_LAST).fetchall()
    except (sqlite3.DatabaseError, ValueError):
        return after + _BEYOND
    return int(n)


def _row(n: int, wall: object, kind: object, body: object, hashed: object) -> Row:
    """Columns as they are: a damaged one may be of any type."""
    seconds = wall if isinstance(wall, float) else 0.0
    return Row(n, seconds, _text(kind), body if isinstance(body, bytes) else b"", _text(hashed))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _code(error: sqlite3.Error) -> int:
    """The primary code of SQLite: the low byte of the extended one."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


# --- the one connection that writes ------------------------------------------------------------------------


class Store:
    """Used in the journal's thread only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self.made = False  # there was no table of records, so what came before is not known

    def connect(self) -> sqlite3.Connection:
        """The connection, made anew where it is gone. Raises sqlite3.Error, OSError."""
        if self._connection is not None:
            if self._there():
                return self._connection
            self._put_back(self._connection)
            raise sqlite3.OperationalError("the file was removed or replaced")
        connection = sqlite3.connect(self._path, timeout=BUSY_MS / 1000, isolation_level=None)
        try:
            connection.text_factory = bytes
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            connection.execute("PRAGMA synchronous=FULL")
            # A reader that hung keeps the WAL growing; what it grew to would else be kept for ever.
            connection.execute(f"PRAGMA journal_size_limit={WAL_KEPT_MAX}").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if tables and b"record" not in tables:
                raise sqlite3.DatabaseError("it is a database, but holds no journal")  # noqa: TRY301
            if not tables:
                connection.execute(_MAKE)
                self.made = True
            self._inode = self._path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _there(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _put_back(self, connection: sqlite3.Connection) -> None:
        """The file was removed or replaced under us: what it held is put where nothing stands now."""
        try:
            if not self._path.exists():
                try:
                    connection.execute("VACUUM INTO ?", (str(self._path),))
                    _sync(self._path)
                except (sqlite3.Error, OSError):
                    self._path.unlink(missing_ok=True)
                    raise
        finally:
            self.close()

    def append(self, batch: Sequence[Waiting]) -> Placed:
        """One transaction, on disk when this returns. Raises sqlite3.Error, OSError; then nothing is written.

        A commit that failed may have come through all the same: what stands there already is left alone.
        """
        connection = self.connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            placed = place(*_last(connection), lambda n: _held(connection, n), batch)
            connection.executemany(_INSERT, [(row.n, row.wall, row.kind, row.data, row.hash) for row in placed.rows])
            connection.execute("COMMIT")
        except BaseException as error:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if _read_only(error):
                    self.close()
            except sqlite3.Error:
                self.close()
            raise
        return placed

    def keep(self, windows: Windows, broken: Sequence[bytes]) -> None:
        """Another transaction, of windows and no records. Raises sqlite3.Error, OSError; then nothing is written."""
        try:
            journal_windows.write(self.connect(), windows, broken)
        except BaseException as error:
            if self._connection is not None and (self._connection.in_transaction or _read_only(error)):
                self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def place(last: int, before: str, held: Callable[[int], bytes | None], batch: Iterable[Waiting]) -> Placed:
    """The rows that still have to be written, numbered and linked behind row `last` with the link `before`.

    A record whose number is taken by itself is there already; by another one, it gets a new number.
    """
    rows: dict[int, Row] = {}
    moved = 0
    for n, record in batch:
        data = record if isinstance(record, bytes) else encode(record)
        if n <= last:
            if data == (rows[n].data if n in rows else held(n)):
                continue
            data, moved = renumber(data, last + 1), moved + 1
        row = read_row(data)
        before, last = link(before, data), row.n
        rows[last] = replace(row, hash=before)
    return Placed(tuple(rows.values()), moved)


def _read_only(error: BaseException) -> bool:
    """A connection that SQLite could only open for reading stays so, also when the file may be written again."""
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_READONLY


def _last(connection: sqlite3.Connection) -> tuple[int, str]:
    found = connection.execute(_LAST).fetchone()
    return (0, GENESIS) if found is None else (found[0], _text(found[1]))


def _held(connection: sqlite3.Connection, n: int) -> bytes | None:
    found = connection.execute("SELECT body FROM record WHERE n = ?", (n,)).fetchone()
    return None if found is None else found[0]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())

"""The journal's other table: the rules' windows, each in one row that the next one replaces.

They stand in the journal's file and are no part of its evidence: no hash chain goes over them, and a row that can't
be read is a window that warms up again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.wire.kept import KeptError, decode, encode, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Keep, KeptWindow, Labels

# Made with the first window that is kept: a journal of an earlier version has no such table, and doesn't need one.
_MAKE: Final = "CREATE TABLE IF NOT EXISTS kept_window (key TEXT PRIMARY KEY, body TEXT)"
_PUT: Final = """INSERT INTO kept_window (key, body) VALUES (CAST(? AS TEXT), CAST(? AS TEXT))
    ON CONFLICT (key) DO UPDATE SET body = excluded.body"""
_FORGET: Final = "DELETE FROM kept_window WHERE key = CAST(? AS TEXT)"
_READ: Final = "SELECT key, body FROM kept_window ORDER BY key"

Windows: TypeAlias = "dict[tuple[str, str, str, Labels], tuple[Keep, KeptWindow]]"
"""The newest of each window that waits for the disk, with the clocks that go with it."""


def newest(held: Windows, keep: Keep) -> None:
    """Put what is to be kept in the place of what still waits of the same windows."""
    held.update(((w.rule, w.feed, w.reading, w.labels), (keep, w)) for w in keep.windows)


def write(connection: sqlite3.Connection, windows: Windows, broken: Iterable[bytes]) -> None:
    """One transaction, on disk when this returns. `broken`: keys of rows to remove. Raises sqlite3.Error."""
    gone = [(key_of(w),) for _, w in windows.values() if not w.slices]
    there = [(key_of(w), encode(w, keep.wall, keep.clock_s)) for keep, w in windows.values() if w.slices]
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_MAKE)
        connection.executemany(_FORGET, [*gone, *((key,) for key in broken)])
        connection.executemany(_PUT, there)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def read(connection: sqlite3.Connection) -> tuple[tuple[Keep, ...], tuple[bytes, ...], str]:
    """What was kept, the keys of rows that can't be read, and a warning or "". Never raises for what it finds.

    `connection` gives text as bytes: a flipped byte need not be UTF-8.
    """
    kept: list[Keep] = []
    broken: list[bytes] = []
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kept_window'").fetchone() is None:
            return (), (), ""
        for key, body in connection.execute(_READ):
            found = _row(key, body)
            if found is None:
                broken.append(key if isinstance(key, bytes) else str(key).encode())
            else:
                kept.append(found)
    except sqlite3.Error as error:
        return tuple(kept), tuple(broken), f"not all windows that were kept can be read, the others warm up: {error}"
    if not broken:
        return tuple(kept), (), ""
    count = "1 window that was kept" if len(broken) == 1 else f"{len(broken)} windows that were kept"
    return tuple(kept), tuple(broken), f"{count} can't be read, and must warm up again"


def _row(key: object, body: object) -> Keep | None:
    """Columns as they are: a damaged one may be of any type."""
    try:
        keep = decode(body if isinstance(body, bytes) else b"")
    except KeptError:
        return None
    return keep if all(key_of(window).encode() == key for window in keep.windows) else None

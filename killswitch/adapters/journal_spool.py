"""The journal's spool: records that a killed process must find again, written in the pass that made them."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from killswitch.wire.record import RecordError, read_row

if TYPE_CHECKING:
    from pathlib import Path


class Spool:
    """An append-only file of encoded records, a line each; its lock says whose the journal is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._torn = False

    def open(self) -> None:
        """Raises OSError; BlockingIOError where another process holds the lock."""
        self.close()
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def read(self) -> tuple[list[tuple[int, bytes]], int, bool]:
        """The records by number, how many lines can't be read, and whether the last one was cut off."""
        text = self._path.read_bytes()
        *lines, rest = text.split(b"\n")
        self._torn = bool(rest)
        found: dict[bytes, int] = {}
        broken = 0
        for line in filter(None, [*lines, rest]):
            try:
                found[line] = read_row(line).n
            except RecordError:
                broken += line is not rest
        whole = rest in found
        return sorted((n, line) for line, n in found.items()), broken, self._torn and not whole

    def write(self, data: bytes) -> None:
        """One write, not synced: it outlives the process, not the machine. Raises OSError."""
        if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:
            self.open()
        line = (b"\n" if self._torn else b"") + data + b"\n"
        self._torn = True
        if os.write(self._fd, line) != len(line):
            raise OSError("only a part of the line could be written")
        self._torn = False

    def sync(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)

    def clear(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            self._torn = False

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

"""A window that outlives the process: its bytes in the journal's file, and back.

A row is `{"version","wall","clock_s",…}` with the window's slices as [began, at, count, "total"], and stands under a
key, the JSON of [rule, feed, reading, labels]. It is no record: it is in no hash chain, and whoever writes the next
one of that window replaces it.
"""

from __future__ import annotations

import math
from decimal import Decimal  # noqa: TC003  # msgspec reads the annotations
from typing import Final

import msgspec

from killswitch.domain.messages import Keep, KeptWindow, Labels, Slice

VERSION: Final = 1
TIME_MAX: Final = 1e15
DIGITS_MAX: Final = 2_000
"""A sum of readings is exact: from 1e300 down to 1e-300, and their 64 digits. Nothing longer was ever written."""


class KeptError(Exception):
    """Bytes that are no window of this version. The sentence holds nothing of them."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    wall: float
    clock_s: float
    rule: str
    definition: str
    feed: str
    reading: str
    labels: Labels
    since: float
    slices: tuple[tuple[float, float, int, Decimal], ...]


_rows: Final = msgspec.json.Decoder(_Row)


def key_of(window: KeptWindow) -> str:
    """What one window's row stands under."""
    named = (window.rule, window.feed, window.reading, window.labels)
    return msgspec.json.encode(_plain(named)).decode()


def encode(window: KeptWindow, wall: float, clock_s: float) -> bytes:
    """One window, with the clocks that go with its times. Never fails for what reached us from outside."""
    row = _Row(
        version=VERSION,
        wall=wall,
        clock_s=clock_s,
        rule=window.rule,
        definition=window.definition,
        feed=window.feed,
        reading=window.reading,
        labels=window.labels,
        since=window.since,
        slices=tuple((s.began, s.at, s.count, s.total) for s in window.slices),
    )
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:
        named = {name: _plain(getattr(row, name)) for name in ("rule", "definition", "feed", "reading", "labels")}
        return msgspec.json.encode(msgspec.structs.replace(row, **named))


def decode(data: bytes) -> Keep:
    """The window that these bytes hold, with the clocks of then. Raises KeptError."""
    try:
        row = _rows.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        raise KeptError(f"no kept window: {type(error).__name__}") from None
    if row.version != VERSION:
        raise KeptError("a kept window of another version")
    if not all(math.isfinite(t) for t in (row.wall, row.clock_s, row.since)):
        raise KeptError("a time that can't be")
    for began, at, count, total in row.slices:
        # Together they say that no time is NaN or without end.
        if not (-TIME_MAX < began <= at <= row.clock_s) or count < 1 or not _is_sum(total):
            raise KeptError("a slice that can't be")
    slices = tuple(Slice(*held) for held in row.slices)
    window = KeptWindow(row.rule, row.definition, row.feed, row.reading, row.labels, row.since, slices)
    return Keep(row.wall, row.clock_s, (window,))


def _is_sum(total: Decimal) -> bool:
    # Nothing else can have so few letters and yet be too much: most are told without taking the number apart.
    text = str(total)
    if len(text) < 20 and "E" not in text:
        return total.is_finite()
    return total.is_finite() and abs(total.adjusted()) <= DIGITS_MAX and len(total.as_tuple().digits) <= DIGITS_MAX


def _plain(value: object) -> object:
    """A lone surrogate is no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return tuple(_plain(inner) for inner in value) if isinstance(value, tuple) else value

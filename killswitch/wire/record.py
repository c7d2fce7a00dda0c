"""Journal records: their bytes, the hash chain over them, and the fold to "what is latched".

A record is one line of JSON, `{"n","wall","kind","body"}`: `kind` is the snake_case name of the record's
class, `body` its fields in the order of the class, EVERY is "every". One value has one encoding. Each row of
the journal carries a link, SHA-256 over the row before and these bytes, so a changed, removed or swapped row
shows. Rows cut off at the very end don't show: nothing in the journal is younger than its last row.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, get_args, get_type_hints

import msgspec

from killswitch.domain import messages
from killswitch.domain.messages import (
    CauseAdded,
    CauseView,
    Commanded,
    HeartArmed,
    LatchedTrip,
    Moved,
    Narrowed,
    Record,
    RecordBody,
    Restored,
    ShadowEnded,
    ShadowTripped,
    Tripped,
    UsedCommand,
    WasReset,
)
from killswitch.domain.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS: Final = "0" * 64
"""What stands before the first row."""

N_MAX: Final = 2**63 - 1
_PLACES_NAMED: Final = 20


class RecordError(Exception):
    """Bytes that are no record. The sentence holds nothing of them."""


class Unreadable(Exception):  # noqa: N818 - the word of the design for it
    """The journal holds rows, and not one of them can be folded."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A record of a newer version: its kind, or some of its fields (`unknown`, as paths), mean nothing here.

    `data` is kept as it was written. `body` is what the fields that are known say; None for an unknown kind,
    and where the unknown field is part of a scope: to leave it out could widen the scope.
    """

    n: int
    wall: float
    kind: str
    data: bytes
    body: RecordBody | None
    unknown: tuple[str, ...]


Kept: TypeAlias = Record | Opaque


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read. `hash` None: it could not be read, nor can it be missed by the row after it."""

    n: int
    wall: float
    kind: str
    data: bytes
    hash: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a journal's chain holds. `first_bad`: the number of the first row that does not fit."""

    ok: bool
    rows: int
    first_bad: int | None = None
    why: str = ""


class _Line(msgspec.Struct, frozen=True):
    n: int
    wall: float
    kind: str
    body: msgspec.Raw


def _kind_of(body: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", body.__name__).lower()


_BODIES: Final[dict[str, type]] = {_kind_of(body): body for body in get_args(RecordBody)}
_NAMES: Final = {body: kind for kind, body in _BODIES.items()}
# messages.py imports Scope for type checkers only, so the hints need to be told of it.
_HINTS: Final = {body: get_type_hints(body, vars(messages), {"Scope": Scope}) for body in _NAMES}
_FOLDED: Final = frozenset(
    _NAMES[body]
    for body in (Tripped, CauseAdded, Commanded, WasReset, Moved, ShadowTripped, ShadowEnded, HeartArmed, Narrowed)
)
_lines: Final = msgspec.json.Decoder(_Line)


# --- bytes -------------------------------------------------------------------------------------------------


def kind_of(record: Record) -> str:
    """The snake_case name that a record's body has in the journal."""
    return _NAMES[type(record.body)]


def encode(record: Record) -> bytes:
    """The bytes of a record: one line, without its end.

    Never fails for what reached us from outside: a lone surrogate becomes "?" and a time that is no number 0.
    """
    line = {"n": record.n, "wall": record.wall, "kind": kind_of(record), "body": record.body}
    try:
        if not math.isfinite(record.wall):
            raise ValueError("no time")  # noqa: TRY301 - msgspec would write null, and nobody could read it
        return msgspec.json.encode(line)
    except (UnicodeEncodeError, ValueError):
        return msgspec.json.encode(_plain(line))


def decode(data: bytes) -> Kept:
    """The record that these bytes hold; `urgent` is not kept. Raises RecordError."""
    line = _line(data)
    known = _BODIES.get(line.kind)
    if known is None:
        return Opaque(line.n, line.wall, line.kind, data, None, ("kind",))
    body, unknown = _body(line)
    if unknown:
        return Opaque(line.n, line.wall, line.kind, data, body, unknown)
    if body is None:
        raise RecordError(f"no {line.kind} record")
    return Record(line.n, line.wall, body)


def renumber(data: bytes, n: int) -> bytes:
    """The same record under another number. Raises RecordError."""
    line = _line(data)
    return msgspec.json.encode({"n": n, "wall": line.wall, "kind": line.kind, "body": line.body})


def read_row(data: bytes) -> Row:
    """A record's number, time and kind beside its bytes, not yet linked. Raises RecordError."""
    line = _line(data)
    return Row(line.n, line.wall, line.kind, data, None)


def _line(data: bytes) -> _Line:
    try:
        line = _lines.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"not a record: {type(error).__name__}") from None
    if not 0 < line.n <= N_MAX:
        raise RecordError("a record number that can't be")
    return line


def _body(line: _Line) -> tuple[RecordBody | None, tuple[str, ...]]:
    """The body and the paths of its unknown fields; None where what is known can't be read."""
    made = _BODIES[line.kind]
    try:
        raw = msgspec.json.decode(line.body)
        values = {name: msgspec.convert(raw[name], hint) for name, hint in _HINTS[made].items() if name in raw}
        body = made(**values)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, KeyError) as error:
        raise RecordError(f"no {line.kind} record: {type(error).__name__}") from None
    unknown = tuple(_unknown(raw, body, ""))
    scoped = any(path.startswith("scope.") for path in unknown)
    return (None if scoped else cast("RecordBody", body)), unknown


def _unknown(raw: object, value: object, path: str) -> Iterable[str]:
    """The paths of keys in `raw` that no field of the dataclass `value` stands for."""
    if not isinstance(raw, dict) or not is_dataclass(value):
        return
    names = {field.name for field in fields(value)}
    for key, inner in raw.items():
        if key in names:
            yield from _unknown(inner, getattr(value, key), f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _plain(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case float():
            return value if math.isfinite(value) else 0.0
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case tuple():
            return [_plain(inner) for inner in value]
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


# --- the chain ---------------------------------------------------------------------------------------------


def link(before: str, data: bytes) -> str:
    """The hash of a row: SHA-256 in hex over the link of the row before (GENESIS at first) and its bytes."""
    return hashlib.sha256(before.encode() + b"\n" + data).hexdigest()


def verify(rows: Iterable[Row]) -> Verdict:
    """Walk the chain. Rows in the order of the journal; stops at the first that doesn't fit."""
    before, last, count = GENESIS, 0, 0
    for row in rows:
        why = _misfit(row, before, last)
        if why:
            return Verdict(ok=False, rows=count, first_bad=row.n, why=f"row {row.n} {why}")
        before, last, count = row.hash or "", row.n, count + 1
    return Verdict(ok=True, rows=count)


def _misfit(row: Row, before: str, last: int) -> str:
    if row.n <= last:
        return f"comes after row {last}"
    if row.hash is None:
        return "can't be read"
    if link(before, row.data) != row.hash:
        return "does not fit the row before it: it was changed, or rows before it were removed or swapped"
    try:
        line = _line(row.data)
    except RecordError:
        return "holds no record"
    if (line.n, line.wall, line.kind) != (row.n, row.wall, row.kind):
        return "says another number, time or kind than its record"
    return ""


# --- the fold ----------------------------------------------------------------------------------------------


def fold(rows: Iterable[Row]) -> Restored:
    """What is latched, which command ids are used, which trips are over. Raises Unreadable.

    Rows before and after a broken one count. What latches is believed even where the chain is broken; what
    ends a trip is not, so a trip whose end can't be read, or doesn't fit the chain, stays latched. Ids of
    trips are never used again, so a trip that was ever reset is over wherever its rows stand.
    """
    folding = _Fold()
    for row in rows:
        folding.take(row)
    return folding.done()


def _used(body: Commanded) -> UsedCommand:
    return UsedCommand(body.id, body.digest, body.accepted, body.reason, body.trip)


class _Fold:
    def __init__(self) -> None:
        self._trips: dict[str, LatchedTrip] = {}
        self._commands: dict[str, UsedCommand] = {}
        self._implied: dict[str, UsedCommand] = {}
        self._ended: set[str] = set()
        self._shadows: set[str] = set()
        self._hearts: dict[tuple[str, str], bool] = {}
        self._narrowed: dict[str, str] = {}
        self._orphans: dict[str, int] = {}
        self._last = 0
        self._last_wall = 0.0
        self._before: str | None = GENESIS  # None: the row before is lost, so the link can't be judged
        self._serial = 0
        self._rows = 0
        self._broken: list[int] = []
        self._newer: list[int] = []
        self._warnings: list[str] = []

    def take(self, row: Row) -> None:
        self._rows += 1
        before, self._before = self._before, row.hash
        self._last = max(self._last, row.n)
        self._last_wall = row.wall or self._last_wall
        try:
            line = _line(row.data)
            body, unknown = self._read(line)
        except RecordError:
            self._broken.append(row.n)
            # It may have been a trip: ids made from the serial must not come twice.
            self._serial += 1
            return
        if unknown:
            self._newer.append(row.n)
            if body is None or isinstance(body, WasReset):
                return  # what more it says may be a condition; the trip stays latched
        match body:
            case Tripped():
                self._trip(body, line.wall)
            case CauseAdded():
                self._cause(body, row.n)
            case Commanded():
                # A repeat is answered like the first time that it was carried out; what was refused before that may
                # be sent again under its id, and says nothing.
                used, held = _used(body), self._commands.get(body.id)
                if held is None or (used.accepted and not held.accepted):
                    self._commands[used.id] = used
            case WasReset():
                self._reset(body, row.n, fits=before is None or link(before, row.data) == row.hash)
            case Moved():
                self._orphan(body.trip, row.n)
            case ShadowTripped() | ShadowEnded():
                self._shadow(body)
            case HeartArmed():
                self._hearts[body.rule, body.feed] = True
            case Narrowed():
                self._narrowed[body.oms] = body.why
            case _:
                pass

    def _read(self, line: _Line) -> tuple[RecordBody | None, tuple[str, ...]]:
        """Only what the fold looks at is decoded whole: lists of 20,000 orders are skipped."""
        if line.kind not in _BODIES:
            return None, ("kind",)
        if line.kind not in _FOLDED:
            return None, ()
        return _body(line)

    def _trip(self, body: Tripped, wall: float) -> None:
        self._serial += 1
        self._imply(body)
        if body.trip not in self._trips:
            self._trips[body.trip] = LatchedTrip(body.trip, body.scope, (body.cause,), body.by, wall, body.command_id)

    def _cause(self, body: CauseAdded, n: int) -> None:
        trip = self._trips.get(body.trip)
        if trip is None:
            self._orphan(body.trip, n)
            return
        causes = {_series(cause): cause for cause in trip.causes}
        causes[_series(body.cause)] = body.cause
        self._trips[body.trip] = replace(trip, causes=tuple(causes.values()))

    def _shadow(self, body: ShadowTripped | ShadowEnded) -> None:
        """It ended with its process at the latest; what is left of it is that its ids are used."""
        self._serial += isinstance(body, ShadowTripped)
        self._shadows.add(body.trip)
        self._imply(body)

    def _imply(self, body: Tripped | WasReset | ShadowTripped | ShadowEnded) -> None:
        """A process killed between a trip and its Commanded: the command was carried out all the same."""
        if body.command_id:
            used = UsedCommand(body.command_id, body.digest, accepted=True, reason="", trip=body.trip)
            self._implied.setdefault(body.command_id, used)

    def _reset(self, body: WasReset, n: int, *, fits: bool) -> None:
        if fits:
            self._ended.add(body.trip)
            self._imply(body)
        else:
            self._warnings.append(
                f"the reset of trip {body.trip} (row {n}) does not fit the hash chain: the trip stays latched"
            )

    def _orphan(self, trip: str, n: int) -> None:
        if trip not in self._trips:
            self._orphans.setdefault(trip, n)

    def done(self) -> Restored:
        if self._rows and len(self._broken) == self._rows:
            raise Unreadable(f"none of the {self._rows} rows of the journal can be read")
        if self._broken:
            self._warnings.append(f"{_rows_in_words(self._broken)} can't be read")
        if self._newer:
            self._warnings.append(f"{_rows_in_words(self._newer)}: written by a newer version")
        self._warnings.extend(
            f"trip {trip} is named in row {n}, but its beginning can't be read: it is not latched"
            for trip, n in self._orphans.items()
            if trip not in self._ended and trip not in self._trips
        )
        return Restored(
            trips=tuple(trip for trip in self._trips.values() if trip.trip not in self._ended),
            commands=tuple((self._implied | self._commands).values()),
            ended=frozenset(self._ended | (self._shadows - self._trips.keys())),
            next_n=self._last + 1,
            serial=self._serial,
            warnings=tuple(self._warnings),
            hearts=tuple(self._hearts),
            narrowed=tuple(self._narrowed.items()),
            last_wall=self._last_wall,
        )


def _series(cause: CauseView) -> tuple[str, messages.Labels]:
    return cause.rule, cause.labels


def _rows_in_words(numbers: list[int]) -> str:
    """Such as "4 rows of the journal (3, 7 to 9)"; the places past the first twenty are counted only."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    places = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    more = len(places) - _PLACES_NAMED
    if more > 0:
        places = [*places[:_PLACES_NAMED], f"{more} more places"]
    count = "1 row" if len(numbers) == 1 else f"{len(numbers)} rows"
    return f"{count} of the journal ({', '.join(places)})"

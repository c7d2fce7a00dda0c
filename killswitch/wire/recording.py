"""A recording of readings: JSON lines <-> the events that reach the rules.

A line says when (`at`, RFC 3339, as the event's adapter stamped it) and what:

- a reading: `reading`, `labels`, `value`, and `feed`; without `feed` it belongs to every feed that gives it;
  `merged`: how many were merged into it while too many waited, and their sum
- a reading that was no value: `reading`, `labels` (null: unknown), `bad` (why), `feed`
- a beat of a feed that gives no reading: `feed`, `beat` ("live" or "retained")
- a link to a feed's source: `feed`, `link` ("up" or "down")
- an OMS session, which proves that a quiet account isn't stale: `oms`, `session`, `saw` ("up", "down",
  "heard", the list "positions" or "orders" of `account`, or "prices" of `instrument` from here on)
- what an OMS's reading is as old as: `oms`, `reading`, `labels`, `rests_on` (the instruments whose prices it
  needs), and where it can't be told `lacks`, why, and `known_s_ago`, when it was known last
- our own loop (`loop`, "stood still" or "goes on"): in between, what had arrived was handled, and nothing judged late;
  at an orderly stop the latter, as its last sign of life
- a start of the daemon (`start`, its name; `armed`: the dead-men that were, as [rule, feed]), and events that are
  missing here (`lost`, how many)

`clock_s` is the monotonic clock at which the rules took it, so that a stepped wall clock moves nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from killswitch.domain.messages import (
    BadReading,
    Beat,
    Event,
    FeedDown,
    FeedUp,
    Heard,
    Listed,
    LoopStood,
    Merged,
    Reading,
    RestsOn,
    SessionDown,
    SessionUp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.domain.messages import Labels, Number

LINE_MAX: Final = 16 * 1024
"""Characters of a line; a reading has some 150."""
TEXT_MAX: Final = 500
DIGITS_MAX: Final = 400

_WHOSE: Final = {"positions": "account", "orders": "account", "prices": "instrument"}
_AT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class RecordingError(ValueError):
    """A line that is none of a recording, or an event that can't be one: a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began(Event):
    """The daemon started: what it knew of readings before is gone, but for the (rule, feed) of armed dead-men."""

    daemon: str
    armed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Event):
    """So many events are not in the recording, here."""

    lost: int


Oms: TypeAlias = SessionUp | SessionDown | Heard | Listed
Recorded: TypeAlias = Reading | BadReading | Beat | FeedUp | FeedDown | Oms | RestsOn | Began | LoopStood | Missing


@dataclass(frozen=True, slots=True)
class Line:
    """One line. A reading without feed has the feed ""."""

    event: Recorded
    clock_s: float | None = None


# --- out ----------------------------------------------------------------------------------------------------


def encode(line: Line) -> str:
    """The line, without its end. Raises RecordingError for a time or a number that can't be written."""
    said = {"at": at_text(line.event.wall)}
    if line.clock_s is not None:
        said["clock_s"] = _float_text(line.clock_s)
    for name, value in _said(line.event).items():
        said[name] = value if name == "value" else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    said["at"] = json.dumps(said["at"])
    # Put together by hand: json would write a Decimal as text, or round it to a float.
    text = "{" + ",".join(f'"{name}":{value}' for name, value in said.items()) + "}"
    if len(text) > LINE_MAX:
        raise RecordingError("the line is too long")
    # A lone surrogate can't be written as UTF-8; escaped it can.
    return text if _is_utf8(text) else text.encode("ascii", "backslashreplace").decode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(event: Recorded) -> dict[str, Any]:
    match event:
        case Reading():
            return _said_of_reading(event)
        case BadReading():
            labels = None if event.labels is None else dict(event.labels)
            return {"feed": event.feed, "reading": event.name, "labels": labels, "bad": event.reason}
        case Beat():
            return {"feed": event.feed, "beat": "retained" if event.retained else "live"}
        case FeedUp():
            return {"feed": event.feed, "link": "up"}
        case FeedDown():
            return {"feed": event.feed, "link": "down"}
        case SessionUp():
            return {"oms": event.oms, "session": event.session, "saw": "up"}
        case SessionDown():
            return {"oms": event.oms, "session": event.session, "saw": "down"}
        case Heard():
            return {"oms": event.oms, "session": event.session, "saw": "heard"}
        case Listed():
            return {"session": event.session, "saw": event.what, _WHOSE[event.what]: event.which}
        case RestsOn():
            told = {"oms": event.oms, "reading": event.name, "labels": dict(event.labels)}
            lacks = {"lacks": event.lacks} if event.lacks else {}
            known = {} if event.known_s_ago is None else {"known_s_ago": event.known_s_ago}
            return told | {"rests_on": list(event.instruments)} | lacks | known
        case Began():
            armed = {"armed": [list(pair) for pair in event.armed]} if event.armed else {}
            return {"start": event.daemon} | armed
        case LoopStood():
            return {"loop": "goes on" if event.over else "stood still"}
        case Missing():
            return {"lost": event.lost}


def _said_of_reading(event: Reading) -> dict[str, Any]:
    said: dict[str, Any] = {"feed": event.feed} if event.feed else {}
    said |= {"reading": event.name, "labels": dict(event.labels), "value": _number_text(event.value)}
    if event.lag_s:
        said["lag_s"] = event.lag_s
    if not event.fresh:
        said["fresh"] = False
    if event.retained:
        said["retained"] = True
    if event.source_at is not None:
        said["source_at"] = event.source_at
    if event.merged is not None:
        held = event.merged
        said["merged"] = {
            "count": held.count,
            "sum": _number_text(held.total),
            "older": held.older,
            "repeated": held.repeated,
        }
    return said


def at_text(wall: float) -> str:
    """RFC 3339 in UTC, to the microsecond. Raises RecordingError."""
    try:
        return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        raise RecordingError("a time that no calendar has") from None


def _number_text(value: Number) -> str:
    """As it was written: 0.1 stays 0.1, 50.10 keeps its zero."""
    text = str(value) if isinstance(value, Decimal) else repr(float(value))
    if not Decimal(text).is_finite() or len(text) > DIGITS_MAX:
        raise RecordingError("a value that is no finite number")
    return text


def _float_text(value: float) -> str:
    return _number_text(value)


# --- in -----------------------------------------------------------------------------------------------------


def decode(text: str) -> Line:
    """One line. Raises RecordingError, whatever the text; unknown and repeated keys are errors."""
    if len(text) > LINE_MAX:
        raise RecordingError("the line is too long")
    try:
        said = json.loads(
            text, object_pairs_hook=_once, parse_float=_decimal, parse_int=_decimal, parse_constant=_no_number
        )
    except RecordingError:
        raise
    except (ValueError, RecursionError):
        raise RecordingError("it is no JSON object") from None
    if not isinstance(said, dict):
        raise RecordingError("it is no JSON object")
    keys = _Keys(said)
    wall = _instant(keys.take("at"))
    clock = keys.take("clock_s", None)
    clock_s = None if clock is None else _float("clock_s", clock)
    kinds = [kind for kind in _KINDS if kind in said]
    if len(kinds) != 1:
        raise RecordingError("it needs exactly one of " + ", ".join(_KINDS))
    event = _KINDS[kinds[0]](keys, wall)
    if keys.left:
        raise RecordingError(f"unknown key: {_quoted(min(keys.left))}")
    return Line(event, clock_s)


class _Keys:
    """The keys of a line, each taken once."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.left = said

    def take(self, key: str, *default: object) -> Any:
        if key in self.left:
            return self.left.pop(key)
        if default:
            return default[0]
        raise RecordingError(f"{key} is missing")

    def text(self, key: str, *default: str) -> str:
        value = self.take(key, *default)
        if not isinstance(value, str) or (not value and not default) or len(value) > TEXT_MAX:
            raise RecordingError(f"{key} must be text")
        return value

    def whole(self, key: str) -> int:
        value = self.take(key)
        if not isinstance(value, Decimal) or not 0 <= value < 10**18 or value != value.to_integral_value():
            raise RecordingError(f"{key} must be a whole number")
        return int(value)


def _reading(keys: _Keys, wall: float) -> Reading:
    value = keys.take("value")
    if not isinstance(value, Decimal):
        raise RecordingError("value must be a number")
    fresh, source_at = keys.take("fresh", True), keys.take("source_at", None)
    retained = keys.take("retained", False)
    if not isinstance(fresh, bool) or not isinstance(retained, bool):
        raise RecordingError("fresh and retained must be true or false")
    return Reading(
        wall=wall,
        feed=keys.text("feed", ""),
        name=keys.text("reading"),
        labels=_labels(keys.take("labels", {})),
        value=value,
        lag_s=_float("lag_s", keys.take("lag_s", Decimal(0))),
        fresh=fresh,
        retained=retained,
        source_at=None if source_at is None else _float("source_at", source_at),
        merged=_merged(keys.take("merged", None)),
    )


def _merged(value: object) -> Merged | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RecordingError("merged must be an object")
    keys = _Keys(value)
    count, older, repeated = keys.whole("count"), keys.whole("older"), keys.whole("repeated")
    total = _decimal(keys.text("sum"))
    if keys.left or not total.is_finite():
        raise RecordingError("merged must be count, sum, older and repeated")
    return Merged(count, total, older, repeated)


def _bad(keys: _Keys, wall: float) -> BadReading:
    labels = keys.take("labels", None)
    return BadReading(
        wall=wall,
        feed=keys.text("feed", ""),
        name=keys.text("reading"),
        labels=None if labels is None else _labels(labels),
        reason=keys.text("bad"),
    )


def _beat(keys: _Keys, wall: float) -> Beat:
    feed, beat = keys.text("feed"), keys.text("beat")
    if beat not in ("live", "retained"):
        raise RecordingError("beat must be live or retained")
    return Beat(wall=wall, feed=feed, retained=beat == "retained")


def _link(keys: _Keys, wall: float) -> FeedUp | FeedDown:
    feed, link = keys.text("feed"), keys.text("link")
    match link:
        case "up":
            return FeedUp(wall=wall, feed=feed)
        case "down":
            return FeedDown(wall=wall, feed=feed, why="recorded")
        case _:
            raise RecordingError("link must be up or down")


def _session(keys: _Keys, wall: float) -> Oms:
    saw, session = keys.text("saw"), keys.whole("session")
    match saw:
        case "positions" | "orders" | "prices":
            return Listed(wall=wall, session=session, what=saw, which=keys.whole(_WHOSE[saw]))
    oms = keys.text("oms")
    match saw:
        case "up":
            return SessionUp(wall=wall, oms=oms, gateway="", session=session)
        case "down":
            return SessionDown(wall=wall, oms=oms, gateway="", session=session, why="recorded")
        case "heard":
            return Heard(wall=wall, oms=oms, session=session)
        case _:
            raise RecordingError("saw must be up, down, heard, positions, orders or prices")


def _rests_on(keys: _Keys, wall: float) -> RestsOn:
    instruments = keys.take("rests_on")
    if not isinstance(instruments, list) or not all(isinstance(i, str) and 0 < len(i) <= 19 for i in instruments):
        raise RecordingError("rests_on must be a list of instruments")
    known = keys.take("known_s_ago", None)
    return RestsOn(
        wall=wall,
        oms=keys.text("oms"),
        name=keys.text("reading"),
        labels=_labels(keys.take("labels")),
        instruments=tuple(sorted(instruments)),
        lacks=keys.text("lacks", ""),
        known_s_ago=None if known is None else _float("known_s_ago", known),
    )


def _began(keys: _Keys, wall: float) -> Began:
    armed = keys.take("armed", [])
    if not isinstance(armed, list) or not all(_is_pair(pair) for pair in armed):
        raise RecordingError("armed must be pairs of a rule and a feed")
    return Began(wall=wall, daemon=keys.text("start"), armed=tuple((rule, feed) for rule, feed in armed))


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)


def _loop(keys: _Keys, wall: float) -> LoopStood:
    said = keys.text("loop")
    if said not in ("stood still", "goes on"):
        raise RecordingError('loop must be "stood still" or "goes on"')
    return LoopStood(wall=wall, over=said == "goes on")


def _missing(keys: _Keys, wall: float) -> Missing:
    return Missing(wall=wall, lost=keys.whole("lost"))


_KINDS: Final[dict[str, Callable[[_Keys, float], Recorded]]] = {
    "value": _reading,
    "bad": _bad,
    "beat": _beat,
    "link": _link,
    "saw": _session,
    "rests_on": _rests_on,
    "start": _began,
    "loop": _loop,
    "lost": _missing,
}
"""A line is of the kind whose key it has."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise RecordingError("a key stands twice")
    return held


def _decimal(text: str) -> Decimal:
    if len(text) > DIGITS_MAX:
        raise RecordingError("a number is too long")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise RecordingError("a number is out of range") from None


def _no_number(_: str) -> NoReturn:
    raise RecordingError("NaN and infinities are no numbers")


def _float(key: str, value: object) -> float:
    if not isinstance(value, Decimal) or not abs(value) < 10**15:
        raise RecordingError(f"{key} must be a number")
    return float(value)


def _labels(value: object) -> Labels:
    """Text as it is, whole numbers in plain decimal, in the order of their names."""
    if not isinstance(value, dict):
        raise RecordingError("labels must be an object")
    held = []
    for name, label in value.items():
        text = label_text(label)
        if text is None or not 0 < len(name) <= TEXT_MAX:
            raise RecordingError(f"label {_quoted(name)} must be text or a whole number")
        held.append((name, text))
    return tuple(sorted(held))


def label_text(value: object) -> str | None:
    """A label as the rules see it: 14 and "14" are one. None where it is neither text nor a whole number."""
    if isinstance(value, str):
        return value if 0 < len(value) <= TEXT_MAX else None
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() and value.as_tuple().exponent == 0 else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _quoted(text: str) -> str:
    return json.dumps(text[:40])


def _instant(value: object) -> float:
    said = _AT.fullmatch(value) if isinstance(value, str) else None
    if said is None:
        raise RecordingError("at must be a time with a zone, such as 2026-03-01T09:30:00.25Z")
    day, clock, fraction, zone = said.groups()
    # Python 3.11 reads up to six digits of a second; what is finer than that no reading needs.
    micros = f"{(fraction or '.0')[:7]:0<7}"
    try:
        return datetime.fromisoformat(f"{day}T{clock}{micros}{zone.upper().replace('Z', '+00:00')}").timestamp()
    except (ValueError, OverflowError):
        raise RecordingError("at is a time that no calendar has") from None

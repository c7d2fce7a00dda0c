"""A feed's payload -> Reading, BadReading or Beat. Whatever the bytes, nothing else comes out.

`read` takes a delivery over MQTT, which is one reading; `read_stream` a message of a WebSocket, which may hold
several, or none: acknowledgements and heartbeats come the same way.

A number is a JSON number or a string that is exactly one JSON number. NaN, infinities, text, booleans and
null are no numbers: they make a BadReading, which a rule's on_bad judges; none of them is ever a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from killswitch.domain.messages import BadReading, Beat, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from killswitch.domain.messages import Number

Reason: TypeAlias = Literal[
    "too_long",  # more bytes than a reading has
    "not_json",
    "repeated_key",  # an object has a key twice: which of the two is meant nobody knows (RFC 8259, section 4)
    "no_value",  # the path leads nowhere
    "not_a_number",  # text, a boolean, null, NaN, an infinity
    "out_of_range",  # more digits or a larger power of ten than any reading has
    "no_label",  # a label's path leads nowhere, or the topic doesn't have its level
    "bad_label",  # neither text of bounded length nor a whole number
    "bad_time",
]

SIZE_MAX: Final = 64 * 1024
"""Bytes of a payload: a reading is some hundred."""
STREAM_SIZE_MAX: Final = 2**20
"""Bytes of a WebSocket message, which may hold a whole desk's readings."""
STREAM_READINGS_MAX: Final = 10_000
"""Readings in one message; what follows them is one bad reading."""
NAMES_MAX: Final = 32
"""Names in a path."""
LABEL_MAX: Final = 200
DIGITS_MAX: Final = 64
POWER_MAX: Final = 300
"""Powers of ten, either way: within what a float holds, and short enough to write out."""

_EXACT: Final = ("position", "hold", "equity", "price")  # money is Decimal; open_* too
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INSTANT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_MS_MAX: Final = 253_402_300_799_999  # the end of the year 9999
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LABEL: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MISSING: Final = object()


class _Bad(Exception):  # noqa: N818 it never leaves this module
    """Why a payload is no reading; `reason` is of the closed list."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class ShapeError(ValueError):
    """A feed's topic or a path that can't be: a sentence for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A JSON number as it was written: whether it becomes exact is decided by the reading's name."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedShape:
    """How one feed's payloads are read.

    `topic`: an MQTT topic in which {label} stands for one level. `value`: a dotted path into the payload;
    None: the payload itself is the number. `labels`: label -> path. `time`: the path of the source's own
    time (RFC 3339 or milliseconds since 1970); None: arrival counts. Raises ShapeError.
    """

    name: str
    topic: str
    reading: str
    value: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None

    def __post_init__(self) -> None:
        levels = self.topic.split("/")
        named = [level[1:-1] for level in levels if _LABEL.fullmatch(level)]
        if not self.topic or any(set(level) & set("+#{}\0") for level in levels if not _LABEL.fullmatch(level)):
            raise ShapeError("a topic holds no wildcards; {label} stands for one whole level")
        if len(set(named)) < len(named) or set(named) & self.labels.keys():
            raise ShapeError("each label has one place: a level of the topic or a path")
        if self.value is None and (self.labels or self.time is not None):
            raise ShapeError("labels and time by path need a value by path")
        _check_paths(self.value, self.time, *self.labels.values())

    @property
    def subscription(self) -> str:
        """The topic filter: + for each label."""
        return "/".join("+" if _LABEL.fullmatch(level) else level for level in self.topic.split("/"))

    def matches(self, topic: str) -> bool:
        """Whether a delivery's topic is one of this feed's."""
        wanted, levels = self.topic.split("/"), topic.split("/")
        return len(wanted) == len(levels) and all(
            want == have or _LABEL.fullmatch(want) is not None for want, have in zip(wanted, levels, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartShape:
    """A feed whose messages are beats, whatever they say. `topic`: one MQTT topic. Raises ShapeError."""

    name: str
    topic: str

    def __post_init__(self) -> None:
        if not self.topic or set(self.topic) & set("+#{}\0"):
            raise ShapeError("a heart has one topic, without wildcards and labels: another one's beats would hide it")

    @property
    def subscription(self) -> str:
        return self.topic

    def matches(self, topic: str) -> bool:
        """Whether a delivery's topic is this feed's."""
        return topic == self.topic


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeart:
    """A WebSocket feed whose messages are beats, whatever they say."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamShape:
    """How the messages of one WebSocket feed are read. Paths as in a FeedShape, all from the top of a message.

    Where the path of the value meets a list, each of its elements makes a reading of its own. A label's path and
    the time's go through the same elements as far as they go the same way: with value "data.positions.margin"
    the label "data.positions.acct" is of the element that the margin is in, and "data.venue" of all of them. A
    list that the value's path doesn't meet is no label, and neither is a list right inside a list a reading.
    Raises ShapeError.
    """

    name: str
    reading: str
    value: str
    labels: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None

    def __post_init__(self) -> None:
        _check_paths(self.value, self.time, *self.labels.values())


def _check_paths(*paths: str | None) -> None:
    for path in paths:
        if path is not None and not all(path.split(".")):
            raise ShapeError("a path is names with dots between them")
        if path is not None and path.count(".") >= NAMES_MAX:
            raise ShapeError(f"a path has at most {NAMES_MAX} names")


def read(
    shape: FeedShape | HeartShape, topic: str, payload: bytes, *, retained: bool, wall: float
) -> tuple[Reading | BadReading | Beat, ...]:
    """One delivery of a feed. An empty payload says that a retained reading was cleared: nothing comes of it.

    A heart's is a beat even so: many beat with nothing in it.

    `lag_s` is arrival minus source time, never below 0: a source whose clock is ahead makes nothing younger.
    """
    if isinstance(shape, HeartShape):
        return (Beat(wall=wall, feed=shape.name, retained=retained),)
    if not payload:
        return ()
    labels: dict[str, str] = {}
    try:
        _topic_labels(shape, topic, labels)
        said = _parse(payload, SIZE_MAX)
        _payload_labels(shape, said, labels)
        value = _number(said if shape.value is None else _at(said, shape.value.split("."), "no_value"), shape.reading)
        source_at = None if shape.time is None else _instant(_at(said, shape.time.split("."), "bad_time"))
    except _Bad as bad:
        return (_bad(shape, labels, bad.reason, wall),)
    # Whoever connects gets it again and again: without a time of its own nobody knows how old it is.
    fresh = source_at is not None or not retained
    return (_good(shape, labels, value, source_at, wall, fresh=fresh, retained=retained),)


def read_stream(
    shape: StreamShape | StreamHeart, message: bytes, *, wall: float
) -> Iterator[Reading | BadReading | Beat]:
    """One message of a WebSocket, reading by reading: the caller may breathe between them.

    A message in which neither the value nor any label is found isn't the feed's: an acknowledgement, a
    heartbeat. Nothing comes of it, and a feed that gives nothing else falls silent. An element of a list that
    the value's path leads to is meant as a reading, and is a bad one when it lacks them.
    """
    if isinstance(shape, StreamHeart):
        yield Beat(wall=wall, feed=shape.name)
        return
    try:
        said = _parse(message, STREAM_SIZE_MAX)
    except _Bad as bad:
        yield _bad(shape, {}, bad.reason, wall)
        return
    names = shape.value.split(".")
    for count, (trail, listed) in enumerate(_trails((said,), names, listed=False)):
        if count >= STREAM_READINGS_MAX:
            yield _bad(shape, {}, "too_long", wall)
            return
        found = len(trail) > len(names) or any(_is_beside(trail, names, path) for path in shape.labels.values())
        if found or listed:
            yield _of_element(shape, trail, names, wall)


def _trails(trail: tuple[object, ...], names: list[str], *, listed: bool) -> Iterator[tuple[tuple[object, ...], bool]]:
    """Each way that a path can go: what stands after none of its names, after one, …, as far as it leads.

    With it whether the way goes through a list below the top of the message.
    """
    here, done = trail[-1], len(trail) - 1
    is_list = isinstance(here, list)
    for element in here if isinstance(here, list) else (here,):
        chosen = (*trail[:-1], element)
        through = listed or (is_list and done > 0)
        if done < len(names) and isinstance(element, dict) and names[done] in element:
            yield from _trails((*chosen, element[names[done]]), names, listed=through)
        else:
            yield chosen, through


def _of_element(shape: StreamShape, trail: tuple[object, ...], names: list[str], wall: float) -> Reading | BadReading:
    labels: dict[str, str] = {}
    try:
        for name, path in shape.labels.items():
            labels[name] = _label(_beside(trail, names, path, "no_label"))
        value = _number(_beside(trail, names, shape.value, "no_value"), shape.reading)
        source_at = None if shape.time is None else _instant(_beside(trail, names, shape.time, "bad_time"))
    except _Bad as bad:
        return _bad(shape, labels, bad.reason, wall)
    return _good(shape, labels, value, source_at, wall, fresh=True)


def _beside(trail: tuple[object, ...], along: list[str], path: str, reason: Reason) -> object:
    """Where another path leads: through the same elements as far as it goes the same way."""
    names, same = path.split("."), 0
    while same < min(len(names), len(along)) and names[same] == along[same]:
        same += 1
    if same >= len(trail):
        raise _Bad(reason)
    return _at(trail[same], names[same:], reason)


def _is_beside(trail: tuple[object, ...], along: list[str], path: str) -> bool:
    try:
        _beside(trail, along, path, "no_label")
    except _Bad:
        return False
    return True


def _bad(shape: FeedShape | StreamShape, labels: dict[str, str], reason: Reason, wall: float) -> BadReading:
    return BadReading(wall=wall, feed=shape.name, name=shape.reading, labels=_sorted(labels) or None, reason=reason)


def _good(
    shape: FeedShape | StreamShape,
    labels: dict[str, str],
    value: Number,
    source_at: float | None,
    wall: float,
    *,
    fresh: bool,
    retained: bool = False,
) -> Reading:
    return Reading(
        wall=wall,
        feed=shape.name,
        name=shape.reading,
        labels=_sorted(labels),
        value=value,
        lag_s=0.0 if source_at is None else max(0.0, wall - source_at),
        fresh=fresh,
        retained=retained,
        source_at=source_at,
    )


def _sorted(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _parse(payload: bytes, size_max: int) -> object:
    if len(payload) > size_max:
        raise _Bad("too_long")
    try:
        said = _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _Bad("not_json") from None
    # The decoder takes the last of two equal keys without a word. Each key of an object has a colon outside of strings.
    if _STRING.sub(b"", payload).count(b":") != _keys(said):
        raise _Bad("repeated_key")
    return said


_decoder: Final = msgspec.json.Decoder(float_hook=_Text)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _keys(said: object) -> int:
    """How many keys all objects have together."""
    count, left = 0, [said]
    while left:
        match left.pop():
            case dict() as held:
                count += len(held)
                left.extend(held.values())
            case list() as held:
                left.extend(held)
            case _:
                pass
    return count


def _at(said: object, names: Iterable[str], reason: Reason) -> object:
    for name in names:
        said = said.get(name, _MISSING) if isinstance(said, dict) else _MISSING
        if said is _MISSING:
            raise _Bad(reason)
    return said


def _topic_labels(shape: FeedShape, topic: str, labels: dict[str, str]) -> None:
    if not shape.matches(topic):
        raise _Bad("no_label")
    for want, have in zip(shape.topic.split("/"), topic.split("/"), strict=True):
        if named := _LABEL.fullmatch(want):
            labels[named[1]] = _label(have)


def _payload_labels(shape: FeedShape, said: object, labels: dict[str, str]) -> None:
    for name, path in shape.labels.items():
        labels[name] = _label(_at(said, path.split("."), "no_label"))


def _label(value: object) -> str:
    """Text as it is, a whole number in plain decimal; 14.0 is bad, so that 14 and 14.0 are no two series."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**20:
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= LABEL_MAX or _UNSAFE.search(value):
        raise _Bad("bad_label")
    return value


def _number(value: Any, reading: str) -> Number:
    """Decimal for what is money, else float; exact as it was written."""
    match value:
        case bool():
            raise _Bad("not_a_number")
        case int():
            if value.bit_length() > 4 * DIGITS_MAX:  # checked first: writing out a long one takes long
                raise _Bad("out_of_range")
            text = str(value)
        case _Text(text=text):
            pass
        case str() as text if len(text) <= LABEL_MAX and _NUMBER.fullmatch(text):
            pass
        case _:
            raise _Bad("not_a_number")
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent that Decimal itself refuses
        raise _Bad("out_of_range") from None
    if not exact.is_finite() or len(exact.as_tuple().digits) > DIGITS_MAX:
        raise _Bad("out_of_range")
    if not exact:
        exact = Decimal(0)
    elif abs(exact.adjusted()) > POWER_MAX:
        raise _Bad("out_of_range")
    if reading in _EXACT or reading.startswith("open_"):
        return exact
    return float(exact)


def _instant(value: object) -> float:
    """Seconds since 1970 from RFC 3339 text with a zone, or from milliseconds."""
    if isinstance(value, str) and (said := _INSTANT.fullmatch(value)):
        day, clock, fraction, zone = said.groups()
        try:
            whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
        except ValueError:
            raise _Bad("bad_time") from None
        return whole.timestamp() + float(fraction or 0)
    if isinstance(value, _Text):
        try:
            value = float(value.text)
        except ValueError:
            raise _Bad("bad_time") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MS_MAX:
        return value / 1000
    raise _Bad("bad_time")

"""A feed's payload -> Reading or BadReading. Whatever the bytes, nothing else comes out.

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

from killswitch.domain.messages import BadReading, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.domain.messages import Number

Reason: TypeAlias = Literal[
    "too_long",  # more bytes than a reading has
    "not_json",
    "no_value",  # the path leads nowhere
    "not_a_number",  # text, a boolean, null, NaN, an infinity
    "out_of_range",  # more digits or a larger power of ten than any reading has
    "no_label",  # a label's path leads nowhere, or the topic doesn't have its level
    "bad_label",  # neither text of bounded length nor a whole number
    "bad_time",
]

SIZE_MAX: Final = 64 * 1024
"""Bytes of a payload: a reading is some hundred."""
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
        for path in (self.value, self.time, *self.labels.values()):
            if path is not None and not all(path.split(".")):
                raise ShapeError("a path is names with dots between them")

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


def read(
    shape: FeedShape, topic: str, payload: bytes, *, retained: bool, wall: float
) -> tuple[Reading | BadReading, ...]:
    """One delivery of a feed. An empty payload says that a retained reading was cleared: nothing comes of it.

    `lag_s` is arrival minus source time, never below 0: a source whose clock is ahead makes nothing younger.
    """
    if not payload:
        return ()
    labels: dict[str, str] = {}
    try:
        _topic_labels(shape, topic, labels)
        said = _parse(payload)
        _payload_labels(shape, said, labels)
        value = _number(said if shape.value is None else _at(said, shape.value, "no_value"), shape.reading)
        source_at = None if shape.time is None else _instant(_at(said, shape.time, "bad_time"))
    except _Bad as bad:
        return (
            BadReading(
                wall=wall,
                feed=shape.name,
                name=shape.reading,
                labels=_sorted(labels) or None,
                reason=bad.reason,
            ),
        )
    return (
        Reading(
            wall=wall,
            feed=shape.name,
            name=shape.reading,
            labels=_sorted(labels),
            value=value,
            lag_s=0.0 if source_at is None else max(0.0, wall - source_at),
            # Whoever connects gets it again and again: without a time of its own nobody knows how old it is.
            fresh=source_at is not None or not retained,
            source_at=source_at,
        ),
    )


def _sorted(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _parse(payload: bytes) -> object:
    if len(payload) > SIZE_MAX:
        raise _Bad("too_long")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _Bad("not_json") from None


_decoder: Final = msgspec.json.Decoder(float_hook=_Text)


def _at(said: object, path: str, reason: Reason) -> object:
    for name in path.split("."):
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
        labels[name] = _label(_at(said, path, "no_label"))


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

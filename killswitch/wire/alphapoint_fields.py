"""Reading JSON of a dialect that is only nearly known: keys in any case, enums as int or name, ids as text.

Every function here takes what came from outside and gives a checked value or None. None means "missing or
unreadable"; what that implies is the caller's to say. Nothing raises but `load`, and it ProtocolError only.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from killswitch.wire.frame import ProtocolError

ID_MAX: Final = 2**63 - 1
TEXT_MAX: Final = 200
"""Characters of a text from outside that are kept: enough for a person, too few to flood a journal."""

DIGITS_MAX: Final = 60
EXPONENT_MAX: Final = 40
"""A number beyond these isn't money. v4 prints 28 fractional digits and a sentinel of 29 digits."""

NO_NUMBER: Final = (Decimal("9223372036.854775807"), Decimal(79228162514264337593543950335))
"""How a v2 and a v4 server write "there is no such number": the highest that their types hold."""
_NEARLY: Final = Decimal("1e-12")
"""Of a sentinel: so much a server that prints it through a float may be off."""

_UNREADABLE: Final = object()


def exactly(text: str) -> object:
    """A JSON number with a point or an exponent, never through a float: positions carry up to 28 digits.

    For a decoder's float_hook; what no Decimal can hold gives something that no reader here takes.
    """
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        return _UNREADABLE


_decoder = msgspec.json.Decoder(float_hook=exactly)


def load(text: str) -> Any:
    """The JSON of a payload; numbers are int or Decimal. Raises ProtocolError for all else."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolError(f"a payload that is no JSON: {type(error).__name__}") from None


class Fields:
    """An object's fields by name, whatever the case of its keys ("usually not important", says the vendor).

    A key that stands there twice in different cases is unreadable: it can't be known which one is meant.
    """

    __slots__ = ("_values",)

    def __init__(self, row: dict[str, Any]) -> None:
        values: dict[str, Any] = {}
        for key, value in row.items():
            name = key.lower()
            values[name] = value if name not in values else _UNREADABLE
        self._values = values

    def get(self, *names: str) -> Any:
        """The value of the first of these lower-case names that is there; None where none is."""
        for name in names:
            value = self._values.get(name)
            if value is not None:
                return value
        return None

    def has(self, name: str) -> bool:
        """The key is there, whatever its value."""
        return name in self._values


def as_int(value: object) -> int | None:
    """An int64 from a number without a fraction or a string of digits; a bool is none."""
    match value:
        case bool():
            return None
        case int():
            found = value
        case Decimal() if abs(value.adjusted()) <= EXPONENT_MAX and value == value.to_integral_value():
            found = int(value)
        case str() if len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
            found = int(value)
        case _:
            return None
    return found if -ID_MAX <= found <= ID_MAX else None


def as_id(value: object) -> int | None:
    """An id in 1..2**63-1. 0 is "nobody", "not given" or "all" somewhere in every dialect: never an id."""
    found = as_int(value)
    return found if found is not None and found > 0 else None


def as_bool(value: object) -> bool | None:
    """True or false; LogOut prints the string "true"."""
    match value:
        case bool():
            return value
        case str() if value.lower() in {"true", "false"}:
            return value.lower() == "true"
        case _:
            return None


def as_decimal(value: object) -> Decimal | None:
    """An exact number, from JSON or from a string that is one; NaN, infinity and the immense are none."""
    match value:
        case bool():
            return None
        case int():
            # An int of thousands of digits can't even be printed; Decimal(int) itself has no limit.
            found = Decimal(value) if value.bit_length() <= 4 * DIGITS_MAX else None
        case Decimal():
            found = value
        case str() if 0 < len(value) <= DIGITS_MAX + 10 and value.isascii() and "_" not in value:
            try:
                found = Decimal(value)
            except InvalidOperation:
                found = None
        case _:
            found = None
    if found is None or not found.is_finite():
        return None
    _, digits, exponent = found.as_tuple()
    assert isinstance(exponent, int)  # it is a letter only for what isn't finite
    return found if len(digits) <= DIGITS_MAX and abs(exponent) <= EXPONENT_MAX else None


def as_positive(value: object) -> Decimal | None:
    """A price, or a quantity that was traded: above 0. 0 and the sentinels say that there is none."""
    found = as_decimal(value)
    return found if found is not None and found > 0 and not _means_none(found) else None


def as_quantity(value: object) -> Decimal | None:
    """What is left of an order: 0 or more."""
    found = as_decimal(value)
    return found if found is not None and found >= 0 and not _means_none(found) else None


def _means_none(found: Decimal) -> bool:
    return found > 9_000_000_000 and any(abs(found - none) <= none * _NEARLY for none in NO_NUMBER)


def as_text(value: object) -> str:
    """One printable line, shortened; "" for null, for "" and for what is no text."""
    if not isinstance(value, str):
        return ""
    line = "".join(c if c.isprintable() else " " for c in value[: TEXT_MAX + 1]).strip()
    return line if len(line) <= TEXT_MAX else line[:TEXT_MAX] + "…"

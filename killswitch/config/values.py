"""Single values of the configuration: each check takes what the file or the environment holds, and returns the
value or raises a sentence. No sentence repeats the input: a secret may stand in the wrong place.

The environment has text only. `EnvText` marks it, so that "3" is a number there and an error in the file.
"""

from __future__ import annotations

import itertools
import json
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainValidator
from pydantic_core import PydanticCustomError

from killswitch.domain.scope import EVERY, ID_MAX, Every
from killswitch.domain.settings import Label

# A longer wait is a slip of the unit, and beyond some centuries timers overflow.
SECONDS_MAX: Final = 366 * 86_400
DIGITS_MAX: Final = 64
POWER_MAX: Final = 300
"""Digits and powers of ten of a limit: what a reading can have (wire/feed.py), so that comparing stays cheap."""

MESSAGES_MAX: Final = 1000
MESSAGE_MAX: Final = 65_536

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,30})")
# Control characters, surrogates and marks that turn the direction of writing: none belongs in a setting.
UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class EnvText(str):
    """Text that came from the environment."""

    __slots__ = ()


class Secret(str):
    """A secret. Its repr hides it, so that no log line or traceback of a value that holds it shows it.

    `str(secret)` is the plain text, for the one place that sends it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(hidden)"


def wrong(sentence: str) -> PydanticCustomError:
    """What a check raises. The sentence must not hold the input."""
    return PydanticCustomError("wrong", sentence)


def is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_label(value: object) -> bool:
    return isinstance(value, str) and _LABEL.fullmatch(value) is not None


def is_line(text: str) -> bool:
    """One line of bounded length, without control characters."""
    return not UNSAFE.search(text) and len(text) <= 1000


# --- text ---------------------------------------------------------------------------------------------------


def _name(value: object) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise wrong("it must be a name: 1 to 40 of A-Z a-z 0-9 _ -")
    return str(value)


def label_name(value: object) -> str:
    """A label's name; a topic's {label} has the same letters."""
    if not isinstance(value, str) or not is_label(value):
        raise wrong("a label's name is 1 to 40 of A-Z a-z 0-9 _ and doesn't begin with a digit")
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not is_line(value):
        raise wrong("it must be text: one line, at most 1000 characters")
    return str(value)


def _said(value: object) -> str:
    text = _text(value)
    if not text.strip():
        raise wrong("it must not be empty")
    return text


def _path_in_json(value: object) -> str:
    text = _said(value)
    if not all(text.split(".")):
        raise wrong("a path is names with dots between them, such as var.value")
    return text


def _label_value(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ID_MAX:
        return str(value)
    if not isinstance(value, str) or not value or UNSAFE.search(value) or len(value) > 200:
        raise wrong("a label is text or a whole number without sign")
    return str(value)


def where(value: object) -> tuple[tuple[str, str], ...]:
    """A table label -> text, as sorted pairs; integers become plain decimal."""
    if not isinstance(value, dict):
        raise wrong("it must be a table of labels, such as { product = 'BTC' }")
    return tuple(sorted((label_name(k), _label_value(v)) for k, v in value.items()))


def label_paths(value: object) -> tuple[tuple[str, str], ...]:
    """A table label -> path in the payload, as sorted pairs."""
    if not isinstance(value, dict):
        raise wrong("it must be a table label = path, such as { instrument = 'inst' }")
    return tuple(sorted((label_name(k), _path_in_json(v)) for k, v in value.items()))


Match = str | tuple[tuple[str, str | int | bool | Decimal], ...] | None


def match(value: object) -> Match:
    """Text that is the whole payload, or a table of fields that must be equal, as sorted pairs."""
    if isinstance(value, str):
        if not value:
            raise wrong("it must not be empty: an empty payload never presses")
        return str(value)
    if not isinstance(value, dict) or not value:
        raise wrong("it must be text (the whole payload) or a table of fields that must be equal")
    for field in value.values():
        if not isinstance(field, str | int | Decimal) or (isinstance(field, Decimal) and not field.is_finite()):
            raise wrong("each field must be text, a number, true or false")
    return tuple(sorted((str(k), v) for k, v in value.items()))


# --- numbers ------------------------------------------------------------------------------------------------


def _number(value: object) -> int | Decimal | None:
    """A finite number as it was written; from the environment as text. None: it is none."""
    if isinstance(value, EnvText):
        try:
            number = Decimal(value) if value.isascii() and len(value) <= DIGITS_MAX else None
        except InvalidOperation:
            return None
        return number if number is not None and number.is_finite() else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _whole(value: object) -> int | None:
    if isinstance(value, EnvText):
        return int(value) if _INTEGER.fullmatch(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_seconds(value: object) -> float | None:
    """Seconds (or milliseconds) as a float where they are within bounds and not negative."""
    number = _number(value)
    if number is None or not 0 <= number <= SECONDS_MAX * 1000:
        return None
    return float(number)


def _seconds(value: object) -> float:
    seconds = as_seconds(value)
    if seconds is None or not 0 < seconds <= SECONDS_MAX:
        raise wrong("it must be a number of seconds above 0, and at most a year")
    return seconds


def _seconds_or_none(value: object) -> float:
    seconds = as_seconds(value)
    if seconds is None or seconds > SECONDS_MAX:
        raise wrong("it must be a number of seconds, 0 or more, and at most a year")
    return seconds


def _milliseconds(value: object) -> float:
    seconds = as_seconds(value)
    if not seconds:
        raise wrong("it must be a number of milliseconds above 0, and at most a year")
    return seconds


def _count(value: object) -> int:
    number = _whole(value)
    if number is None or not 1 <= number <= 1_000_000:
        raise wrong("it must be a whole number from 1 to 1000000")
    return number


def _id(value: object) -> int:
    if (number := _whole(value)) is None or not 0 < number <= ID_MAX:
        raise wrong("it must be an id: a whole number above 0, without quotes")
    return number


def _flag(value: object) -> bool:
    if isinstance(value, EnvText):
        known = {"true": True, "false": False}.get(value.lower())
        if known is not None:
            return known
    if not isinstance(value, bool):
        raise wrong("it must be true or false")
    return value


def _limit(value: object) -> Decimal:
    number = _number(value)
    if number is None:
        raise wrong("a limit must be a finite number; nan and inf limit nothing")
    exact = Decimal(number)
    if len(exact.as_tuple().digits) > DIGITS_MAX or (exact and abs(exact.adjusted()) > POWER_MAX):
        raise wrong(f"a limit has at most {DIGITS_MAX} digits and powers of ten up to {POWER_MAX}")
    return exact


def _fractions(value: object) -> tuple[Decimal, ...]:
    if not isinstance(value, list):
        raise wrong("it must be a list of fractions of the limit, such as [0.5, 0.9]")
    held = [Decimal(number) for one in value if (number := _number(one)) is not None]
    if len(held) < len(value) or any(not 0 < part < 1 for part in held):
        raise wrong("each must be a fraction of the limit: a number above 0 and below 1")
    if any(len(part.as_tuple().digits) > DIGITS_MAX or part.adjusted() < -POWER_MAX for part in held):
        raise wrong(f"a fraction has at most {DIGITS_MAX} digits and powers of ten up to {POWER_MAX}")
    if any(later <= part for part, later in itertools.pairwise(held)):
        raise wrong("they must ascend")
    return tuple(held)


def _most(value: object) -> Decimal:
    limit = _limit(value)
    if limit < 0:
        raise wrong("it must be 0 or more")
    return limit


def _above_0(value: object) -> Decimal:
    limit = _limit(value)
    if limit <= 0:
        raise wrong("it must be above 0")
    return limit


# --- scopes -------------------------------------------------------------------------------------------------


def _part(value: object) -> int | Every:
    if value == "every":
        return EVERY
    if isinstance(value, str) and value.startswith("{"):
        raise wrong("a {label} can stand in a rule's scope only")
    try:
        return _id(value)
    except PydanticCustomError:
        raise wrong('it must be an id (a whole number above 0, without quotes) or "every"') from None


def _template_part(value: object) -> int | Every | Label:
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        return Label(label_name(value[1:-1]))
    try:
        return _part(value)
    except PydanticCustomError:
        raise wrong('it must be an id (a whole number above 0, without quotes), "every" or a "{label}"') from None


# --- lists and choices --------------------------------------------------------------------------------------


def _accounts(value: object) -> tuple[object, ...]:
    """Nothing in it means that they are to be discovered."""
    if isinstance(value, str) and value == "discover":
        return ()
    if not isinstance(value, list) or not value:
        raise wrong('it must be a list of ids, not empty: all accounts, on your word; or "discover"')
    return tuple(value)


def _messages(value: object) -> tuple[str, ...]:
    """Text messages; each may have several lines, since it is sent as it stands."""
    if not isinstance(value, list) or len(value) > MESSAGES_MAX:
        raise wrong(f"it must be a list of at most {MESSAGES_MAX} texts")
    for text in value:
        if not isinstance(text, str) or not 0 < len(text) <= MESSAGE_MAX or re.search("[\x00\ud800-\udfff]", text):
            raise wrong(f"each message must be text of 1 to {MESSAGE_MAX} characters")
    return tuple(value)


def one_of(*choices: object, why: str = "") -> PlainValidator:
    """A validator for a closed choice; `why` follows the sentence. `True` is not 1 and 0 is not `False` here."""
    shown = " or ".join(json.dumps(choice) for choice in choices)

    def check(value: object) -> object:
        seen = value
        if isinstance(value, EnvText):
            seen = {json.dumps(c).strip('"'): c for c in choices}.get(value)
        for choice in choices:
            if type(seen) is type(choice) and seen == choice:
                return choice
        raise wrong(f"it must be {shown}{why}")

    return PlainValidator(check)


Name = Annotated[str, PlainValidator(_name)]
Text = Annotated[str, PlainValidator(_text)]
Said = Annotated[str, PlainValidator(_said)]
PathInJson = Annotated[str, PlainValidator(_path_in_json)]
Messages = Annotated[tuple[str, ...], PlainValidator(_messages)]
Where = Annotated[tuple[tuple[str, str], ...], PlainValidator(where)]
LabelPaths = Annotated[tuple[tuple[str, str], ...], PlainValidator(label_paths)]
Matching = Annotated[Match, PlainValidator(match)]
Seconds = Annotated[float, PlainValidator(_seconds)]
SecondsOrNone = Annotated[float, PlainValidator(_seconds_or_none)]
Milliseconds = Annotated[float, PlainValidator(_milliseconds)]
Count = Annotated[int, PlainValidator(_count)]
Id = Annotated[int, PlainValidator(_id)]
Flag = Annotated[bool, PlainValidator(_flag)]
Limit = Annotated[Decimal, PlainValidator(_limit)]
Most = Annotated[Decimal, PlainValidator(_most)]
Above0 = Annotated[Decimal, PlainValidator(_above_0)]
Fractions = Annotated[tuple[Decimal, ...], PlainValidator(_fractions)]
Part = Annotated[int | Every, PlainValidator(_part)]
TemplatePart = Annotated[int | Every | Label, PlainValidator(_template_part)]
Accounts = Annotated[tuple[Id, ...], BeforeValidator(_accounts)]

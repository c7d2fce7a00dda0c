"""Mistakes in the configuration: their places as a person writes them, and plain sentences for pydantic's.

A place is `daemon.name`, `oms "prime".accounts[1]` or `rule "btc".scope.account`; a table without a usable
name is counted from 0, as `rule[2]`. Names that break the rules for names are not repeated anywhere.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.config.models import ARRAYS, ENV_PREFIX, MODELS, RULE_KINDS, SINGLE, Tables, keys_of
from killswitch.config.values import EnvText, is_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

Loc = tuple[str | int, ...]
Raw = dict[str, object]
"""What the sources hold, merged, before anything was checked."""

_FEED_KINDS: Final = ("oms", "mqtt", "websocket")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ENV_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,100}")


class ConfigError(Exception):
    """What is wrong with the configuration: each mistake a sentence with its place; nothing was changed."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `loc`: the keys and indexes from the top."""

    loc: Loc
    sentence: str


def rows_of(raw: Mapping[str, object], array: str) -> list[Raw]:
    """The tables of an array; what is no table stands as an empty one, so that the indexes hold."""
    rows = raw.get(array)
    return [row if isinstance(row, dict) else {} for row in rows] if isinstance(rows, list) else []


def _key(part: str | int) -> str:
    # A key can be quoted text of any kind, and somebody's secret: what doesn't look like a key isn't shown.
    return part if isinstance(part, str) and _KEY.fullmatch(part) else "(a key that is no plain word)"


def place(loc: Loc, raw: Mapping[str, object]) -> str:
    """A place in words; a single setting that came from the environment names its variable."""
    if not loc:
        return "the configuration"
    head, rest = _key(loc[0]), loc[1:]
    if head in ARRAYS and rest and isinstance(rest[0], int):
        rows = rows_of(raw, head)
        name = rows[rest[0]].get("name") if rest[0] < len(rows) else None
        same = [row for row in rows if row.get("name") == name]
        head += f' "{name}"' if is_name(name) and len(same) == 1 else f"[{rest[0]}]"
        rest = rest[1:]
    words = head + "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in rest)
    section = raw.get(loc[0]) if isinstance(loc[0], str) else None
    if len(loc) > 1 and isinstance(section, dict) and isinstance(section.get(loc[1]), EnvText):
        words += f" ({ENV_PREFIX}{str(loc[0]).upper()}__{str(loc[1]).upper()})"
    return words


def probably(key: str, known: tuple[str, ...]) -> str:
    """An unknown key's sentence, with the known one that is close to it."""
    close = difflib.get_close_matches(key.lower()[:100], known, n=1, cutoff=0.7)
    return f"unknown key; did you mean {close[0]}?" if close else "unknown key"


def of_shape(error: ValidationError, raw: Mapping[str, object]) -> list[Mistake]:
    """The findings of pydantic in our words; no input among them."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        loc, words = _untagged(item["loc"])
        found.append(Mistake(loc, _sentence(item["type"], item["msg"], loc, words, raw)))
    return found


def _untagged(loc: Loc) -> tuple[Loc, tuple[str, ...]]:
    """A feed's and a rule's place has its kind in it (feed, 0, mqtt, topic): out of the place, but among the words."""
    words = tuple(part for part in loc if isinstance(part, str))
    tagged = len(loc) > 2 and loc[2] in {"feed": _FEED_KINDS, "rule": tuple(RULE_KINDS)}.get(str(loc[0]), ())
    return (loc[:2] + loc[3:] if tagged else loc), words


def _sentence(kind: str, message: str, loc: Loc, words: tuple[str, ...], raw: Mapping[str, object]) -> str:
    match kind:
        case "wrong":
            return message
        case "missing":
            if loc == ("daemon",):
                return "the table [daemon] is required, with a name in it"
            return "at least one [[oms]] is required" if loc == ("oms",) else "it is required"
        case "extra_forbidden":
            model = MODELS.get(words[:-1], Tables)
            return probably(words[-1], keys_of(model))
        case "union_tag_not_found" | "union_tag_invalid":
            row = rows_of(raw, "feed")[int(loc[1])]
            kinds = " or ".join(f'"{each}"' for each in _FEED_KINDS)
            return f"its kind must be {kinds}" if "kind" in row else f"it needs a kind: {kinds}"
        case "tuple_type" | "list_type":
            return f"it must be a list of tables: [[{loc[0]}]]" if loc[0] in ARRAYS else "it must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"it must be one table: [{loc[0]}]" if loc[0] in SINGLE else "it must be a table"
        case _:
            return "it can't be read"


def in_words(mistakes: list[Mistake], raw: Mapping[str, object]) -> tuple[str, ...]:
    """Each mistake once, as a line, in the order of the tables."""
    order = [*SINGLE, *ARRAYS]

    def rank(mistake: Mistake) -> tuple[int, int]:
        head = mistake.loc[0] if mistake.loc else ""
        index = mistake.loc[1] if len(mistake.loc) > 1 else 0
        return (
            order.index(str(head)) if head in order else len(order),
            index if isinstance(index, int) else 0,
        )

    ordered = sorted(mistakes, key=rank)
    return tuple(dict.fromkeys(f"{place(m.loc, raw)}: {m.sentence}" for m in ordered))


def unknown_variable(name: str) -> str:
    """The sentence for a variable of ours that sets nothing; none of its value."""
    shown = name if _ENV_NAME.fullmatch(name) else f"a variable that begins with {ENV_PREFIX}"
    section = name.removeprefix(ENV_PREFIX).partition("__")[0]
    if section.lower() in ARRAYS:
        return f"{shown}: arrays of tables ([[{section.lower()}]]) can't be set from the environment"
    sections = {section.lower(): SINGLE[section.lower()]} if section.lower() in SINGLE else SINGLE
    settings = [f"{table}__{key}".upper() for table, model in sections.items() for key in keys_of(model)]
    meant = name.removeprefix(ENV_PREFIX).upper()[:100]
    close = difflib.get_close_matches(meant, settings, n=1, cutoff=0.7)
    return f"{shown}: unknown variable" + (f"; did you mean {ENV_PREFIX}{close[0]}?" if close else "")

"""Take down what a world holds, and put it back in place, so that what refers to its parts goes on doing so.

A deep copy would be slower, and can't copy the closures that stand for messages under way. Here nothing is
copied but the contents of what can change: frozen values are shared, and so is what didn't change since the
parent of a state.
"""

from __future__ import annotations

import types
from collections import deque
from dataclasses import is_dataclass
from enum import Enum
from random import Random
from typing import Any, TypeAlias

Cell: TypeAlias = tuple[Any, Any]
Memento: TypeAlias = list[Cell]

_VALUES = (type(None), bool, int, float, str, bytes, Enum, type, types.ModuleType, Random, types.BuiltinFunctionType)
NOT_USED = "killswitch.domain.watch"  # the small world has no rules: what they keep never changes
_KINDS: dict[type, str] = {}
_SLOTS: dict[type, tuple[str, ...]] = {}


def _kind(cls: type) -> str:
    """What is to be done with values of a class."""
    if issubclass(cls, _VALUES) or cls.__module__.startswith(("decimal", NOT_USED)):
        return "value"
    if is_dataclass(cls) and cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "value"
    for known, kind in ((tuple, "tuple"), (frozenset, "value"), (dict, "dict"), (list, "list"), (deque, "list")):
        if issubclass(cls, known):
            return kind
    if issubclass(cls, set):
        return "set"
    if cls is types.FunctionType:
        return "function"
    if cls is types.MethodType:
        return "method"
    _SLOTS[cls] = tuple(s for c in cls.__mro__ for s in getattr(c, "__slots__", ()) if not s.startswith("__"))
    return "thing"


def save(root: object, parent: Memento | None = None) -> Memento:
    """The contents of everything that can change and is reached from `root`."""
    before = {} if parent is None else {id(cell[0]): cell for cell in parent}
    seen: set[int] = set()
    found: Memento = []
    todo: list[Any] = [root]
    while todo:
        thing = todo.pop()
        cls = type(thing)
        kind = _KINDS.get(cls)
        if kind is None:
            kind = _KINDS[cls] = _kind(cls)
        if kind == "value":
            continue
        if kind == "tuple":
            todo.extend(thing)
            continue
        key = id(thing)
        if key in seen:
            continue
        seen.add(key)
        held: tuple[Any, ...]
        match kind:
            case "function":
                todo.extend(cell.cell_contents for cell in thing.__closure__ or ())
                continue
            case "method":
                todo.append(thing.__self__)
                continue
            case "dict":
                held = tuple(thing.items())
                todo.extend(thing.values())
            case "list":
                held = tuple(thing)
                todo.extend(held)
            case "set":
                held = tuple(thing)
            case _:
                inner = tuple(getattr(thing, "__dict__", {}).items())
                held = (inner, tuple((s, getattr(thing, s)) for s in _SLOTS[cls] if hasattr(thing, s)))
                todo.extend(v for part in held for _, v in part)
        old = before.get(key)
        found.append(old if old is not None and _same(old[1], held) else (thing, held))
    return found


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    try:
        return one == other
    except (TypeError, ValueError):
        return False


def put_back(memento: Memento) -> None:
    for thing, held in memento:
        match _KINDS[type(thing)]:
            case "dict" | "set":
                thing.clear()
                thing.update(held)
            case "list":
                thing.clear()
                thing.extend(held)
            case _:
                inner, slots = held
                if inner or hasattr(thing, "__dict__"):
                    mine = thing.__dict__
                    mine.clear()
                    mine.update(inner)
                for name, value in slots:
                    setattr(thing, name, value)

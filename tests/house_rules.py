"""The rules of the house, read from syntax trees: floors, doors, clocks, sizes and names.

Works on a mapping from a path below killswitch/ (as "domain/switch.py") to its source, so that a test can
build a small house in memory and see each rule bite. A finding is one sentence.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FUNCTION_LINES = 70
FILE_LINES = 450
LONG_FILES = {
    "domain/messages.py": "the whole vocabulary on one page: nobody should look for an event in two places",
}
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "base"}  # names that say nothing

# What siblings may share: the frame codec, and the WebSocket client under the OMS link and the feeds.
SHARED = ("wire/frame", "adapters/websocket")

# Higher numbers may import lower ones; what isn't named here is the top: cli, daemon, direct, demo.
FLOORS = {"domain": 0, "board": 0, "wire": 1, "adapters": 2, "loop": 3, "config": 3}
TOP = 4

# One door each: where a library may be imported. "adapters/" is a folder, "adapters/mqtt" a file and what it
# was split into (mqtt_session.py).
DOORS = {
    "aiomqtt": ("adapters/mqtt",),
    "paho": ("adapters/mqtt",),
    "websockets": ("adapters/websocket", "simulator/"),
    "httpx2": ("adapters/oms",),
    "tenacity": ("adapters/",),
    "prometheus_client": ("adapters/metrics",),
    "starlette": ("adapters/http", "simulator/http"),
    "uvicorn": ("adapters/http", "simulator/http"),
    "sqlite3": ("adapters/journal",),
    "msgspec": ("wire/",),
    "click": ("cli/",),
    "pydantic": ("config/",),
    "pydantic_core": ("config/",),
    "pydantic_settings": ("config/",),
    "amqtt": ("demo/",),
    "uvloop": ("daemon",),
}

# What domain/ and wire/ must not touch: clocks, chance, and the world outside.
CLOCKS_AND_CHANCE = {"time", "random", "secrets", "uuid"}
OUTSIDE = {"asyncio", "socket", "ssl", "select", "threading", "subprocess", "os", "pathlib", "logging", "io"}
TELLS_THE_TIME = {"now", "utcnow", "today"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full dotted name, and the line."""

    module: str
    line: int


def findings(house: Mapping[str, str]) -> list[str]:
    """Everything in this house that breaks a rule, in the order of the paths."""
    found: list[str] = []
    for path in sorted(house):
        tree = ast.parse(house[path], filename=path)
        modules = {_module(p) for p in house}
        for item in _imports(path, tree, modules):
            found += (f"{path}:{item.line}: {why}" for why in _against_imports(path, item.module))
        if path.startswith(("domain/", "wire/")):
            found += (f"{path}:{line}: {why}" for line, why in _impure(tree))
        found += _sizes_and_names(path, house[path], tree)
    return found


def _module(path: str) -> str:
    dotted = PurePosixPath("killswitch", path).with_suffix("").as_posix().replace("/", ".")
    return dotted.removesuffix(".__init__")


def _imports(path: str, tree: ast.Module, modules: set[str]) -> Iterator[Import]:
    # Imports under TYPE_CHECKING and inside functions count too: a floor is a floor.
    package = _module(path).split(".")
    if not path.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                # `from killswitch.wire import frame` names a module, `from .frame import Frame` a class.
                whole = f"{source}.{alias.name}"
                yield Import(whole if whole in modules else source, node.lineno)


def _against_imports(path: str, module: str) -> Iterator[str]:
    first = module.partition(".")[0]
    if first == "killswitch":
        yield from _against_floors(path, module)
        return
    doors = DOORS.get(first)
    if doors is not None:
        if not any(_is_at(path, door) for door in doors):
            yield f"{first} has its door in {' and '.join(doors)}"
        return
    if first not in sys.stdlib_module_names:
        yield f"{first} has no door: no file may import it"


def _is_at(path: str, door: str) -> bool:
    return path.startswith(door) if door.endswith("/") else _family(path) == door


def _family(path: str) -> str:
    """The path without its suffix and without what a crowded room was split by: wire/alphapoint_events.py
    and wire/alphapoint.py are one family."""
    pure = PurePosixPath(path)
    stem = pure.stem if pure.stem.startswith("_") else pure.stem.partition("_")[0]
    return pure.with_name(stem).as_posix()


def _against_floors(path: str, module: str) -> Iterator[str]:
    room = path.partition("/")[0].removesuffix(".py")
    inside = module.split(".")[1:]
    if not inside:  # killswitch itself: the version, which rests on nothing
        if room in ("domain", "simulator"):
            yield f"{room}/ imports nothing from killswitch itself"
        return
    target = inside[0]
    if room == "simulator":
        if target != "simulator" and inside != ["wire", "frame"]:
            yield f"the simulator uses nothing of ours but wire.frame, not {module}"
        return
    if room == "__init__":
        yield f"killswitch/__init__.py rests on nothing, not on {module}"
        return
    mine, theirs = _floor(room), _floor(target)
    if theirs > mine:
        yield f"imports point down only: {room} may not import {module}"
    if target == room and room in ("adapters", "wire") and len(inside) > 1:
        family = _family(f"{room}/{inside[1]}.py")
        if family not in (_family(path), *SHARED):
            yield f"siblings in {room}/ never import each other: {module}"


def _floor(room: str) -> int:
    return FLOORS.get(room, TOP)


def _impure(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module.split(".")[0]]
        for name in names:
            if name in CLOCKS_AND_CHANCE:
                yield node.lineno, f"no clock and no chance down here: {name}"
            if name in OUTSIDE:
                yield node.lineno, f"nothing of the outside world down here: {name}"
        if isinstance(node, ast.Attribute) and node.attr in TELLS_THE_TIME:
            held = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if held in ("datetime", "date", "dt"):
                yield node.lineno, f"no clock down here: {held}.{node.attr}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("open", "print", "input")
        ):
            yield node.lineno, f"nothing of the outside world down here: {node.func.id}()"


def _sizes_and_names(path: str, source: str, tree: ast.Module) -> Iterator[str]:
    lines = len(source.splitlines())
    if lines > FILE_LINES and path not in LONG_FILES:
        yield f"{path}: {lines} lines; split it, or say in LONG_FILES why not"
    if PurePosixPath(path).stem in NO_NAMES:
        yield f"{path}: a file is named by what it holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length >= FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"

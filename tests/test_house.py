"""The house stands as its README says, and every rule that keeps it so is seen to bite."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.house_rules import LONG_FILES, NO_NAMES, findings
from tests.house_tree import ROOT, block, tree, written

if TYPE_CHECKING:
    from pathlib import Path

HOUSE = ROOT / "killswitch"
SOURCES = {p.relative_to(HOUSE).as_posix(): p.read_text("utf-8") for p in sorted(HOUSE.rglob("*.py"))}

# Names of package hosts, and paths of one machine, are put together here so that this file holds none.
HOSTS = [".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("deb", "debian", "org"), ("security", "debian", "org"),
    ("snapshot", "debian", "org"), ("registry", "npmjs", "org"), ("archive", "ubuntu", "com"),
)]  # fmt: skip
MACHINE_PATHS = re.compile(rf"(?<![\w.$}}])/(?:{'wo' + 'rk'}\b|{'tm' + 'p'}/|{'ho' + 'me'}/\w)")
OWN_INDEX = re.compile("--(?:(?:extra-)?index" + "-url|find" + "-links)")


def tracked() -> list[Path]:
    """The files that git keeps; in an unpacked archive all that isn't made by tools."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listed = subprocess.run(
            [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
        return [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    made = {".venv", ".venv-demo", "__pycache__", ".git", "build", "dist"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not made & set(p.relative_to(ROOT).parts)]


def bad_words(text: str) -> list[str]:
    """Package hosts, own indexes and paths of one machine that a text names."""
    found = [host for host in HOSTS if host in text]
    found += [m.group() for m in MACHINE_PATHS.finditer(text)]
    found += [m.group() for m in OWN_INDEX.finditer(text)]
    return found


def test_no_floor_door_clock_size_or_name_is_broken():
    assert findings(SOURCES) == []


def test_every_exception_for_a_long_file_is_still_needed():
    for path in LONG_FILES:
        assert len(SOURCES[path].splitlines()) > 450, f"{path} has become short: take it off the list"


def test_the_tree_in_the_readme_is_the_tree_on_disk():
    shown = block((ROOT / "README.md").read_text("utf-8"))
    assert shown is not None, "README.md has no tree between its markers"
    assert shown == tree(HOUSE), "run: python -m tests.house_tree --write"


def test_no_tracked_file_names_a_package_host_or_a_path_of_one_machine():
    found = {}
    for file in tracked():
        if file.exists() and (words := bad_words(file.read_bytes().decode("utf-8", "replace"))):
            found[file.relative_to(ROOT).as_posix()] = words
    assert found == {}


def test_no_lock_file_with_host_names_is_tracked():
    assert [f.name for f in tracked() if f.name in ("uv.lock", "pylock.toml", "poetry.lock")] == []


def test_no_tracked_file_has_a_name_that_says_nothing():
    assert [f.name for f in tracked() if f.stem in NO_NAMES] == []


# --- each rule bites ----------------------------------------------------------------------------------------

CLEAN = {
    "__init__.py": '"""The version."""\n__version__ = "1"\n',
    "cli/__init__.py": "import click\nfrom killswitch import __version__\nfrom killswitch.daemon import run\n",
    "daemon.py": "from killswitch.loop import turn\nfrom killswitch.adapters.oms import Link\n",
    "loop.py": "from killswitch.adapters.oms import Link\nfrom killswitch.domain.switch import KillSwitch\n",
    "config/__init__.py": "import pydantic\nfrom killswitch.domain.scope import Scope\n",
    "demo/__init__.py": "from killswitch.simulator.gateway import Gateway\nimport amqtt\n",
    "domain/__init__.py": "",
    "domain/scope.py": "from dataclasses import dataclass\nfrom decimal import Decimal\n",
    "domain/switch.py": "from killswitch.domain import scope\nfrom killswitch.domain.scope import Scope\n",
    "wire/__init__.py": "",
    "wire/frame.py": "import msgspec\n",
    "wire/alphapoint.py": (
        "from killswitch.wire import alphapoint_events, frame\nfrom killswitch.domain.scope import Scope\n"
    ),
    "wire/alphapoint_events.py": "from killswitch.wire.frame import Frame\nfrom datetime import datetime\n",
    "wire/record.py": "import json\n",
    "adapters/__init__.py": "",
    "adapters/oms.py": "import tenacity\nfrom killswitch.adapters.websocket import open_socket\n",
    "adapters/oms_link.py": "from killswitch.adapters.oms import Link\nfrom killswitch.wire.alphapoint import decode\n",
    "adapters/websocket.py": "import websockets.asyncio.client\n",
    "adapters/mqtt.py": "import aiomqtt\nfrom paho.mqtt import client\n",
    "adapters/journal.py": "import sqlite3\n",
    "simulator/__init__.py": "",
    "simulator/exchange.py": "import random\n",
    "simulator/gateway.py": (
        "import websockets\nfrom killswitch.wire.frame import Frame\nfrom killswitch.simulator import exchange\n"
    ),
}


def test_a_clean_house_has_no_findings():
    assert findings(CLEAN) == []


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("domain/switch.py", "from killswitch.wire.frame import Frame", "imports point down only"),
        ("domain/switch.py", "from killswitch.wire import frame", "imports point down only"),
        ("domain/switch.py", "from ..wire import frame", "imports point down only"),
        ("domain/switch.py", "from killswitch import wire", "imports point down only"),
        ("domain/switch.py", "def f():\n    import killswitch.loop", "imports point down only"),
        ("domain/switch.py", "from killswitch import __version__", "nothing from killswitch itself"),
        ("wire/record.py", "import killswitch.adapters.oms", "imports point down only"),
        ("adapters/oms.py", "from killswitch.loop import turn", "imports point down only"),
        ("adapters/oms.py", "from killswitch import config", "imports point down only"),
        ("loop.py", "from killswitch.daemon import run", "imports point down only"),
        ("loop.py", "from killswitch.simulator.gateway import Gateway", "imports point down only"),
        ("config/__init__.py", "import killswitch.cli", "imports point down only"),
        ("config/models.py", "from killswitch.cli import main", "imports point down only"),
        ("adapters/oms.py", "from killswitch.config.models import Model", "imports point down only"),
        ("__init__.py", "from killswitch.domain import scope", "rests on nothing"),
        ("wire/record.py", "from killswitch.wire.alphapoint import decode", "siblings in wire/"),
        ("wire/record.py", "from . import alphapoint_events", "siblings in wire/"),
        ("adapters/mqtt.py", "from killswitch.adapters import journal", "siblings in adapters/"),
        ("adapters/mqtt.py", "from .oms_link import Link", "siblings in adapters/"),
        (
            "simulator/gateway.py",
            "from killswitch.wire.alphapoint import decode",
            "nothing of ours but wire.frame",
        ),
        (
            "simulator/gateway.py",
            "from killswitch.domain.scope import Scope",
            "nothing of ours but wire.frame",
        ),
        ("simulator/gateway.py", "from killswitch.wire import alphapoint", "nothing of ours but wire.frame"),
        ("simulator/gateway.py", "import killswitch", "nothing from killswitch itself"),
        ("adapters/journal.py", "import aiomqtt", "aiomqtt has its door in adapters/mqtt"),
        ("daemon.py", "from paho.mqtt import client", "paho has its door"),
        ("adapters/mqtt.py", "import websockets", "websockets has its door"),
        ("adapters/oms.py", "import websockets", "websockets has its door"),
        ("loop.py", "import tenacity", "tenacity has its door"),
        ("adapters/http.py", "import prometheus_client", "prometheus_client has its door"),
        ("daemon.py", "import uvicorn", "uvicorn has its door"),
        ("daemon.py", "from starlette.routing import Route", "starlette has its door"),
        ("wire/record.py", "import sqlite3", "sqlite3 has its door"),
        ("adapters/oms.py", "import msgspec", "msgspec has its door"),
        ("domain/switch.py", "import msgspec", "msgspec has its door"),
        ("simulator/gateway.py", "import msgspec", "msgspec has its door"),
        ("daemon.py", "import click", "click has its door"),
        ("domain/settings.py", "import pydantic", "pydantic has its door"),
        ("daemon.py", "import requests", "requests has no door"),
        ("domain/switch.py", "import time", "no clock and no chance"),
        ("wire/feed.py", "from time import monotonic", "no clock and no chance"),
        ("domain/switch.py", "import random", "no clock and no chance"),
        ("wire/feed.py", "from datetime import datetime\nx = datetime.now()", "no clock down here"),
        ("domain/switch.py", "import datetime\nx = datetime.datetime.utcnow()", "no clock down here"),
        ("domain/switch.py", "import asyncio", "nothing of the outside world"),
        ("wire/record.py", "x = open('f')", "nothing of the outside world"),
        ("daemon.py", "def f():\n" + "    x = 1\n" * 69, "f has 70 lines"),
        ("domain/switch.py", "x = 1\n" * 451, "451 lines"),
        ("wire/helpers.py", "", "named by what it holds"),
        ("adapters/common.py", "", "named by what it holds"),
    ],
)
def test_a_broken_rule_is_found_and_named(path, source, said):
    found = findings({**CLEAN, path: source})

    assert len(found) == 1
    assert found[0].startswith(path)
    assert said in found[0]


def test_a_function_of_69_lines_and_a_file_of_450_are_allowed():
    assert findings({**CLEAN, "daemon.py": "def f():\n" + "    x = 1\n" * 68}) == []
    assert findings({**CLEAN, "domain/switch.py": "x = 1\n" * 450}) == []


def test_hosts_and_machine_paths_are_found_and_ordinary_words_are_not():
    for text in (
        f"https://{HOSTS[0]}/simple",
        f"cd /{'wo' + 'rk'}/main",
        f"'/{'tm' + 'p'}/x'",
        "--index" + "-url x",
    ):
        assert bad_words(text), text
    assert bad_words("frame/work, a network/worker, $RUN/tmpfile, PrivateTmp, tmp_path / 'x'") == []


def test_a_tree_changes_with_every_file_and_fits_between_its_markers(tmp_path):
    house = tmp_path / "house"
    (house / "floor").mkdir(parents=True)
    (house / "__init__.py").write_text("")
    (house / "cli.py").write_text('"""Every verb. No logic."""')
    (house / "floor" / "__init__.py").write_text('"""The floor\nof stone."""')
    before = tree(house)
    (house / "floor" / "new.py").write_text('"""New."""')

    assert [line.split(maxsplit=1) for line in before.splitlines()] == [
        ["house/"], ["cli.py", "Every verb"], ["floor/", "The floor of stone"],
    ]  # fmt: skip
    assert tree(house) != before
    readme = "# House\n<!-- tree -->\nold\n<!-- /tree -->\nmore\n"
    assert block(written(readme, before)) == before
    assert written(written(readme, before), before) == written(readme, before)
    assert block("# House\n") is None

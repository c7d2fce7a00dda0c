"""A scratch copy of the house with one planted bug in it, and the finders that are sent into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.table import MUTANTS, Tests

if TYPE_CHECKING:
    from tests.mutants.table import Finder, Mutant

HOUSE = Path(__file__).resolve().parents[2]
MINUTES = 15


class DoesNotApplyError(Exception):
    """A mutant's text doesn't stand in its file exactly once: the table is out of date."""


def mutated(mutant: Mutant) -> dict[str, str]:
    """The files of a mutant as they are with its bug in them."""
    found: dict[str, str] = {}
    for name, old, new in mutant.edits:
        text = found.get(name) or (HOUSE / "killswitch" / name).read_text()
        if text.count(old) != 1:
            raise DoesNotApplyError(f"{mutant.name}: {name} holds {text.count(old)} times:\n{old}")
        found[name] = text.replace(old, new)
    return found


def plant(mutant: Mutant, where: Path) -> Path:
    """A copy of the house with the bug in it."""
    house = where / "house"
    for part in ("killswitch", "tests"):
        shutil.copytree(HOUSE / part, house / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "config"):
        source = HOUSE / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, house / part)
    for name, text in mutated(mutant).items():
        (house / "killswitch" / name).write_text(text)
    return house


def send(finder: Finder, mutant: Mutant, house: Path) -> str | None:
    """How that finder finds the bug in the scratch copy; None: it survives."""
    if isinstance(finder, Tests):
        command = ["-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *finder.names.split()]
    else:
        command = ["-m", "tests.mutants.hunt", mutant.name, str(mutant.finders.index(finder))]
    ran = subprocess.run(  # our own interpreter, our own table
        [sys.executable, *command],
        cwd=house, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
        timeout=60 * MINUTES, check=False,
    )  # fmt: skip
    said = ran.stdout.strip().splitlines() or [ran.stderr.strip()[-300:]]
    if not isinstance(finder, Tests):
        return said[-1] if ran.returncode == 0 else None
    if ran.returncode != 1:  # pytest: 0 all passed, 1 some failed, else it could not run
        return None
    return next((line.removeprefix("FAILED ").split(" - ")[0] for line in said if line.startswith("FAILED")), None)


def of(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)

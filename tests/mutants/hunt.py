"""Within a scratch copy that holds one planted bug: look for it, and print how it shows. Exit 0 where it does."""

from __future__ import annotations

import sys
from pathlib import Path

import killswitch
from tests.mutants.table import MUTANTS, Exploring, Seeds
from tests.sim.explorer import Budget, Explorer
from tests.sim.world import World

STATES = 15_000
DEPTH = 14


def seeds(finder: Seeds) -> str | None:
    """The first seed of which the judge says that."""
    for seed in range(1, finder.most + 1):
        why = World(seed).run().why
        if finder.said in why:
            return f"seed {seed}: {why.splitlines()[0]}"
    return None


def exploring(finder: Exploring) -> str | None:
    """What the explorer came upon first, if it is that."""
    explorer = Explorer(
        Budget(finder.faults, finder.orders, finder.resets),
        gateways=finder.gateways,
        sample=finder.sample,
        latched=finder.latched,
        age=finder.age,
    )
    tally = explorer.run(DEPTH, states=STATES)
    if finder.said not in tally.why or not tally.why:
        return None
    return f"explorer, {tally.states} states, {len(tally.way)} moves: {tally.why.splitlines()[0]}"


def main(name: str, number: int) -> int:
    if Path.cwd() not in Path(killswitch.__file__).parents:
        print(f"this isn't the scratch copy: {killswitch.__file__}")
        return 2
    finder = next(mutant for mutant in MUTANTS if mutant.name == name).finders[number]
    assert isinstance(finder, Seeds | Exploring)
    found = seeds(finder) if isinstance(finder, Seeds) else exploring(finder)
    print(found or "nothing was found")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

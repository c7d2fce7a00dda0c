"""`python -m tests.sim SEED…`: run single seeds again and show the last steps of what went wrong."""

from __future__ import annotations

import sys

from tests.sim.world import World


def main(seeds: list[int]) -> int:
    bad = 0
    for seed in seeds:
        World.watched = seed
        world = World(seed)
        outcome = world.run()
        print(f"seed {seed}: {outcome.why or 'all held'}")
        print(f"  {outcome.steps} steps, {outcome.cancels} cancels, {outcome.trips} trips, "
              f"{outcome.verified} of them verified; faults: {outcome.injected}")  # fmt: skip
        if outcome.why:
            bad = 1
            print("\n".join(outcome.trace))
            print(f"seed {seed}: {outcome.why}")
    return bad


if __name__ == "__main__":
    sys.exit(main([int(text) for text in sys.argv[1:]]))

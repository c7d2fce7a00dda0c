"""`python -m tests.mutants [NAME…]`: plant each bug in a scratch copy, and print who found it, as a table.

Exit 1 where one survives one of its finders, or its text no longer applies.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.mutants.scratch import DoesNotApplyError, of, plant, send
from tests.mutants.table import MUTANTS


def main(names: list[str]) -> int:
    bad = 0
    print("| planted bug | what must hold | found by |\n|---|---|---|", flush=True)
    for mutant in [of(name) for name in names] or MUTANTS:
        found = []
        try:
            with tempfile.TemporaryDirectory() as where:
                house = plant(mutant, Path(where))
                for finder in mutant.finders:
                    said = send(finder, mutant, house)
                    bad += said is None
                    found.append(said or f"SURVIVES {finder}")
        except DoesNotApplyError as error:
            bad += 1
            found.append(f"DOESN'T APPLY: {error}")
        cells = "<br>".join(text.replace("|", "/").replace("\n", " ")[:160] for text in found)
        print(f"| {mutant.name} | {mutant.holds} | {cells} |", flush=True)
    print(f"{len(names) or len(MUTANTS)} planted, {bad} not found" if bad else "all were found", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

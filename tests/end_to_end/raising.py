"""The daemon with a fault of ours in it: a trip command of mallory's makes the core raise.

python -m tests.end_to_end.raising --config FILE
"""

from __future__ import annotations

import sys

from killswitch.domain.desk import Desk
from tests.end_to_end import plain


def break_it():
    accept = Desk.accept

    def broken(self, event, *more):
        accept(self, event, *more)  # the trip is made and the answer is written: half done is worse than not begun
        if event.by == "mallory":
            raise ZeroDivisionError("a fault of ours")

    Desk.accept = broken


if __name__ == "__main__":
    break_it()
    sys.exit(plain.run(sys.argv[sys.argv.index("--config") + 1]))

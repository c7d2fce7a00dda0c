"""The daemon without root's right to write what is read-only, so that a test that runs as root can take it away.

python -m tests.end_to_end.bounded --config FILE

It ends with 77 where the system doesn't let it give that right up.
"""

from __future__ import annotations

import ctypes
import os
import sys

NOT_ALLOWED = 77
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1


def give_up():
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0) != 0:
        sys.exit(NOT_ALLOWED)


if __name__ == "__main__":
    give_up()
    # What was given up is gone with the next program.
    os.execv(sys.executable, [sys.executable, "-m", "killswitch", "run", *sys.argv[1:]])

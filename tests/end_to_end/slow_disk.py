"""The daemon on a disk that takes its time: each write of the journal is half a second under way.

python -m tests.end_to_end.slow_disk --config FILE
"""

from __future__ import annotations

import sys
import time

from killswitch.adapters.journal_store import Store
from tests.end_to_end import plain


def slow_down():
    append = Store.append

    def slow(self, batch):
        time.sleep(0.5)
        return append(self, batch)

    Store.append = slow


if __name__ == "__main__":
    slow_down()
    sys.exit(plain.run(sys.argv[sys.argv.index("--config") + 1]))

"""The daemon, but a thread of its own ends it with SIGKILL within a gap: after one thing was done, before another.

python -m tests.end_to_end.gaps GAP DELAY_MS --config FILE

It dies DELAY_MS after the gap opened, if it is still open then; else at a later time. The gaps are made
wider than they are, so that the moments are spread over them: the disk, and acknowledgements, take WIDE_S.
What it died in stands in its log as `killed: GAP`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

from killswitch.adapters.journal_store import Store
from killswitch.adapters.mqtt import CommandLink
from killswitch.domain.messages import Acknowledge, Answered, Journalled, OpenOrders, Record, Sent, Tripped, WasReset
from killswitch.loop import Loop
from tests.end_to_end import plain

WIDE_S = 0.15
SENT, ACKNOWLEDGED, LISTED, RESET = "sent-journalled", "journalled-acknowledged", "cancelled-listed", "reset-journalled"
GAPS = (SENT, ACKNOWLEDGED, LISTED, RESET)


class Gap:
    """Whether it is open, and the thread that ends us in it."""

    def __init__(self, name, delay_s):
        self.name, self.delay_s = name, delay_s
        self.open = False

    def set(self, is_open):
        opens, self.open = is_open and not self.open, is_open
        if opens:
            threading.Timer(self.delay_s, self.die).start()

    def die(self):
        if self.open:
            os.write(2, f"killed: {self.name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def die_in(name, delay_s):
    """Wrap the loop's turn, the disk and the command link, so that the gap is known, wide, and deadly."""
    gap = Gap(name, delay_s)
    turn, do, append = Loop.turn, CommandLink.do, Store.append
    waiting = {Tripped: set(), WasReset: set()}
    held = []

    def turned(self, event, now):
        actions = turn(self, event, now)
        for action in actions:
            if isinstance(action, Record) and type(action.body) in waiting:
                waiting[type(action.body)].add(action.n)
        if isinstance(event, Journalled):
            for numbers in waiting.values():
                numbers.difference_update({n for n in numbers if n <= event.n})
        if name == SENT and isinstance(event, Sent | Journalled):
            gap.set(bool(waiting[Tripped]) and (gap.open or isinstance(event, Sent)))
        elif name == RESET:
            gap.set(bool(waiting[WasReset]))
        elif name == LISTED and isinstance(event, Answered | OpenOrders):
            gap.set(isinstance(event, Answered))
        return actions

    def done(self, action):
        if name != ACKNOWLEDGED or not isinstance(action, Acknowledge):
            do(self, action)
            return

        def later():
            held.remove(action)
            gap.set(bool(held))
            do(self, action)

        held.append(action)
        gap.set(True)
        asyncio.get_running_loop().call_later(WIDE_S, later)

    def appended(self, batch):
        if name in (SENT, RESET):
            time.sleep(WIDE_S)
        return append(self, batch)

    Loop.turn, CommandLink.do, Store.append = turned, done, appended


if __name__ == "__main__":
    die_in(sys.argv[1], float(sys.argv[2]) / 1000)
    sys.exit(plain.run(sys.argv[sys.argv.index("--config") + 1]))

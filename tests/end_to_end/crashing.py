"""The daemon, but it kills itself with SIGKILL before or after the Nth event or acknowledgement of a kind.

python -m tests.end_to_end.crashing KIND before|after N --config FILE

KIND is an event's name, Acknowledge, or CancelDecided: a turn that decided a CancelAllOrders, whatever made it.
It counts from the first trip command on, or for CancelDecided from the start. `before`: the event has arrived
and nothing was done about it; `after`: it was handled, and what was decided was handed to the adapters, but
hardly anything of it has left.
"""

from __future__ import annotations

import os
import signal
import sys

from killswitch.adapters.mqtt import CommandLink
from killswitch.domain.messages import Acknowledge, CancelAllOrders, TripRequested
from killswitch.loop import Loop
from tests.end_to_end import plain


def die_at(kind, moment, n):
    """Wrap the loop's turn and the command link, so that it ends there."""
    turn, do = Loop.turn, CommandLink.do
    seen = {"armed": False, "count": 0}

    def here(name, when):
        if name != kind or not seen["armed"]:
            return
        if when == "before":
            seen["count"] += 1
        if seen["count"] == n and when == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def turned(self, event, now):
        seen["armed"] = seen["armed"] or isinstance(event, TripRequested)
        here(type(event).__name__, "before")
        actions = turn(self, event, now)
        here(type(event).__name__, "after")
        if kind == "CancelDecided" and any(isinstance(a, CancelAllOrders) for a in actions):
            os.kill(os.getpid(), signal.SIGKILL)
        return actions

    def done(self, action):
        if not isinstance(action, Acknowledge):
            do(self, action)
            return
        here("Acknowledge", "before")
        do(self, action)
        here("Acknowledge", "after")

    Loop.turn, CommandLink.do = turned, done


if __name__ == "__main__":
    die_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.exit(plain.run(sys.argv[sys.argv.index("--config") + 1]))

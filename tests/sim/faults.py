"""What can go wrong, by name: how often it is tried, and how often it was injected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# name: the highest chance per opportunity. Each seed takes some of them, each at a rate of its own.
FAULTS = {
    "answer lost": 0.5,
    "answer late": 0.5,
    "error code": 0.5,
    "refusal": 0.3,  # 20, 100 or 106 for a while
    "lie": 0.5,  # true, and nothing happens
    "half a lie": 0.5,  # true, and half of the orders are cancelled
    "straggler": 0.3,  # an order that CancelAllOrders overlooks
    "nobody's order": 0.1,  # EnteredBy 0
    "unreadable row": 0.2,
    "no order id": 0.1,
    "big book": 0.5,
    "cancel rejected later": 0.5,
    "list late": 0.4,  # asked, and read late from the table
    "list slow": 0.4,  # read from the table, and long under way
    "list lost": 0.4,
    "list refused": 0.3,
    "list cut off": 0.2,
    "stale list": 0.4,  # of a moment ago: what a second round, settle_s later, sees through
    "enumeration refused": 0.9,
    "heard twice": 0.2,
    "write late": 0.3,
    "disconnect": 0.02,
    "silent gateway": 0.01,
    "gateway switched": 0.05,
    "gateway upgraded": 0.02,  # another version at the next sign-in, where the dialect is found there
    "version untold": 0.3,
    "gateways away": 0.02,  # all of an OMS, for a while; it can be reached over HTTP, where that is configured
    "deaf gateway": 0.03,  # takes calls, and does nothing about them
    "token expired": 0.02,
    "rate limit": 0.02,
    "second factor": 0.02,  # demanded for each cancel, for a while
    "sign-in refused": 0.4,
    "sign-in slow": 0.2,
    "sign-in locked": 0.1,
    "crash": 0.02,
    "crash in a pass": 0.02,
    "stopped in order": 0.01,
    "frozen process": 0.01,
    "frozen for 30 s": 0.01,
    "clock stepped": 0.02,  # an hour either way
    "order at the confirm": 0.6,
    "event lost": 0.5,
    "event twice": 0.5,
    "event late": 0.5,
    "journal fails": 0.1,
    "journal slow": 0.3,
    "broker away": 0.02,
    "command twice": 0.3,
    "command late": 0.3,
    "command retained": 0.2,  # a broker gives it again at each connect
    "second press": 0.5,
    "reset": 0.5,
    "reset of anything": 0.3,
    "hasty reset": 0.4,
    "junk command": 0.3,
    "press by button": 0.3,
    "preview": 0.3,
    "rule breach": 0.4,
    "tick twice": 0.2,
    "tick late": 0.2,
    "market noise": 0.5,  # prices, trades and refused orders, in any order
    "unlisted account": 0.9,  # an account that the configuration doesn't name
}

SURE = 0.95

KINDS = (
    "cancel over HTTP",
    *(f"code {code}" for code in (20, 100, 101, 102, 104, 106, 107)),
    "code unknown",
    "bare text",
)
"""What an error code, a refusal or a refused list was; and a cancel that had to go over HTTP."""


class Faults:
    """The faults of one seed. `hit(name)` decides one opportunity and counts."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        kind = rng.random()
        share = 0.0 if kind < 0.04 else 1.0 if kind < 0.1 else rng.choice((0.15, 0.3, 0.5))
        self.rates = {name: top * rng.uniform(0.2, 1.0) for name, top in FAULTS.items() if rng.random() < share}
        self.injected: Counter[str] = Counter()
        self.over = False  # in the calm at the end nothing goes wrong any more

    def has(self, name: str) -> bool:
        return name in self.rates

    def hit(self, name: str, share: float = 1.0) -> bool:
        """`share`: how much worse, or better, than the seed's it is here; nothing is certain."""
        if not self.chance(name, share):
            return False
        self.injected[name] += 1
        return True

    def chance(self, name: str, share: float = 1.0) -> bool:
        """As `hit`, for who counts it itself."""
        rate = self.rates.get(name)
        return rate is not None and not self.over and self._rng.random() < min(rate * share, SURE)

    def note(self, name: str) -> None:
        """What was injected, more exactly: one of KINDS."""
        self.injected[name] += 1

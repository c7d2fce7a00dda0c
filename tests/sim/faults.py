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
    "cancel rejected later": 0.1,
    "list late": 0.4,  # asked, and read late from the table
    "list slow": 0.4,  # read from the table, and long under way
    "list lost": 0.4,
    "list refused": 0.3,
    "heard twice": 0.2,
    "write late": 0.3,
    "disconnect": 0.02,
    "silent gateway": 0.01,
    "sign-in refused": 0.4,
    "crash": 0.02,
    "crash in a pass": 0.02,
    "stopped in order": 0.01,
    "frozen process": 0.01,
    "order at the confirm": 0.6,
    "event lost": 0.5,
    "event twice": 0.5,
    "event late": 0.5,
    "journal fails": 0.1,
    "journal slow": 0.3,
    "broker away": 0.02,
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
    "unlisted account": 0.2,  # an account that the configuration doesn't name
}


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

    def hit(self, name: str) -> bool:
        rate = self.rates.get(name)
        if rate is None or self.over or self._rng.random() >= rate:
            return False
        self.injected[name] += 1
        return True

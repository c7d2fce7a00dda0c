"""A small world whose every next step is chosen from outside: the stand-ins of `world.py`, and no chance at all.

What the seeded world puts on its clock waits here until somebody chooses it: what crosses a wire, what the
exchange carries out, a gateway that comes back. What nobody could tell apart from a later or earlier choice happens
at once: a frame that is written, a record that reaches the disk, our own process that starts again.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import FeedUp, Reading, Restored, Tick
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import ConfirmPolicy, RetryPolicy, Settings, Site
from tests.sim.exchange import Exchange
from tests.sim.judge import Judge
from tests.sim.link import Link
from tests.sim.notebook import Notebook
from tests.sim.senders import Command, Senders
from tests.sim.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.domain.messages import Event
    from tests.sim.faults import Faults

AT_ONCE = {"_write": 0.01, "_arrive": 1e9, "_start": 1e9, "up": 1e9, "_tell_order": 0.01, "now": 0.01}
"""What happens at once, unless it takes so many seconds or more: then a fault made it late, and it waits."""
SOON_S = 10.0  # a timer that is further away belongs to no sweep
OURS, THEIRS = 31, 32

TRIPS = (
    Scope(oms="prime", account=11, user=OURS, instrument=EVERY),
    Scope(oms="prime", account=11, user=EVERY, instrument=21),
)
"""They overlap, and neither covers the other."""
VIA = ("http", "mqtt")


class Still(Random):
    """No chance: always the first, the least."""

    def random(self) -> float:
        return 0.0

    def uniform(self, a: float, b: float) -> float:
        return a

    def choice(self, seq):
        return seq[0]


class Counter:
    """Counts as itertools.count does, and can be put back."""

    def __init__(self) -> None:
        self.n = 0

    def __next__(self) -> int:
        self.n += 1
        return self.n


class Chosen:
    """Faults by choice: writes down what was asked for, and says yes to the one that was chosen, once."""

    rates: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.chosen: tuple[str, int] | None = None
        self.over = False
        self.injected: dict[str, int] = {}

    def begin(self, chosen: tuple[str, int] | None) -> None:
        self.asked.clear()
        self.chosen = chosen

    def has(self, name: str) -> bool:
        return False

    def note(self, name: str) -> None:
        pass

    def hit(self, name: str, share: float = 1.0) -> bool:
        nth = self.asked.count(name)
        self.asked.append(name)
        return (name, nth) == self.chosen


def kind_of(what: Callable[[], None]) -> str:
    """What a waiting step is: the name of what it calls."""
    return what.__code__.co_names[0] if what.__name__ == "<lambda>" else what.__name__


def stream_of(what: Callable[[], None]) -> tuple[str, str]:
    """What keeps its order by itself: the exchange's own doing, the answers of one connection, a gateway's return."""
    names = what.__code__.co_freevars
    held = dict(zip(names, (cell.cell_contents for cell in what.__closure__ or ()), strict=True))
    session = held.get("held")
    return kind_of(what), str(session.session if session is not None else held.get("self"))


class SmallWorld(World):
    """Two orders, two overlapping trips, one OMS with a gateway or two. Nothing happens unless it is chosen."""

    def __init__(self, gateways: int = 2, empties: int = 2, age: str = "v2") -> None:
        self._gateways, self._empties, self._age = gateways, empties, age
        self.waiting: list[Callable[[], None]] = []
        self.first: list[Callable[[], None]] = []
        self.pressed: set[int] = set()
        super().__init__(0)

    def _build(self) -> None:
        self.rng = Still()
        self.faults: Faults = Chosen()  # type: ignore[assignment]
        self.tried, self.dark_lives = None, False
        self._orders, self.ids_made = Counter(), Counter()
        self.trace = deque(maxlen=0)
        self.says_absent, self.forbidden, self.quiet_traders = False, "", False
        access = {OURS: (11,), THEIRS: (11,)}
        exchange = Exchange("prime", access, (21, 22), self._working, self._ended, lambda: self.now)
        self.lag_s, self.no_enumeration = 0.0, False
        names = tuple(f"prime-{n}" for n in range(self._gateways))
        self.exchanges = {"prime": exchange}
        self.discovers, self.asked_pages = set(), {}
        self.links = [Link(self, exchange, name, self._age) for name in names]
        self.configured = {"prime": (11,)}
        self.ids = {11, 21, 22, OURS, THEIRS}
        self.requested = set(TRIPS)
        self.hot = set()
        site = Site(name="prime", accounts=(11,), whole_oms=False, calls_per_minute=60_000, gateways=names,
            dialect=Dialect(self._age),
        )  # fmt: skip
        self.settings = Settings(
            daemon="ks", boot="b0", sites=(site,),
            confirm=ConfirmPolicy(empties=self._empties, settle_s=0.05, deadline_s=1.5, guard_every_s=1.0),
            retry=RetryPolicy(timeout_s=0.5, hedge_after_s=0.15, list_timeout_s=1.5, first_s=0.05, max_s=1.0),
        )  # fmt: skip
        self.judge = Judge(self)
        self.journal = Notebook(self)
        self.senders = Senders(self)

    def begin(self) -> None:
        """Signed in, nothing latched, two orders on the book."""
        self._start(Restored(fresh=True))
        self.settle()
        while self.waiting:
            self.do(0)
        self.exchanges["prime"].enter(11, OURS, 21, named=True, tough=False, numbered=True)
        self.exchanges["prime"].enter(11, THEIRS, 21, named=True, tough=False, numbered=True)
        self.settle()

    # --- the seeded world's clock, without one

    def at(self, when: float, what: Callable[[], None]) -> None:
        at_once = when - self.now < AT_ONCE.get(kind_of(what), -1.0)
        (self.first if at_once else self.waiting).append(what)

    def post(self, event: Event) -> None:
        if not isinstance(event, FeedUp | Reading):  # it has neither feeds nor rules
            super().post(event)

    def settle(self) -> None:
        """What happens at once, in the order in which it came up."""
        while True:
            while self.inbox and self.running:
                self._turn(self.inbox.popleft())
            if not self.first:
                return
            self.first.pop(0)()

    # --- what may be chosen

    def do(self, number: int) -> None:
        self.waiting.pop(number)()
        self.settle()

    def tick(self) -> None:
        due = self.core.due()
        self.now = max(self.now, due if due is not None else self.now)
        self._turn(Tick(wall=self.wall))
        self.settle()

    def soon(self) -> bool:
        due = self.core.due() if self.running else None
        return due is not None and due - self.now <= SOON_S

    def press(self, number: int) -> None:
        self.pressed.add(number)
        scope = TRIPS[number]
        self.senders.send(Command("trip", f"trip-{number}", VIA[number], scope, issued_at=self.wall))
        self.settle()

    def reset(self, trip: str) -> None:
        number = next(self.ids_made)
        self.senders.send(Command("reset", f"reset-{number}", "http", trip=trip, issued_at=self.wall))
        self.settle()

    def order(self) -> None:
        self.exchanges["prime"].enter(11, OURS, 21, named=True, tough=False, numbered=True)
        self.settle()

    def crash(self) -> None:
        self._crash()
        self.settle()

    def cut(self, number: int) -> None:
        self.links[number].go_down("connection reset", 0.1)
        self.settle()

    def empty(self) -> bool:
        """Whether all that is latched is confirmed, and so it is by the exchange's own table."""
        return self.running and all(
            self.judge.states[trip] == "confirmed" and not self._left(scope)
            for trip, scope in self.judge.latched.items()
        )

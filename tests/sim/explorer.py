"""Every interleaving of the small world, breadth first, with states that are the same visited once.

`python -m tests.sim.explorer DEPTH` prints what it visited. A way is a list of moves from the beginning; each
move may have one thing go wrong in it. The judge looks at every event, action and frame of every step.

What keeps its order by itself, such as the answers on one connection, comes in this order, and an overtaking is a
fault; so is time that goes by while something is under way. An order event arrives at once, unless a fault loses it
or makes it late. Of a pass that a crash falls into nothing leaves.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.sim.fingerprint import fingerprint
from tests.sim.judge import Broken
from tests.sim.memento import Memento, put_back, save
from tests.sim.small import TRIPS, SmallWorld, kind_of, stream_of
from tests.sim.world import _line

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault: TypeAlias = tuple[str, int]
Move: TypeAlias = tuple[str, int | str, Fault | None]

FAULTS = (
    "answer lost", "list lost", "event lost", "event late", "write late", "lie", "error code", "heard twice",
    "crash in a pass",
)  # fmt: skip
LATE = {"_tell_order", "_write", "_connect", "alive"}
"""What waits only since a fault made it late, repeated it, or cut its link: time may go by before it comes."""
CALM_STEPS = 400
SAMPLE = 40


@dataclass(frozen=True)
class Budget:
    """How much of each may happen on one way. A fault: a message lost or late, a lie, a cut, a crash."""

    faults: int = 1
    orders: int = 1
    resets: int = 1


@dataclass
class Tally:
    """What was visited. `why` is empty where everything held; `way`: the moves that led there."""

    depth: int = 0
    states: int = 0
    moves: int = 0
    folded: int = 0
    calmed: int = 0
    confirmed: int = 0  # states in which a trip was confirmed
    whole: int = 0  # states in which both trips were
    with_fault: int = 0  # of these, after a fault
    why: str = ""
    way: tuple[Move, ...] = ()
    by_depth: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        said = (
            f"{self.states} states to depth {self.depth} ({self.moves} moves, {self.folded} folded), {self.confirmed}"
            f" with a trip confirmed, {self.whole} with both ({self.with_fault} after a fault), {self.calmed} run on"
        )
        return f"{said}: {self.why.splitlines()[0]}" if self.why else said


@dataclass(slots=True)
class Node:
    """A state that was reached."""

    held: Memento
    way: tuple[Move, ...]
    left: Budget


class Explorer:
    """One exploration. `sample`: every so many states are run on without faults until all is confirmed.

    `latched`: it begins where both trips are confirmed and nothing is under way, else where nothing is latched.
    """

    def __init__(
        self,
        budget: Budget = Budget(),
        *,
        gateways: int = 1,
        sample: int = SAMPLE,
        latched: bool = False,
        age: str = "v2",
    ) -> None:
        self.budget, self.gateways, self.sample, self.latched = budget, gateways, sample, latched
        self.age = age
        self.tally = Tally()
        self.asked: tuple[str, ...] = ()  # what could have gone wrong in the last move

    def run(self, depth: int, states: int = sys.maxsize) -> Tally:
        """To this depth, or until so many states were visited, or something that must hold doesn't."""
        tally = self.tally
        self.world = world = begun(self.gateways, latched=self.latched, age=self.age)
        seen = {(fingerprint(world), self.budget)}
        level = [Node(save(world), (), self.budget)]
        tally.states = 1
        while level and tally.depth < depth:
            tally.depth += 1
            following: list[Node] = []
            for node in level:
                for move, left in self._moves(node):
                    tally.moves += 1
                    way = (*node.way, move)
                    if not self._holds(way, lambda m=move: self._make(m)):
                        return tally
                    mark = (fingerprint(world), left)
                    if mark in seen:
                        tally.folded += 1
                        continue
                    seen.add(mark)
                    tally.states += 1
                    self._count(left)
                    following.append(Node(save(world, node.held), way, left))
                    if tally.states % self.sample == 0 and not self._holds(way, self._calm):
                        return tally
                    if tally.states >= states:
                        return tally
            tally.by_depth.append(len(following))
            level = following
        for node in level[:: self.sample]:
            put_back(node.held)
            if not self._holds(node.way, self._calm):
                break
        return tally

    def _count(self, left: Budget) -> None:
        held = list(self.world.judge.states.values())
        self.tally.confirmed += "confirmed" in held
        if held.count("confirmed") == len(TRIPS):
            self.tally.whole += 1
            self.tally.with_fault += left.faults < self.budget.faults

    def _holds(self, way: tuple[Move, ...], what) -> bool:
        why = _broken(what)
        self.tally.why, self.tally.way = why, way if why else ()
        return not why

    def _moves(self, node: Node) -> Iterator[tuple[Move, Budget]]:
        """Every move from a state, with what may go wrong in it; the world stands in the state at each."""
        world, left = self.world, node.left
        put_back(node.held)
        for move, after in tuple(_choices(world, left)):
            put_back(node.held)
            yield (*move, None), after
            if not after.faults or move[0] in ("cut", "crash"):
                continue
            asked, spent = self.asked, _less(after, faults=1)
            for name in FAULTS:
                for nth in range(asked.count(name)):
                    put_back(node.held)
                    yield (*move, (name, nth)), spent

    def _make(self, move: Move) -> None:
        make(self.world, move)
        self.asked = tuple(self.world.faults.asked)

    def _calm(self) -> None:
        calm(self.world)
        self.tally.calmed += 1


def _broken(what) -> str:
    """Why it doesn't hold: "" where it does."""
    try:
        what()
    except Broken as broken:
        return str(broken)
    except Exception as error:  # ours or the core's: a way to look at
        return f"{type(error).__name__}: {error}"
    return ""


def _less(budget: Budget, *, faults: int = 0, orders: int = 0, resets: int = 0) -> Budget:
    return Budget(budget.faults - faults, budget.orders - orders, budget.resets - resets)


def _choices(world: SmallWorld, left: Budget) -> Iterator[tuple[tuple[str, int | str], Budget]]:
    """What may come next, all else being well. Time that goes by while something is under way makes that late."""
    streams: set[tuple[str, str]] = set()
    for number, what in enumerate(world.waiting):
        stream = stream_of(what)
        if stream not in streams:
            streams.add(stream)
            yield ("do", number), left
        elif left.faults:
            yield ("do", number), _less(left, faults=1)  # it overtakes what was before it
    in_time = any(kind_of(what) not in LATE for what in world.waiting)
    if world.soon() and (left.faults or not in_time):
        yield ("tick", 0), _less(left, faults=1) if in_time else left
    for number in range(len(TRIPS)):
        if number not in world.pressed:
            yield ("press", number), left
    if left.orders:
        yield ("order", 0), _less(left, orders=1)
    if left.resets:
        for trip, state in world.judge.states.items():
            if state == "confirmed":
                yield ("reset", trip), _less(left, resets=1)
    if left.faults:
        yield ("crash", 0), _less(left, faults=1)
        for number, link in enumerate(world.links):
            if link.connection is not None:
                yield ("cut", number), _less(left, faults=1)


def make(world: SmallWorld, move: Move) -> None:
    """One step of the world."""
    name, what, fault = move
    world.faults.begin(fault)  # type: ignore[attr-defined]
    match name:
        case "do":
            world.do(int(what))
        case "tick":
            world.tick()
        case "press":
            world.press(int(what))
        case "order":
            world.order()
        case "reset":
            world.reset(str(what))
        case "crash":
            world.crash()
        case _:
            world.cut(int(what))
    world._check_view()


def calm(world: SmallWorld) -> None:
    """Nothing goes wrong any more: everything arrives in its order, and all that is latched must be confirmed.

    Guards must have looked once more after that, since an order that no event told of may have come.
    """
    world.faults.begin(None)  # type: ignore[attr-defined]
    until = world.now + 2 * world.settings.confirm.guard_every_s
    for _ in range(CALM_STEPS):
        if not world.waiting and world.now >= until and world.empty():
            return
        if world.waiting:
            world.do(0)
        elif world.soon():
            world.tick()
        elif world.empty():
            return
        else:
            break
    left = {t: (s, world._left(world.judge.latched[t])) for t, s in world.judge.states.items()}
    world.judge.broken(f"not at rest {CALM_STEPS} steps after all faults ended: {left}")


def begun(gateways: int, *, latched: bool, age: str = "v2") -> SmallWorld:
    """A world to begin with."""
    world = SmallWorld(gateways, age=age)
    world.begin()
    if latched:
        for number in range(len(TRIPS)):
            world.press(number)
        calm(world)
    return world


def told(way: tuple[Move, ...], gateways: int = 1, *, latched: bool = False) -> str:
    """The way once more, from the beginning, with what was heard and said in each step."""
    world = begun(gateways, latched=latched)
    lines: list[str] = []
    for move in way:
        what = kind_of(world.waiting[int(move[1])]) if move[0] == "do" else move[1]
        lines.append(f"--- {move[0]} {what}" + (f", with {move[2][0]} ({move[2][1]})" if move[2] else ""))
        world.trace = type(world.trace)(maxlen=None)
        why = _broken(lambda m=move: make(world, m))
        lines += (_line(*step) for step in world.trace)
        if why:
            lines.append(why)
            break
    return "\n".join(lines)


def main() -> None:
    depth = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    gateways = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    explorer = Explorer(gateways=gateways)
    tally = explorer.run(depth)
    print(f"{tally}; {time.monotonic() - began:.0f} s")
    print("states by depth:", *tally.by_depth)
    if tally.why:
        print(told(tally.way, gateways))
        sys.exit(1)


if __name__ == "__main__":
    main()

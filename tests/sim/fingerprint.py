"""What tells two states of the small world apart: nothing that only a counter or a clock could.

Numbers of calls and sessions, past times and the judge's own counting are replaced by their rank, which keeps every
comparison that the core and the judge make; times to come by how far away they are; wall clocks and what is kept
for people only are left out.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from killswitch.domain.messages import CancelAllOrders, CancelOrder, ListOpenOrders
from tests.sim.gateway import Connection
from tests.sim.link import Link
from tests.sim.small import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.judge import Life
    from tests.sim.small import SmallWorld

EMPTIES_MAX = 3  # more empty rounds than the policy asks for change nothing
LOOKS_MAX = 4  # nor do lists before those that it asks for
LEFT_OUT = {"wall", "up_at", "tripped_wall", "verified_wall", "causes", "calls", "text", "why", "name", "oms", "by"}
KIND = {
    "call": "call", "number": "call", "began_call": "call", "mark": "call", "sighted": "call", "users_asked": "call",
    "answered": "call", "session": "session", "asked_at": "time", "ended_at": "time", "sent_at": "time",
    "not_before": "time", "ask_at": "time", "singles_at": "time", "refused_at": "time", "round_ended_at": "time",
    "next_at": "time", "ghosts": "calls", "twin": "call", "cancelled": "call", "cancels_hang": "call",
    "lists_hang": "call",
}  # fmt: skip


class Mark:
    """A number of which only its place among the others of its kind counts."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: float) -> None:
        self.kind, self.value = kind, value


_FIELDS: dict[type, tuple[tuple[str, str | None], ...]] = {}


def _known(cls: type) -> tuple[tuple[str, str | None], ...]:
    names = _FIELDS.get(cls)
    if names is None:
        kept = [f.name for f in fields(cls) if f.name not in LEFT_OUT]
        kinds = {**KIND, "number": "session"} if cls.__name__ == "Session" else KIND
        names = _FIELDS[cls] = tuple((name, kinds.get(name)) for name in kept)
    return names


def _value(value: Any) -> Any:
    """A value of the core, with its numbers marked by the names of their fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(_field(getattr(value, name), kind) for name, kind in _known(type(value))))
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, frozenset | set):
        return frozenset(_value(v) for v in value)
    if isinstance(value, tuple | list):
        return tuple(_value(v) for v in value)
    return value


def _field(value: Any, kind: str | None) -> Any:
    if kind is None or value is None:
        return _value(value)
    if kind == "calls":
        return tuple(Mark("call", v) for v in value)
    return Mark(kind, value)


def _call(number: int) -> Mark:
    return Mark("call", number)


def _core(world: SmallWorld) -> Any:
    parts = world.core._parts
    book, sweeper = parts.book, parts.sweeper
    wakes = []
    for what, when in parts.agenda._when.items():
        named = (what[0], _call(what[1])) if what[0] in ("call", "hedge") else _value(what)  # type: ignore[index]
        wakes.append((named, Mark("time", when)))
    own = {k: v for k, v in vars(world.core).items() if k not in _PLAIN}
    return (
        tuple(_value(s) for s in book.sessions.values()),
        tuple(_value(c) for c in book.calls.values()),
        tuple((k, _value(v)) for k, v in book.listed.items()),
        tuple((k, _call(v.call), v.left) for k, v in book.sightings.working.items()),
        frozenset((k, _call(v.call), v.told, v.left) for k, v in book.sightings.over.items()),
        _call(book.next_call),
        tuple(_trip(t) for t in parts.trips.values()),
        frozenset((_value(k), _value(v)) for k, v in sweeper.lanes._lanes.items()),
        frozenset(wakes),
        frozenset(k for k, _ in parts.outbox._held.items()),
        tuple(sorted((k, _value(v)) for k, v in own.items())),
    )


_PLAIN = {"_parts", "_life", "_alarms", "_people", "_tickers", "_links", "_reload", "_picture"}


def _trip(trip: Any) -> Any:
    sweep = trip.sweep
    carried = frozenset((Mark("session", s), _value(scope)) for s, scope in sweep.carried)
    values = [
        _field(getattr(sweep, name), kind)
        for name, kind in _known(type(sweep))
        if name not in {"carried", "rounds", "empties"}
    ]
    ghosts = tuple(_call(n) for n in trip.ghosts)
    return (
        trip.id,
        trip.state.value,
        trip.outcome,
        trip.confirmed_once,
        ghosts,
        carried,
        sweep.rounds > 0,
        min(sweep.empties, EMPTIES_MAX),
        *values,
    )


def _step(what: Callable[[], None]) -> Any:
    """Something that waits: what it calls, and with what."""
    held = [cell.cell_contents for cell in what.__closure__ or ()]
    return (kind_of(what), what.__code__.co_firstlineno, *(_held(v) for v in held))


def _held(value: Any) -> Any:
    match value:
        case Connection():
            return (Mark("session", value.session), value.alive, value.silent)
        case Link():
            return value.gateway
        case CancelAllOrders() | CancelOrder() | ListOpenOrders():
            return _value(value)
        case _ if is_dataclass(value):
            return _value(value) if type(value).__module__.startswith("killswitch") else getattr(value, "order_id", "")
        case int() | float() | str() | None:
            return value
        case _:
            return type(value).__name__


def _links(world: SmallWorld) -> Any:
    found = []
    for link in world.links:
        held = link.connection
        if held is None:
            found.append((link.gateway,))
            continue
        pending = frozenset(_call(n) for n in held.pending)
        unsent = tuple(_call(c.call) for c in held.unsent)
        found.append((link.gateway, Mark("session", held.session), pending, unsent, held.writing, held.silent))
    return tuple(found)


def _judge(world: SmallWorld) -> Any:
    """What the judge will still hold against the core: its latches, and the lists and cancels that could count."""
    judge = world.judge
    life: Life = judge.life
    last = min((c.order for c in life.cancels[-2:]), default=0)
    looks = [look for look in life.looks.values() if look.heard is None or look.written_order > last][-LOOKS_MAX:]
    carried = {(c.session, c.what): c.order for c in life.cancels}
    return (
        tuple((t, s) for t, s in judge.states.items()),
        tuple(sorted(judge.over)),
        frozenset(_hanging(n, life) for n in life.unanswered),
        frozenset((Mark("session", s), Mark("time", up)) for s, up in life.up_at.items()),
        frozenset(life.seen),
        life.refused,
        frozenset((Mark("session", s), what, Mark("order", n)) for (s, what), n in carried.items()),
        tuple(
            (
                _call(look.call.call),
                Mark("session", look.call.session),
                Mark("order", look.written_order),
                None if look.truth is None else tuple(o.order_id for o in look.truth),
                None if look.heard is None else (Mark("order", look.heard_order), len(look.heard.orders)),
            )
            for look in looks
        ),
    )


def _hanging(number: int, life: Life) -> Any:
    mine = life.handed[number]
    twin = any(h.session != mine.session and h.what == mine.what for n, h in life.handed.items() if n > number)
    return (_call(number), Mark("session", mine.session), Mark("time", mine.at), mine.checked, twin)


def fingerprint(world: SmallWorld) -> int:
    """The same number for states from which the same follows."""
    exchange = world.exchanges["prime"]
    tree = (
        _core(world),
        tuple((o.order_id, o.open) for o in exchange.orders.values()),
        tuple(_step(what) for what in world.waiting),
        _links(world),
        _judge(world),
        world.running,
        frozenset(world.pressed),
    )
    return hash(_ranked(tree, world.now))


def _ranked(tree: Any, now: float) -> Any:
    marks: dict[str, set[float]] = {}
    _gather(tree, marks)
    ranks: dict[str, dict[float, Any]] = {
        kind: {value: place for place, value in enumerate(sorted(values))} for kind, values in marks.items()
    }
    ranks["time"] = {
        value: ("in", round(value - now, 6)) if value > now else place for value, place in ranks.get("time", {}).items()
    }
    return _rewrite(tree, ranks)


def _gather(tree: Any, marks: dict[str, set[float]]) -> None:
    if type(tree) is Mark:
        marks.setdefault(tree.kind, set()).add(tree.value)
    elif type(tree) in (tuple, frozenset):
        for part in tree:
            _gather(part, marks)


def _rewrite(tree: Any, ranks: dict[str, dict[float, Any]]) -> Any:
    if type(tree) is Mark:
        return (tree.kind, ranks[tree.kind][tree.value])
    if type(tree) is tuple:
        return tuple(_rewrite(part, ranks) for part in tree)
    if type(tree) is frozenset:
        return frozenset(_rewrite(part, ranks) for part in tree)
    return tree

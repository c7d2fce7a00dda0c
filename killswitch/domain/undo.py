"""All or nothing: the tables of the core remember what they held, so that an exception changes nothing.

`handle` commits at its end. Everything that it changes lives in a Table (frozen values under keys) or in the
Agenda; when anything raises in the middle, `rollback` puts back what was there.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

K = TypeVar("K")
V = TypeVar("V")
_MISSING: Final = object()


class Undo:
    """The log of what the tables that share it held before the change under way."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def note(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def commit(self) -> None:
        self._steps.clear()

    def rollback(self) -> None:
        while self._steps:
            self._steps.pop()()


class Table(Generic[K, V]):
    """A dict of frozen values whose changes can be taken back. Iterates over a copy of its keys."""

    __slots__ = ("_held", "_undo")

    def __init__(self, undo: Undo) -> None:
        self._held: dict[K, V] = {}
        self._undo = undo

    def __getitem__(self, key: K) -> V:
        return self._held[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._remember(key)
        self._held[key] = value

    def __delitem__(self, key: K) -> None:
        self._remember(key)
        del self._held[key]

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._held))

    def get(self, key: K) -> V | None:
        return self._held.get(key)

    def pop(self, key: K) -> V | None:
        """Take out and return; None where nothing is held."""
        if key not in self._held:
            return None
        self._remember(key)
        return self._held.pop(key)

    def values(self) -> tuple[V, ...]:
        return tuple(self._held.values())

    def items(self) -> tuple[tuple[K, V], ...]:
        return tuple(self._held.items())

    def drop(self, unwanted: Callable[[K], bool]) -> None:
        """Take out every entry whose key is unwanted."""
        for key in [key for key in self._held if unwanted(key)]:
            self.pop(key)

    def _remember(self, key: K) -> None:
        held, before = self._held, self._held.get(key, cast("Any", _MISSING))

        def back() -> None:
            if before is _MISSING:
                held.pop(key, None)
            else:
                held[key] = before

        self._undo.note(back)


class Recent(Table[K, V]):
    """A table that holds so many at most: what is put in beyond that pushes out what was put in first.

    For what may be forgotten; whoever makes one says what happens then. Setting a key again leaves it its place.
    """

    __slots__ = ("_limit",)

    def __init__(self, undo: Undo, limit: int) -> None:
        super().__init__(undo)
        self._held = OrderedDict()  # takes its first out without looking for it; a dict would look longer and longer
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self._held) <= self._limit:
            return
        held = cast("OrderedDict[K, V]", self._held)
        oldest, gone = held.popitem(last=False)

        def back() -> None:
            held[oldest] = gone
            held.move_to_end(oldest, last=False)

        self._undo.note(back)


class Queue(Generic[V]):
    """A queue of frozen values whose changes can be taken back, for what a Table would need a key a value."""

    __slots__ = ("_held", "_undo")

    def __init__(self, undo: Undo) -> None:
        self._held: deque[V] = deque()
        self._undo = undo

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[V]:
        """The values, oldest first; it must not be changed meanwhile."""
        return iter(self._held)

    def copy(self) -> Queue[V]:
        """Another queue that holds the same now."""
        other: Queue[V] = Queue(self._undo)
        other._held.extend(self._held)
        return other

    def first(self) -> V | None:
        return self._held[0] if self._held else None

    def last(self) -> V | None:
        return self._held[-1] if self._held else None

    def append(self, value: V) -> None:
        self._held.append(value)
        self._undo.note(self._held.pop)

    def pop(self) -> V:
        """Take the newest out. Raises IndexError where there is none."""
        value = self._held.pop()
        self._undo.note(lambda: self._held.append(value))
        return value

    def popleft(self) -> V:
        """Take the oldest out. Raises IndexError where there is none."""
        value = self._held.popleft()
        self._undo.note(lambda: self._held.appendleft(value))
        return value


class Agenda:
    """The one heap of (when, what). Each `what` has at most one time; setting it again moves it."""

    def __init__(self, undo: Undo) -> None:
        self._when: Table[Hashable, float] = Table(undo)
        self._heap: list[tuple[float, int, Hashable]] = []
        self._order = 0  # ties are taken in the order in which they were set
        self._undo = undo

    def set(self, what: Hashable, when: float) -> None:
        if self._when.get(what) == when:
            return
        self._repush_on_rollback(what)
        self._when[what] = when
        self._push(what, when)

    def clear(self, what: Hashable) -> None:
        self._repush_on_rollback(what)
        self._when.pop(what)

    def drop(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Clear every entry that is unwanted."""
        for what in self._when:
            if unwanted(what):
                self.clear(what)

    def when(self, what: Hashable) -> float | None:
        return self._when.get(what)

    def due(self) -> float | None:
        """The earliest time; entries that were moved or cleared fall off the heap here."""
        while self._heap:
            when, _, what = self._heap[0]
            if self._when.get(what) == when:
                return when
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> Hashable | None:
        """Take out the earliest entry that is due at `now`, or None."""
        when = self.due()
        if when is None or when > now:
            return None
        _, _, what = heapq.heappop(self._heap)
        self._undo.note(lambda: self._push(what, when))
        del self._when[what]
        return what

    def _repush_on_rollback(self, what: Hashable) -> None:
        # A rollback restores the table of times; by then `due` may have dropped the entry from the heap.
        before = self._when.get(what)
        if before is not None:
            self._undo.note(lambda: self._push(what, before))

    def _push(self, what: Hashable, when: float) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, what))

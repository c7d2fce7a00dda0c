"""What waits to be published while the broker is slow or away.

Retained topics keep their newest payload only, and all of them are published again at each connect. Receipts
and events wait in order, a thousand together: at that limit the oldest event is dropped, and only when there
is none the oldest receipt; `dropped` counts both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message. `make` writes its payload only when it leaves: a newer one may replace it before.

    `then`: what may be done once it is with the broker, or once it is certain that it never will be.
    """

    topic: str
    make: Callable[[], bytes]
    kind: str  # retained, receipt or event
    then: Callable[[], None] | None = None

    def over(self) -> None:
        if self.then is not None:
            self.then()


def _nothing() -> bytes:
    return b""


class Outbox:
    """Takes without waiting; gives one parcel at a time, receipts first, then retained topics, then events."""

    def __init__(self) -> None:
        self.dropped = 0
        self._retained: dict[str, Callable[[], bytes]] = {}
        self._changed: dict[str, None] = {}  # in the order in which they changed
        self._receipts: deque[Parcel] = deque()
        self._events: deque[Parcel] = deque()
        self._out: Parcel | None = None
        self._something = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __contains__(self, topic: str) -> bool:
        """Whether a retained topic is ours to say something about."""
        return topic in self._retained

    def retain(self, topic: str, make: Callable[[], bytes]) -> None:
        self._retained[topic] = make
        self._changed.pop(topic, None)
        self._changed[topic] = None
        self._stir()

    def clear(self, topic: str) -> None:
        """Take a retained topic from the broker; it is forgotten here once that is done."""
        self.retain(topic, _nothing)

    def receipt(self, topic: str, make: Callable[[], bytes], then: Callable[[], None] | None = None) -> None:
        self._receipts.append(Parcel(topic, make, "receipt", then))
        self._trim()

    def event(self, topic: str, make: Callable[[], bytes]) -> None:
        self._events.append(Parcel(topic, make, "event"))
        self._trim()

    def renew(self, topic: str | None = None) -> None:
        """Publish a retained topic again, or all of them: a broker or a will may have put others there."""
        for name in self._retained if topic is None else (topic,):
            if name in self._retained:
                self._changed[name] = None
        self._stir()

    async def take(self) -> Parcel:
        """The next parcel. It must come back by `done` or `back` before the next is taken."""
        while True:
            parcel = self._next()
            if parcel is not None:
                self._out = parcel
                return parcel
            self._something.clear()
            await self._something.wait()

    def done(self, parcel: Parcel) -> None:
        """It is with the broker."""
        self._out = None
        if parcel.make is _nothing and self._retained.get(parcel.topic) is _nothing:
            del self._retained[parcel.topic]
        self._stir()
        parcel.over()

    def back(self, parcel: Parcel) -> None:
        """It isn't: it waits again, where it stood."""
        self._out = None
        if parcel.kind == "receipt":
            self._receipts.appendleft(parcel)
        elif parcel.kind == "event":
            self._events.appendleft(parcel)
        elif parcel.topic in self._retained:
            self._changed[parcel.topic] = None
        self._trim()

    async def empty(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    def _next(self) -> Parcel | None:
        if self._receipts:
            return self._receipts.popleft()
        if self._changed:
            topic = next(iter(self._changed))
            del self._changed[topic]
            return Parcel(topic, self._retained[topic], "retained")
        return self._events.popleft() if self._events else None

    def _trim(self) -> None:
        while len(self._receipts) + len(self._events) > LIMIT:
            (self._events or self._receipts).popleft().over()
            self.dropped += 1
        self._stir()

    def _stir(self) -> None:
        waiting = bool(self._receipts or self._changed or self._events)
        if waiting:
            self._something.set()
        if waiting or self._out is not None:
            self._empty.clear()
        else:
            self._empty.set()

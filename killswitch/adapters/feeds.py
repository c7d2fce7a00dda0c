"""Readings from a WebSocket: a connection for each feed, kept for ever.

Nobody keeps for us what was sent while we were away. Messages are read as fast as they come; what then waits
for the loop is bounded (domain/backlog.py). Whether the *readings* stop is judged by the core (stale_after_s);
here it is only seen whether the connection lives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, RetryCallState, wait_exponential, wait_random

from killswitch.adapters.websocket import (
    FOREIGN_ERRORS,
    ConnectionClosed,
    abort,
    close,
    in_words,
    open_socket,
    read_message,
)
from killswitch.domain.backlog import Backlog
from killswitch.domain.messages import FeedDown, FeedUp
from killswitch.wire.feed import StreamShape, read_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from killswitch.adapters.websocket import Connection
    from killswitch.domain.messages import Event
    from killswitch.wire.feed import StreamHeart

MESSAGE_BYTES_MAX: Final = 2 * 2**20
"""Twice the longest message that is read (wire/feed.py): one a bit too long is a bad reading, counted, and
doesn't cost the connection."""
FRAMES_MAX: Final = 64
"""Frames that wait while a long message is read; with the size it bounds what a source can make us hold."""
SLICE: Final = 200
"""Readings in one go; then the loop has its turn, so that a flood doesn't hold up a cancel."""

# 100 ms, doubling up to 5 s, so that a source is back within seconds of its return. The jitter is stated, because
# the library's own is a whole second; it keeps several feeds and daemons from knocking in step.
_WAIT: Final = wait_exponential(multiplier=0.1, exp_base=2, max=5) + wait_random(min=0, max=0.2)
_NOTHING_RETRIED: Final = AsyncRetrying()

log = logging.getLogger("killswitch.feeds")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds.

    A source without traffic of its own is pinged after `ping_after_s` without a byte (RFC 6455, 5.5.2: it must
    answer with a pong), and counts as gone after `dead_after_s` without one. A connection that stood for
    `steady_s` is tried again at once; one that ended sooner, accepted and closed, counts as a failure.
    """

    subscribe_s: float = 5.0
    ping_after_s: float = 3.0
    dead_after_s: float = 8.0
    beat_s: float = 0.5
    steady_s: float = 10.0


def wait_s(failures: int) -> float:
    """Seconds to wait after the `failures`-th attempt in a row (from 1 on) that gave no lasting connection."""
    state = RetryCallState(_NOTHING_RETRIED, None, (), {})
    state.attempt_number = min(failures, 100)  # years of attempts must not become a number of a million bits
    return _WAIT(state)


class WebSocketFeed:
    """One feed's link. `run` connects for ever; the feed is up once what it subscribes is sent.

    `subscribe`: text messages, sent after each connect in this order. `submit` must not block.
    """

    def __init__(
        self,
        *,
        url: str,
        subscribe: Sequence[str],
        shape: StreamShape | StreamHeart,
        submit: Callable[[Event], None],
        wall: Callable[[], float] = time.time,
        patience: Patience | None = None,
    ) -> None:
        self._url, self._subscribe, self._shape = url, tuple(subscribe), shape
        self._submit, self._wall = submit, wall
        self._patience = patience or Patience()
        self._backlog = Backlog()
        self._some = asyncio.Event()  # something waits in it
        self._told = ""  # why it is down, as last reported
        self._reading = False  # a message is being read, so that silence is ours
        self._ending = ""  # why we gave the connection up
        self._others = 0  # messages of this connection that held no reading

    @property
    def conflated(self) -> int:
        """Readings that were merged, since too many waited."""
        return self._backlog.conflated

    async def run(self) -> None:
        """Connect, and again, until cancelled."""
        async with asyncio.TaskGroup() as group:  # an error of ours in either ends the process
            group.create_task(self._hand_over())
            group.create_task(self._connect_for_ever())

    # --- the connection ------------------------------------------------------------------------------------

    async def _connect_for_ever(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            began = clock()
            why = await self._connect_once()
            failures = 1 if clock() - began >= self._patience.steady_s else failures + 1
            if why != self._told:  # once for each reason, not for each attempt
                self._told = why
                log.warning("feed %s is down: %s", self._shape.name, why)
                self._submit(FeedDown(wall=self._wall(), feed=self._shape.name, why=why))
            await asyncio.sleep(wait_s(failures))

    async def _connect_once(self) -> str:
        """One connection, from its opening to its end; why it ended."""
        try:
            socket = await open_socket(
                self._url, bytes_max=MESSAGE_BYTES_MAX, frames_max=FRAMES_MAX, log="killswitch.feeds"
            )
        except FOREIGN_ERRORS as error:
            return in_words(error, "the source")
        self._ending, self._others = "", 0
        try:
            why = await self._say(socket) or await self._listen(socket)
        finally:
            await close(socket)
        return self._ending or why

    async def _say(self, socket: Connection) -> str:
        """Send what is subscribed, and be up; "" or why that failed."""
        try:
            async with asyncio.timeout(self._patience.subscribe_s):
                for text in self._subscribe:
                    await socket.send(text)
        except ConnectionClosed as error:
            return in_words(error, "the source")
        except TimeoutError:
            abort(socket)
            return f"it didn't take our subscriptions within {self._patience.subscribe_s:g} s"
        self._told = ""
        log.info("feed %s is up", self._shape.name)
        self._submit(FeedUp(wall=self._wall(), feed=self._shape.name))
        return ""

    async def _listen(self, socket: Connection) -> str:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(socket))
            why = await self._read(socket)
            watch.cancel()
        return why

    async def _watch(self, socket: Connection) -> None:
        """Ping when nothing is heard, and give the connection up when not even a byte comes."""
        clock, patience = asyncio.get_running_loop().time, self._patience
        before, seen, silent_s, pinged = clock(), socket.bytes_heard, 0.0, False
        while True:
            await asyncio.sleep(patience.beat_s)
            now = clock()
            # After our own process stood still, what lies in the socket is read before silence counts.
            silent_s += min(now - before, 2 * patience.beat_s)
            before = now
            # While messages wait for us the library may have stopped reading: that silence is not the source's.
            if socket.bytes_heard != seen or self._reading:
                seen, silent_s, pinged = socket.bytes_heard, 0.0, False
            if silent_s >= patience.dead_after_s:
                self._ending = f"half-open: not a byte for {patience.dead_after_s:g} s"
                abort(socket)
                return
            if silent_s >= patience.ping_after_s and not pinged:
                pinged = True
                try:
                    async with asyncio.timeout(patience.beat_s):
                        await socket.ping()
                except (TimeoutError, ConnectionClosed):
                    pass  # it can't even be written: the silence goes on, or the reader hears the end

    # --- reading -------------------------------------------------------------------------------------------

    async def _read(self, socket: Connection) -> str:
        """Read until the connection ends, and say why it did."""
        while True:
            try:
                message = await read_message(socket)
            except ConnectionClosed as error:
                return in_words(error, "the source")
            self._reading = True
            await self._hear(message)
            self._reading = False

    async def _hear(self, message: bytes) -> None:
        """One message's readings, with a breath after each slice and at the end: the next may be there already."""
        wall, found = self._wall(), False
        some: list[Event] = []
        for reading in read_stream(self._shape, message, wall=wall):
            found = True
            some.append(reading)
            if len(some) >= SLICE:
                self._keep(some)
                some = []
                await asyncio.sleep(0)
        self._keep(some)
        if not found and isinstance(self._shape, StreamShape):
            self._others += 1
            if self._others == 1:
                # Most sources acknowledge a subscription. Not a word of it is shown: it may quote what we sent.
                log.info("feed %s: a message held no %s; more are not told", self._shape.name, self._shape.reading)
        await asyncio.sleep(0)

    def _keep(self, readings: Sequence[Event]) -> None:
        if self._backlog.put(readings):
            merged = self._backlog.conflated
            log.warning("readings come faster than they are judged: they are merged, %d so far", merged)
        self._some.set()

    async def _hand_over(self) -> None:
        while True:
            if not self._backlog:
                self._some.clear()
                await self._some.wait()
            for reading in self._backlog.take(SLICE):
                self._submit(reading)
            await asyncio.sleep(0)

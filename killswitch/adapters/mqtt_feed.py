"""The feed link: readings over MQTT, on a client of its own with a clean session.

What was published while we were away is old: nobody keeps it for us. Messages are read where the socket
hands them over; what then waits for the loop is bounded (domain/backlog.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final, TypeAlias

import aiomqtt

from killswitch.adapters import mqtt_session
from killswitch.adapters.mqtt_session import Backoff, Broker, connected, in_words
from killswitch.domain.backlog import Backlog
from killswitch.domain.messages import FeedDown, FeedUp
from killswitch.wire.feed import read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from killswitch.domain.messages import Event
    from killswitch.wire.feed import FeedShape, HeartShape

    Shape: TypeAlias = FeedShape | HeartShape

SLICE: Final = 200
"""Readings handed over in one go; then the loop has its turn, so that a flood doesn't hold up a cancel."""
TOPICS_MAX: Final = 10_000
SUBSCRIBE_AGAIN_S: Final = 5.0

log = logging.getLogger("killswitch.mqtt")


class FeedLink:
    """The daemon's feed client. `run` connects for ever; a feed is up while its topic is subscribed."""

    def __init__(
        self,
        *,
        broker: Broker,
        name: str,
        feeds: Sequence[Shape],
        submit: Callable[[Event], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        mqtt_session.check_library()
        self._broker, self._identifier = broker, f"killswitch-{name}-feeds-{secrets.token_hex(4)}"
        self._feeds, self._submit, self._wall = tuple(feeds), submit, wall
        self._backlog = Backlog()
        self._some = asyncio.Event()  # something waits in it
        self._told: dict[str, str] = {}  # feed -> why it is down, as last reported
        self._of_topic: dict[str, tuple[Shape, ...]] = {}
        self._changed = asyncio.Event()  # other feeds are wanted
        self._new: set[str] = set()  # feeds to subscribe
        self._gone: set[str] = set()  # topics to let go of

    @property
    def conflated(self) -> int:
        """Readings that were merged, since too many waited."""
        return self._backlog.conflated

    async def run(self) -> None:
        """Connect, and again, until cancelled."""
        async with asyncio.TaskGroup() as group:  # an error of ours in either ends the process
            group.create_task(self._hand_over())
            group.create_task(self._connect_for_ever())

    def change(self, feeds: Sequence[Shape]) -> None:
        """Read these feeds from now on: those that are the same go on undisturbed."""
        before, self._feeds = self._feeds, tuple(feeds)
        self._of_topic.clear()
        gone = frozenset(feed.name for feed in before if feed not in self._feeds)
        self._backlog.forget(gone)
        for name in gone:
            self._told.pop(name, None)
        self._new = {feed.name for feed in self._feeds if feed.name in self._new or feed not in before}
        wanted = {feed.subscription for feed in self._feeds}
        self._gone = (self._gone | {feed.subscription for feed in before}) - wanted
        self._changed.set()

    def sign_in_as(self, broker: Broker) -> None:
        """From the next connection on: the present one stands."""
        self._broker = broker

    async def _connect_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            try:
                await self._connect_once()
            except aiomqtt.MqttError as error:
                for feed in self._feeds:
                    self._down(feed, in_words(error))
            await backoff.wait(time.monotonic() - began)

    async def _connect_once(self) -> None:
        """One connection, until it ends: always by an error."""
        arrive = self._arrive

        class Straight(asyncio.Queue[aiomqtt.Message]):
            """No queue: each message is read where the socket hands it over, as fast as it is decoded."""

            def put_nowait(self, item: aiomqtt.Message) -> None:
                arrive(item)

        async with connected(self._broker, identifier=self._identifier, queue_type=Straight) as client:
            self._new, self._gone = set(), set()
            self._changed.clear()
            refused = await self._subscribe(client, self._feeds)
            again = asyncio.create_task(self._tend(client, refused))
            try:
                async for _ in client.messages:  # nothing comes this way; it raises when the link is lost
                    pass
            finally:
                again.cancel()
                await asyncio.gather(again, return_exceptions=True)

    async def _subscribe(self, client: aiomqtt.Client, feeds: Sequence[Shape]) -> tuple[Shape, ...]:
        """Ask for these feeds' topics; say which are up; return those that the broker refused."""
        topics = tuple(dict.fromkeys(feed.subscription for feed in feeds))
        refused = await mqtt_session.subscribe(client, topics, 1)
        for feed in feeds:
            if feed.subscription in refused:
                self._down(feed, f"the broker doesn't let us subscribe to {feed.subscription} with QoS 1")
            else:
                self._told.pop(feed.name, None)
                self._submit(FeedUp(wall=self._wall(), feed=feed.name))
        return tuple(feed for feed in feeds if feed.subscription in refused)

    async def _tend(self, client: aiomqtt.Client, refused: tuple[Shape, ...]) -> None:
        """Ask again for what was refused, and for what a reload brings; let go of what it takes away."""
        while True:
            try:
                async with asyncio.timeout(SUBSCRIBE_AGAIN_S if refused else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            gone, self._gone = self._gone, set()
            new, self._new = self._new, set()
            wanted = tuple(feed for feed in self._feeds if feed in refused or feed.name in new)
            try:
                await mqtt_session.unsubscribe(client, sorted(gone))
                refused = await self._subscribe(client, wanted)
            except aiomqtt.MqttError:
                return  # the link is lost, or hangs: its own error says so

    def _down(self, feed: Shape, why: str) -> None:
        """Report it once for each reason, not for each attempt."""
        if self._told.get(feed.name) != why:
            self._told[feed.name] = why
            self._submit(FeedDown(wall=self._wall(), feed=feed.name, why=why))

    def _arrive(self, message: aiomqtt.Message) -> None:
        topic, payload, retained, wall = message.topic.value, message.payload, message.retain, self._wall()
        for feed in self._feeds_of(topic):
            if self._backlog.put(read(feed, topic, bytes(payload), retained=retained, wall=wall)):
                merged = self._backlog.conflated
                log.warning("readings come faster than they are judged: they are merged, %d so far", merged)
        self._some.set()

    def _feeds_of(self, topic: str) -> tuple[Shape, ...]:
        found = self._of_topic.get(topic)
        if found is None:
            if len(self._of_topic) >= TOPICS_MAX:
                self._of_topic.clear()
            found = tuple(feed for feed in self._feeds if feed.matches(topic))
            self._of_topic[topic] = found
        return found

    async def _hand_over(self) -> None:
        while True:
            if not self._backlog:
                self._some.clear()
                await self._some.wait()
            for reading in self._backlog.take(SLICE):
                self._submit(reading)
            await asyncio.sleep(0)

"""A flood of readings must not hold up a cancel: the links give others their turn after each message and slice."""

import asyncio
import json

from killswitch.adapters.feeds import SLICE, WebSocketFeed
from killswitch.adapters.mqtt_feed import SLICE as MQTT_SLICE
from killswitch.adapters.mqtt_feed import FeedLink
from killswitch.domain.messages import Reading
from killswitch.wire.feed import FeedShape, StreamShape
from tests.mosquitto import broker_of


class Turns:
    """How often somebody else had a turn, from now until the end of the block."""

    async def __aenter__(self):
        self.count = 0
        self._other = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *_):
        self._other.cancel()

    async def _turn(self):
        while True:
            self.count += 1
            await asyncio.sleep(0)


def stream():
    shape = StreamShape(name="desk", reading="margin", value="rows.margin")
    return WebSocketFeed(url="ws://127.0.0.1:1/", subscribe=(), shape=shape, submit=lambda _: None)


def rows(count):
    return json.dumps({"rows": [{"margin": n} for n in range(count)]}).encode()


async def test_after_each_message_of_a_websocket_others_have_their_turn():
    feed = stream()
    async with Turns() as turns:
        for n, message in enumerate((rows(1), b'{"op":"pong"}', b"no JSON", rows(1))):
            await feed._hear(message)
            assert turns.count > n


async def test_within_a_long_message_of_a_websocket_others_have_their_turn():
    feed = stream()
    async with Turns() as turns:
        await feed._hear(rows(5 * SLICE))
        assert turns.count >= 5


async def test_what_waits_is_handed_over_by_the_slice():
    handed = []
    shape = FeedShape(name="var", topic="risk", reading="var")

    class Nowhere:
        url = "mqtt://127.0.0.1:1"

    link = FeedLink(
        broker=broker_of(Nowhere), name="ks-a", feeds=(shape,), submit=lambda event: handed.append(turns.count)
    )
    link._backlog.put(
        Reading(wall=0.0, feed="var", name="var", labels=(), value=float(n)) for n in range(5 * MQTT_SLICE)
    )
    async with Turns() as turns:
        handing = asyncio.create_task(link._hand_over())
        async with asyncio.timeout(30):
            while len(handed) < 5 * MQTT_SLICE:
                await asyncio.sleep(0)
        handing.cancel()
    assert len(set(handed)) >= 5

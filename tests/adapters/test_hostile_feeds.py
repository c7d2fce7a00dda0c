"""Payloads that hypothesis finds, through the feeds' real links: none passes for a value, the next good one does."""

import asyncio

import pytest

from killswitch.domain.messages import BadReading, FeedDown, FeedUp, Reading
from killswitch.wire.feed import FeedShape, StreamShape
from tests.adapters.test_feeds import Source, WebSocketFeed
from tests.adapters.test_mqtt_feed import fed
from tests.hostile import GOOD, malformed
from tests.mosquitto import Inbox, client_of, running_mosquitto  # noqa: F401 a fixture

COUNT = 250
PATHS = {"reading": "var", "value": "v", "labels": {"account": "acct"}, "time": "ts"}
SHAPE = FeedShape(name="var", topic="risk/var", **PATHS)
STREAM = StreamShape(name="var", **PATHS)


@pytest.mark.mosquitto
async def test_no_malformed_payload_over_mqtt_passes_for_a_value_or_ends_the_link(mosquitto):
    payloads = malformed(COUNT)
    async with fed(mosquitto, SHAPE) as (_, inbox):
        await inbox.until(lambda box: box.of(FeedUp))
        async with client_of(mosquitto) as client:
            for payload in payloads:
                await client.publish("risk/var", payload, qos=1)
            await client.publish("risk/var", GOOD, qos=1)
        await inbox.until(lambda box: box.of(Reading))
        assert [r.value for r in inbox.of(Reading)] == [51.0]
        assert len(inbox.of(BadReading)) == COUNT
        assert isinstance(inbox.events[-1], Reading)
        assert not inbox.of(FeedDown)


async def test_no_malformed_message_of_a_websocket_passes_for_a_value_or_ends_the_link():
    payloads = malformed(COUNT)
    source, inbox = Source(), Inbox()
    port = await source.start()
    feed = WebSocketFeed(url=f"ws://127.0.0.1:{port}/", subscribe=(), shape=STREAM, submit=inbox)
    running = asyncio.create_task(feed.run())
    await inbox.until(lambda box: box.of(FeedUp) and source.connections)
    for payload in payloads:
        await source.connections[0].send(payload)
    await source.connections[0].send(GOOD)
    await inbox.until(lambda box: box.of(Reading))
    assert [r.value for r in inbox.of(Reading)] == [51.0]
    assert isinstance(inbox.events[-1], Reading)
    # What holds nothing of a reading may be an acknowledgement: that is no bad reading here.
    assert COUNT / 2 < len(inbox.of(BadReading)) <= COUNT
    assert not inbox.of(FeedDown)
    assert len(source.connections) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await source.stop()

"""The MQTT links against a broker that does what none should: nothing of it may hold up a command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from killswitch.adapters.mqtt import CommandLink
from killswitch.adapters.mqtt_feed import FeedLink
from killswitch.adapters.mqtt_session import Broker
from killswitch.domain.messages import BrokerDown, FeedDown, Reading, RetainedTripFound
from killswitch.wire.feed import FeedShape
from tests.adapters.bare_broker import BareBroker
from tests.mosquitto import Inbox, eventually

COMMAND_CLIENT = "killswitch-ks-a"
NO_TOPICS = [b"\xff\xfe/x", b"", b"a/+/#"]


def command(name):
    said = {"id": name, "scope": {"oms": "prime", "account": 14}, "by": "alice", "reason": "test"}
    return json.dumps(said).encode()


@contextlib.asynccontextmanager
async def running(link):
    task = asyncio.create_task(link.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def command_link(broker, submit):
    return CommandLink(broker=broker, name="ks-a", prefix="killswitch", submit=submit)


@pytest.mark.parametrize("topic", NO_TOPICS)
async def test_a_delivery_whose_topic_is_none_is_acknowledged_and_the_next_command_works(topic):
    def deliveries(client, five):
        if client == COMMAND_CLIENT:
            yield BareBroker.delivery(topic, b"junk", 7, five=five)
            yield BareBroker.delivery(b"killswitch/command/trip", command("p1"), 8, five=five)

    inbox, began = Inbox(), time.process_time()
    async with BareBroker(deliveries) as broker, running(command_link(broker.address, inbox)):
        await inbox.until(lambda box: "p1" in box.ids())
        await eventually(lambda: asyncio.sleep(0, 7 in broker.acknowledged))
        assert broker.connections.count(COMMAND_CLIENT) == 1
    await asyncio.sleep(0.3)
    assert time.process_time() - began < 3, "something spins"


@pytest.mark.parametrize("topic", [t for t in NO_TOPICS if t])  # an empty one ends a connection of 3.1.1
async def test_a_delivery_whose_topic_is_none_does_not_stop_a_feed(topic):
    def deliveries(_client, five):
        yield BareBroker.delivery(topic, b"1", 7, five=five)
        yield BareBroker.delivery(b"risk/14/var", b"5", 8, five=five)

    shape = FeedShape(name="var", topic="risk/{account}/var", reading="var")
    inbox = Inbox()

    def link(broker):
        return FeedLink(broker=broker, name="ks-a", feeds=[shape], submit=inbox)

    async with BareBroker(deliveries) as broker, running(link(broker.address)):
        await inbox.until(lambda box: any(isinstance(e, Reading) for e in box.events))


class BrokenError(Exception):
    """An error of ours."""


def fails_on(kind):
    def submit(event):
        if isinstance(event, kind):
            raise BrokenError

    return submit


async def test_an_error_of_ours_beside_the_commands_ends_the_link():
    def deliveries(client, five):
        if "-state-" in client:
            yield BareBroker.delivery(b"killswitch/trip/old", b"junk", 7, five=five, retain=True)

    async with BareBroker(deliveries) as broker:
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(command_link(broker.address, fails_on(RetainedTripFound)).run(), 10)
        assert caught.group_contains(BrokenError)


async def test_an_error_of_ours_behind_a_feeds_backlog_ends_the_link():
    def deliveries(_client, five):
        yield BareBroker.delivery(b"risk/14/var", b"5", 8, five=five)

    shape = FeedShape(name="var", topic="risk/{account}/var", reading="var")
    async with BareBroker(deliveries) as broker:
        link = FeedLink(broker=broker.address, name="ks-a", feeds=[shape], submit=fails_on(Reading))
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(link.run(), 10)
        assert caught.group_contains(BrokenError)


@pytest.mark.parametrize("kind", [CommandLink, FeedLink])
async def test_a_certificate_that_is_not_there_for_a_while_is_a_broker_that_is_down(kind, tmp_path):
    gone = Broker(host="127.0.0.1", port=1, tls=True, ca_file=str(tmp_path / "ca.pem"))
    inbox = Inbox()
    if kind is CommandLink:
        link = command_link(gone, inbox)
    else:
        shape = FeedShape(name="var", topic="risk/{account}/var", reading="var")
        link = FeedLink(broker=gone, name="ks-a", feeds=[shape], submit=inbox)
    async with running(link) as task:
        await inbox.until(lambda box: any(isinstance(e, BrokerDown | FeedDown) for e in box.events))
        await asyncio.sleep(0.3)
        assert not task.done()
    down = next(e for e in inbox.events if isinstance(e, BrokerDown | FeedDown))
    assert "No such file" in down.why

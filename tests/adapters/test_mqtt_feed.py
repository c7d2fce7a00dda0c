"""The feed link against a real Mosquitto."""

import asyncio
import contextlib

import pytest

from killswitch.adapters.mqtt_feed import FeedLink
from killswitch.domain.messages import BadReading, Beat, FeedDown, FeedUp, Reading
from killswitch.wire.feed import FeedShape, HeartShape
from tests.mosquitto import (
    Inbox,
    Mosquitto,
    broker_of,
    client_of,
    publish,
    running_mosquitto,  # noqa: F401 a fixture
)

VAR = FeedShape(name="var", topic="risk/{account}/var", reading="var", value="v", time="ts")
PLAIN = FeedShape(name="plain", topic="margin", reading="margin")


@contextlib.asynccontextmanager
async def fed(server, *feeds, broker=None):
    inbox = Inbox()
    link = FeedLink(broker=broker or broker_of(server), name="ks-a", feeds=feeds, submit=inbox)
    running = asyncio.create_task(link.run())
    try:
        yield link, inbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def up(inbox, times=1):
    await inbox.until(lambda box: len(box.of(FeedUp)) >= times)


mosquitto_only = pytest.mark.mosquitto


@mosquitto_only
async def test_readings_arrive_in_order_and_bad_ones_too(mosquitto):
    async with fed(mosquitto, VAR, PLAIN) as (_, inbox):
        await up(inbox, 2)
        async with client_of(mosquitto) as client:
            for n in range(50):
                await client.publish("margin", str(n), qos=n % 2)
            await client.publish("risk/14/var", b'{"v":1.5,"ts":"2026-11-22T10:00:00Z"}', qos=1)
            await client.publish("risk/15/var", b'{"v":NaN}', qos=1)
            await client.publish("risk/16/17/var", b"1", qos=1)
        await inbox.until(lambda box: box.of(BadReading))
        readings = inbox.of(Reading)
        assert [r.value for r in readings if r.feed == "plain"] == [float(n) for n in range(50)]
        assert [(r.labels, r.value) for r in readings if r.feed == "var"] == [((("account", "14"),), 1.5)]
        bad = inbox.of(BadReading)
        assert [(b.feed, b.labels, b.reason) for b in bad] == [("var", (("account", "15"),), "not_json")]


@mosquitto_only
async def test_a_retained_reading_has_a_value_and_no_new_age(mosquitto):
    await publish(mosquitto, "margin", b"7", retain=True)
    async with fed(mosquitto, PLAIN) as (_, inbox):
        await inbox.until(lambda box: box.of(Reading))
        await publish(mosquitto, "margin", b"8")
        await inbox.until(lambda box: len(box.of(Reading)) == 2)
        assert [(r.value, r.fresh) for r in inbox.of(Reading)] == [(7.0, False), (8.0, True)]


@mosquitto_only
async def test_one_topic_may_feed_two_readings(mosquitto):
    shapes = [FeedShape(name=name, topic="risk", reading=name, value=name) for name in ("a", "b")]
    async with fed(mosquitto, *shapes) as (_, inbox):
        await up(inbox, 2)
        await publish(mosquitto, "risk", b'{"a":1,"b":2}')
        await inbox.until(lambda box: len(box.of(Reading)) == 2)
        assert {r.name: r.value for r in inbox.of(Reading)} == {"a": 1.0, "b": 2.0}


@mosquitto_only
async def test_a_feed_is_down_while_the_broker_is_and_up_again_after(mosquitto):
    async with fed(mosquitto, VAR, PLAIN) as (_, inbox):
        await up(inbox, 2)
        mosquitto.stop()
        await inbox.until(lambda box: {e.feed for e in box.of(FeedDown)} == {"var", "plain"})
        mosquitto.start()
        await up(inbox, 4)
        await publish(mosquitto, "margin", b"1")
        await inbox.until(lambda box: box.of(Reading))
        assert all(event.why for event in inbox.of(FeedDown))


@mosquitto_only
async def test_a_feed_whose_broker_refuses_us_is_down_and_says_so_once(tmp_path):
    server = Mosquitto(tmp_path, passwords={"ks": "right-one"}).start()
    try:
        async with fed(server, PLAIN, broker=broker_of(server, username="ks", password="hunter2")) as (_, inbox):
            await inbox.until(lambda box: box.of(FeedDown))
            await asyncio.sleep(1)
            assert [event.why for event in inbox.events] == ["the broker says: Not authorized"]
    finally:
        server.stop()


@mosquitto_only
async def test_a_flood_of_readings_comes_through_whole(mosquitto):
    async with fed(mosquitto, PLAIN) as (link, inbox):
        await up(inbox)
        async with client_of(mosquitto) as client:
            for start in range(0, 3000, 100):
                await asyncio.gather(*(client.publish("margin", str(n), qos=0) for n in range(start, start + 100)))
        await inbox.until(lambda box: len(box.of(Reading)) == 3000)
        assert link.conflated == 0


@mosquitto_only
async def test_each_message_of_a_heart_is_a_beat_and_says_whether_the_broker_had_kept_it(mosquitto):
    heart = HeartShape(name="h", topic="traders/1/beat")
    async with client_of(mosquitto) as client:
        await client.publish("traders/1/beat", b"kept", qos=1, retain=True)
        async with fed(mosquitto, heart, PLAIN) as (_, inbox):
            await up(inbox, 2)
            await inbox.until(lambda box: box.of(Beat))
            for payload in (b"", b"NaN", b"\xff" * 100):
                await client.publish("traders/1/beat", payload, qos=1)
            await client.publish("traders/2/beat", b"1", qos=1)
            await inbox.until(lambda box: len(box.of(Beat)) >= 4)
            assert [(beat.feed, beat.retained) for beat in inbox.of(Beat)] == [("h", True), *[("h", False)] * 3]
        await client.publish("traders/1/beat", b"", qos=1, retain=True)


@mosquitto_only
async def test_feeds_change_on_a_connection_that_stands_and_the_same_ones_are_not_asked_for_again(mosquitto):
    async with client_of(mosquitto) as client:
        await client.publish("margin", "1", qos=1, retain=True)
    async with fed(mosquitto, VAR, PLAIN) as (link, inbox):
        await up(inbox, 2)
        await inbox.until(lambda box: box.of(Reading))
        other = FeedShape(name="other", topic="other", reading="other")
        link.change([PLAIN, other])
        await up(inbox, 3)
        async with client_of(mosquitto) as client:
            await client.publish("risk/14/var", b'{"v":1.5}', qos=1)
            await client.publish("other", "2", qos=1)
        await inbox.until(lambda box: [r for r in box.of(Reading) if r.feed == "other"])
        assert [(r.feed, r.value) for r in inbox.of(Reading)] == [("plain", 1.0), ("other", 2.0)]
        assert [e.feed for e in inbox.of(FeedUp)] == ["var", "plain", "other"]
        assert "Received UNSUBSCRIBE" in mosquitto.log()  # the broker doesn't send what nobody reads
        assert not inbox.of(FeedDown)


@mosquitto_only
async def test_a_feed_of_the_same_name_on_another_topic_is_up_anew_and_hears_nothing_of_the_old_one(mosquitto):
    async with fed(mosquitto, PLAIN) as (link, inbox):
        await up(inbox)
        link.change([FeedShape(name="plain", topic="elsewhere", reading="margin")])
        await up(inbox, 2)
        async with client_of(mosquitto) as client:
            await client.publish("margin", "1", qos=1)
            await client.publish("elsewhere", "2", qos=1)
        await inbox.until(lambda box: box.of(Reading))
        assert [r.value for r in inbox.of(Reading)] == [2.0]


@mosquitto_only
async def test_feeds_that_changed_while_the_broker_was_away_are_asked_for_when_it_is_back(mosquitto):
    async with fed(mosquitto, PLAIN) as (link, inbox):
        await up(inbox)
        await asyncio.to_thread(mosquitto.stop)
        await inbox.until(lambda box: box.of(FeedDown))
        link.change([VAR])
        await asyncio.to_thread(mosquitto.start)
        await inbox.until(lambda box: [e for e in box.of(FeedUp) if e.feed == "var"])
        assert [e.feed for e in inbox.of(FeedUp)] == ["plain", "var"]

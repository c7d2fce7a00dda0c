"""A WebSocket feed's link against real servers, well-behaved and otherwise."""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import time

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from killswitch.adapters.feeds import Patience, WebSocketFeed, wait_s
from killswitch.domain.messages import BadReading, Beat, FeedDown, FeedUp, Reading
from killswitch.wire.feed import StreamHeart, StreamShape
from tests.mosquitto import Inbox

SHAPE = StreamShape(name="desk", reading="margin", value="rows.margin", labels={"account": "rows.acct"})
SECRET = "token-4711"
QUICK = Patience(subscribe_s=1.0, ping_after_s=0.3, dead_after_s=1.2, beat_s=0.05)


class Source:
    """A server. `heard`: the messages of each connection; `greet` is what it does on each."""

    def __init__(self, greet=None):
        self.greet, self.heard, self.connections, self.arrived_at = greet, [], [], []
        self.server = None

    async def handle(self, connection):
        heard = []
        self.arrived_at.append(time.monotonic())
        self.heard.append(heard)
        self.connections.append(connection)
        if self.greet is not None:
            await self.greet(connection)
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(await connection.recv())

    async def start(self, port=0):
        quiet = logging.getLogger("tests.source")
        quiet.setLevel(logging.CRITICAL)
        self.server = await serve(self.handle, "127.0.0.1", port, logger=quiet, close_timeout=0.2)
        return self.server.sockets[0].getsockname()[1]

    async def stop(self):
        self.server.close()
        await self.server.wait_closed()

    async def send(self, *rows):
        await self.connections[-1].send(said(*rows))


def said(*rows):
    return json.dumps({"rows": [{"acct": account, "margin": margin} for account, margin in rows]})


@contextlib.asynccontextmanager
async def running(port, *, subscribe=(), patience=None):
    inbox = Inbox()
    feed = WebSocketFeed(
        url=f"ws://127.0.0.1:{port}/stream", subscribe=subscribe, shape=SHAPE, submit=inbox, patience=patience
    )
    task = asyncio.create_task(feed.run())
    try:
        yield feed, inbox
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def fed(source=None, **how):
    source = source or Source()
    port = await source.start()
    try:
        async with running(port, **how) as (feed, inbox):
            yield source, feed, inbox
    finally:
        await source.stop()


async def up(inbox, times=1):
    await inbox.until(lambda box: len(box.of(FeedUp)) >= times)


def values(inbox):
    return [(dict(r.labels)["account"], r.value) for r in inbox.of(Reading)]


async def test_what_is_subscribed_is_sent_in_order_and_then_the_feed_is_up():
    async with fed(subscribe=("one", "two")) as (source, _, inbox):
        await up(inbox)
        await inbox.until(lambda _: source.heard == [["one", "two"]])
        assert [type(event) for event in inbox.events] == [FeedUp]


async def test_readings_arrive_in_order_several_in_a_message_and_bad_ones_too():
    async with fed() as (source, _, inbox):
        await up(inbox)
        await source.connections[0].send('{"op":"subscribed"}')
        await source.send((14, 0.5), (15, 0.75))
        await source.connections[0].send(said((14, 0.6), (15, "high")).encode())  # a binary message
        await source.connections[0].send([said((14, 0.7))[:9], said((14, 0.7))[9:]])  # in fragments
        await source.connections[0].send("pong")
        await inbox.until(lambda box: len(box.of(BadReading)) == 2)
        assert values(inbox) == [("14", 0.5), ("15", 0.75), ("14", 0.6), ("14", 0.7)]
        assert [(b.labels, b.reason) for b in inbox.of(BadReading)] == [
            ((("account", "15"),), "not_a_number"),
            (None, "not_json"),
        ]


async def test_a_source_that_goes_and_comes_back_is_subscribed_again():
    source = Source()
    port = await source.start()
    async with running(port, subscribe=("hello",)) as (_, inbox):
        await up(inbox)
        await source.stop()
        await inbox.until(lambda box: box.of(FeedDown))
        await source.start(port)
        await up(inbox, 2)
        await source.send((14, 1))
        await inbox.until(lambda box: box.of(Reading))
        assert [heard for heard in source.heard if heard] == [["hello"], ["hello"]]
        await source.stop()
        kinds = [type(event) for event in inbox.events if not isinstance(event, Reading)]
        assert kinds[0] is FeedUp
        assert kinds[-2:].count(FeedUp) == 1


async def test_a_source_that_is_not_there_is_told_once_and_tried_for_ever():
    source = Source()
    port = await source.start()
    await source.stop()
    async with running(port) as (_, inbox):
        await inbox.until(lambda box: box.of(FeedDown))
        await asyncio.sleep(1.5)
        assert len(inbox.events) == 1
        assert inbox.events[0].feed == "desk"
        await source.start(port)
        await up(inbox)
        await source.stop()


async def test_a_source_that_accepts_and_closes_is_not_hammered():
    async def shut(connection):
        await connection.close(1013, f"not now {SECRET}")

    async with fed(Source(shut), subscribe=(SECRET,)) as (source, _, inbox):
        await inbox.until(lambda _: len(source.arrived_at) >= 5)
        first, *_, last = source.arrived_at[:5]
        assert last - first > 0.1 + 0.2 + 0.4 + 0.8
        assert all(SECRET not in event.why for event in inbox.of(FeedDown))
        assert "the source closed the connection (1013)" in {event.why for event in inbox.of(FeedDown)}


def test_waits_grow_to_seconds_and_no_further():
    assert all(0.1 <= wait_s(1) <= 0.3 for _ in range(50))
    assert all(5 <= wait_s(n) <= 5.2 for n in (7, 100, 10_000))
    assert len({wait_s(3) for _ in range(20)}) > 1


async def test_a_half_open_connection_is_noticed_and_left():
    held = []

    async def mute(reader, writer):
        """Answers the opening handshake, and then nothing: no frame, no pong."""
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        writer.write(accept(key))
        held.append(writer)

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(port, patience=QUICK) as (_, inbox):
        await inbox.until(lambda box: box.of(FeedDown))
        assert inbox.of(FeedDown)[0].why == "half-open: not a byte for 1.2 s"
        await up(inbox, 2)
    for writer in held:
        writer.close()
    server.close()


def accept(key):
    token = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n"
    )


async def test_a_quiet_source_that_answers_pings_is_alive():
    async with fed(patience=QUICK) as (source, _, inbox):
        await up(inbox)
        await asyncio.sleep(3)
        assert [type(event) for event in inbox.events] == [FeedUp]
        await source.send((14, 1))
        await inbox.until(lambda box: box.of(Reading))


@pytest.mark.parametrize(("status", "header"), [(403, {}), (429, {}), (302, {"Location": "ws://127.0.0.1:9/x"})])
async def test_a_refused_handshake_is_a_sentence_and_tried_again(status, header):
    asked = []

    async def refuse(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        lines = [f"HTTP/1.1 {status} No", "Content-Length: 0", *(f"{k}: {v}" for k, v in header.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with running(server.sockets[0].getsockname()[1]) as (_, inbox):
        await inbox.until(lambda _: len(asked) >= 3)
        (down,) = inbox.events
        assert str(status) in down.why
    server.close()


async def test_a_message_a_bit_too_long_is_a_bad_reading_and_one_beyond_all_bounds_ends_the_connection():
    async with fed() as (source, _, inbox):
        await up(inbox)
        await source.connections[0].send('"' + "x" * 2**20 + '"')
        await inbox.until(lambda box: box.of(BadReading))
        assert inbox.of(BadReading)[0].reason == "too_long"
        await source.send((14, 1))
        await inbox.until(lambda box: box.of(Reading))
        await source.connections[0].send('"' + "x" * 2**21 + '"')
        await up(inbox, 2)
        assert inbox.of(FeedDown)[0].why == "the source sent what can't be read (1009)"


async def test_a_flood_comes_through_whole_and_others_have_their_turn():
    async with fed() as (source, feed, inbox):
        await up(inbox)
        turns = 0

        async def turn():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(turn())
        for start in range(0, 5000, 500):
            await source.send(*((14, n) for n in range(start, start + 500)))
        await inbox.until(lambda box: len(box.of(Reading)) == 5000)
        other.cancel()
        assert [value for _, value in values(inbox)] == [float(n) for n in range(5000)]
        assert feed.conflated == 0
        assert turns > 20


async def test_what_is_subscribed_is_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)

    async def quote(connection):
        await connection.send(f'{{"error":"bad {SECRET}"}}')
        await connection.close(4001, SECRET)

    source = Source(quote)
    port = await source.start()
    async with running(port, subscribe=(f"auth {SECRET}",)) as (_, inbox):
        await inbox.until(lambda box: box.of(FeedDown) and len(source.heard) >= 3)
    await source.stop()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("killswitch")]
    assert any("desk" in line for line in ours)
    assert not any(SECRET in line for line in ours)
    assert not any(SECRET in record.getMessage() for record in caplog.records)


async def test_each_message_of_a_heart_is_a_beat():
    source = Source()
    port = await source.start()
    inbox = Inbox()
    feed = WebSocketFeed(url=f"ws://127.0.0.1:{port}/stream", subscribe=(), shape=StreamHeart(name="h"), submit=inbox)
    task = asyncio.create_task(feed.run())
    try:
        await up(inbox)
        for message in ("", "pong", "{}", b"\xff"):
            await source.connections[0].send(message)
        await inbox.until(lambda box: len(box.of(Beat)) == 4)
        assert {(beat.feed, beat.retained) for beat in inbox.of(Beat)} == {("h", False)}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.stop()

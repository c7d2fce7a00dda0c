"""The command line's side of the broker."""

import asyncio
import contextlib
import json
import time

import pytest

from killswitch.adapters.mqtt_send import BrokerUnreachable, send_command, watch_trip
from killswitch.adapters.mqtt_session import Broker
from tests.mosquitto import (
    Mosquitto,
    broker_of,
    client_of,
    free_port,
    held,
    publish,
    running_mosquitto,  # noqa: F401 a fixture
)

pytestmark = pytest.mark.mosquitto


@contextlib.asynccontextmanager
async def answering(server, *receipts):
    """Somebody who answers each trip command with these receipts."""
    async with client_of(server) as client:
        await client.subscribe("killswitch/command/trip", qos=1)

        async def answer():
            async for message in client.messages:
                name = json.loads(message.payload)["id"]
                for receipt in receipts:
                    await client.publish(f"killswitch/receipt/{name}", receipt, qos=1)

        task = asyncio.create_task(answer())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def send(server, *, timeout_s=20, **options):
    return send_command(
        broker_of(server, **options),
        prefix="killswitch",
        kind="trip",
        payload=b'{"id":"a"}',
        id="a",
        timeout_s=timeout_s,
    )


async def test_the_receipt_of_a_command_is_waited_for(mosquitto):
    receipt = b'{"id":"a","accepted":true,"reason":"tripped","trip":"t1","daemon":"ks-a"}'
    async with answering(mosquitto, b"garbage", b'{"id":"b","accepted":false}', receipt):
        got = await send(mosquitto)
    assert got == {
        "id": "a",
        "accepted": True,
        "reason": "tripped",
        "trip": "t1",
        "daemon": "ks-a",
        "durable": True,
        "shadow": False,
    }


async def test_without_a_daemon_there_is_no_receipt_in_time(mosquitto):
    began = time.monotonic()
    assert await send(mosquitto, timeout_s=0.3) is None
    assert time.monotonic() - began < 20


async def test_a_broker_that_is_not_there_is_a_sentence():
    broker = Broker(host="127.0.0.1", port=free_port())
    with pytest.raises(BrokerUnreachable, match=rf"127.0.0.1:{broker.port}: .*refused"):
        await send_command(broker, prefix="killswitch", kind="trip", payload=b"x", id="a", timeout_s=5)
    with pytest.raises(BrokerUnreachable, match="refused"):
        await anext(watch_trip(broker, prefix="killswitch", trip="t1"))


async def test_a_refused_sign_in_is_a_sentence_without_the_password(tmp_path):
    server = Mosquitto(tmp_path, passwords={"ks": "right-one"}).start()
    try:
        with pytest.raises(BrokerUnreachable, match="Not authorized") as refused:
            await send(server, username="ks", password="hunter2")
        assert "hunter2" not in str(refused.value)
    finally:
        server.stop()


async def test_a_trip_is_watched_from_its_retained_view_to_its_end_over_a_lost_link(mosquitto):
    topic = "killswitch/trip/t1"

    def view(state):
        return json.dumps({"trip": "t1", "state": state}).encode()

    await publish(mosquitto, topic, view("sweeping"), retain=True)
    async with contextlib.aclosing(watch_trip(broker_of(mosquitto), prefix="killswitch", trip="t1")) as views:
        assert (await anext(views)).state == "sweeping"
        await publish(mosquitto, topic, b"garbage")
        await publish(mosquitto, topic, view("escalated"), retain=True)
        assert (await anext(views)).state == "escalated"
        mosquitto.restart()
        assert await held(mosquitto, topic)
        assert (await anext(views)).state == "escalated"
        await publish(mosquitto, topic, view("confirmed"), retain=True)
        assert (await anext(views)).state == "confirmed"
        await publish(mosquitto, topic, b"", retain=True)
        assert await anext(views) is None

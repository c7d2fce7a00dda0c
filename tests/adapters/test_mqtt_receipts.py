"""The receipt first, the PUBACK then: what is acknowledged doesn't come again, and nor does its receipt."""

from __future__ import annotations

import asyncio

from killswitch.adapters.mqtt_outbox import LIMIT, Outbox
from killswitch.domain.messages import Acknowledge, Receipt, TripRequested
from tests.adapters.bare_broker import BareBroker
from tests.adapters.test_mqtt_hostile import COMMAND_CLIENT, command, command_link, running
from tests.mosquitto import Inbox, eventually

TOPIC = "killswitch/receipt/p1"


def one_command(client, five):
    """What a broker delivers as long as nobody has acknowledged it: on every connection."""
    if client == COMMAND_CLIENT:
        yield BareBroker.delivery(b"killswitch/command/trip", command("p1"), 7, five=five)


def receipt(token):
    return Receipt("p1", "mqtt", token, accepted=True, reason="tripped", trip="p1")


async def test_a_command_is_acknowledged_once_its_receipt_is_with_the_broker_and_not_before():
    inbox, seen = Inbox(), []

    def first_one_breaks_the_connection(topic, _payload):
        if topic == TOPIC:
            seen.append(list(broker.acknowledged))
        return topic != TOPIC or len(seen) > 1

    async with BareBroker(one_command) as broker:
        broker.accepts = first_one_breaks_the_connection
        link = command_link(broker.address, inbox)
        async with running(link):
            for n in (1, 2):
                await inbox.until(lambda box, n=n: len(box.of(TripRequested)) >= n)
                token = inbox.of(TripRequested)[n - 1].token
                link.do(receipt(token))
                link.do(Acknowledge(token))
            await eventually(lambda: asyncio.sleep(0, broker.acknowledged))
    # The first was lost on its way, so the command came again, and nothing was acknowledged before a receipt.
    assert seen[:2] == [[], []]
    assert broker.acknowledged == [7]


async def test_an_acknowledgement_before_the_receipt_leaves_at_once():
    inbox = Inbox()
    async with BareBroker(one_command) as broker:
        broker.accepts = lambda topic, _payload: topic != TOPIC
        link = command_link(broker.address, inbox)
        async with running(link):
            await inbox.until(lambda box: box.of(TripRequested))
            token = inbox.of(TripRequested)[0].token
            link.do(Acknowledge(token))  # the next panic matters more than this one's copy
            link.do(receipt(token))
            await eventually(lambda: asyncio.sleep(0, broker.acknowledged == [7]))


def test_a_receipt_that_is_dropped_since_too_many_wait_holds_no_acknowledgement_up():
    outbox, over = Outbox(), []
    for n in range(LIMIT + 2):
        outbox.receipt(f"r{n}", lambda: b"", lambda n=n: over.append(n))
    assert over == [0, 1]


async def test_what_comes_after_a_receipt_waits_until_the_broker_has_it():
    outbox, over = Outbox(), []
    outbox.receipt("r", lambda: b"", lambda: over.append("r"))
    parcel = await outbox.take()
    outbox.back(parcel)
    assert over == []
    outbox.done(await outbox.take())
    assert over == ["r"]

"""The command link against a real Mosquitto: what arrives, what comes again, what is left behind."""

import asyncio
import contextlib
import json
import logging
import shutil
import signal
import subprocess
import sys

import paho.mqtt.client as paho
import pytest

from killswitch.adapters import mqtt, mqtt_session
from killswitch.adapters.mqtt import Button, CommandLink
from killswitch.adapters.mqtt_outbox import LIMIT, Outbox
from killswitch.adapters.mqtt_session import V5, V311, Broker
from killswitch.domain.messages import (
    Acknowledge,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    ClearTrip,
    CommandRefused,
    Receipt,
    ResetRequested,
    RetainedTripFound,
    TripRequested,
    TripView,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.wire.announce import encode_trip
from tests.mosquitto import (
    Inbox,
    Mosquitto,
    broker_of,
    client_of,
    eventually,
    held,
    publish,
    running_mosquitto,  # noqa: F401 a fixture
)

SCOPE = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
TRIP, RESET, DESK = "killswitch/command/trip", "killswitch/command/reset", "zigbee/desk"
TRIP_VIEW = TripView(
    trip="t1",
    state="sweeping",
    scope=SCOPE,
    causes=(),
    by="alice",
    tripped_wall=1_795_000_000.0,
    calls=1,
    orders_left=None,
    outcome=None,
    covers="orders",
    verified_wall=None,
    accounts_looked_at=(),
    accounts_unseen=(),
)


def command(name):
    said = {"id": name, "scope": {"oms": "prime", "account": 14}, "by": "alice", "reason": "test"}
    return json.dumps(said).encode()


@contextlib.asynccontextmanager
async def linked(server, *, name="ks-a", version=V5, buttons=(), broker=None):
    """A running link and its inbox; at the end it is dropped as a crash would drop it."""
    inbox = Inbox()
    link = CommandLink(
        broker=broker or broker_of(server), name=name, prefix="killswitch", buttons=buttons, submit=inbox
    )
    link._version = version
    running = asyncio.create_task(link.run())
    try:
        yield link, inbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def holds(server, topic, payload):
    return (await held(server, topic)).get(topic) == payload


async def settled(server, inbox):
    """All that was published before is with the link: a last command has come through."""
    name = f"last-{len(inbox.events)}"
    await publish(server, TRIP, command(name))
    await inbox.until(lambda box: name in box.ids())


@contextlib.asynccontextmanager
async def between(server, change=bytes, *, to_5=None):
    """A broker's address whose answers go through `change`; `to_5`: all that it answers to MQTT 5."""
    writers = []

    async def pump(source, target, alter):
        with contextlib.suppress(OSError):
            while some := await source.read(4096):
                target.write(alter(some))
        target.close()

    async def meet(reader, writer):
        writers.append(writer)
        hello = await reader.read(4096)
        if hello and to_5 is not None and hello[hello.index(b"MQTT") + 4] == 5:
            writer.write(to_5)
            writer.close()
            return
        far, to_far = await asyncio.open_connection(server.host, server.port)
        to_far.write(hello)
        with contextlib.suppress(asyncio.CancelledError):  # the test is over
            await asyncio.gather(pump(reader, to_far, bytes), pump(far, writer, change))

    listener = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield Broker(host="127.0.0.1", port=listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for writer in writers:
            writer.close()


pytestmark = pytest.mark.mosquitto


# --- deliveries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V5, V311])
async def test_a_command_sent_while_away_comes_until_it_is_acknowledged_and_not_again(mosquitto, version):
    async with linked(mosquitto, version=version) as (_, inbox):
        await inbox.up()
    await publish(mosquitto, TRIP, command("a"))
    for _ in range(2):  # two lives that end before the command is on disk
        async with linked(mosquitto, version=version) as (_, inbox):
            await inbox.until(lambda box: box.ids() == ["a"])
    async with linked(mosquitto, version=version) as (link, inbox):
        await inbox.until(lambda box: box.ids() == ["a"])
        link.do(Acknowledge(inbox.of(TripRequested)[0].token))
        await inbox.up()
        await settled(mosquitto, inbox)
        link.do(Acknowledge(inbox.of(TripRequested)[-1].token))
        await asyncio.sleep(0.1)
    async with linked(mosquitto, version=version) as (_, inbox):
        await inbox.up()
        await settled(mosquitto, inbox)
        assert "a" not in inbox.ids()


async def test_an_acknowledgement_of_an_older_connection_is_not_sent_on_the_new_one(mosquitto):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        await publish(mosquitto, TRIP, command("a"))
        await inbox.until(lambda box: box.ids() == ["a"])
        mosquitto.restart()
        await inbox.until(lambda box: box.ids() == ["a", "a"])
        old, new = (event.token for event in inbox.of(TripRequested))
        link.do(Acknowledge(old))
        assert link._open == {new.mid: {0}}
        link.do(Acknowledge("somebody else's token"))
        link.do(Acknowledge(new))
        assert link._open == {}


async def test_a_reset_command_arrives(mosquitto):
    said = {"id": "r", "trip": "t1", "by": "bob", "reason": "calm", "issued_at": 1_795_000_000_000}
    async with linked(mosquitto) as (_, inbox):
        await inbox.up()
        await publish(mosquitto, RESET, json.dumps(said))
        await inbox.until(lambda box: box.of(ResetRequested))
        assert inbox.of(ResetRequested)[0].trip == "t1"


async def test_more_than_twenty_unacknowledged_commands_still_flow(tmp_path):
    server = Mosquitto(tmp_path, ours=False).start()  # with the broker's own window of 20
    try:
        async with linked(server) as (_, inbox):
            await inbox.up()
            assert inbox.of(BrokerUp)[0].window == 1000
            async with client_of(server) as client:
                for n in range(100):
                    await client.publish(TRIP, command(f"c{n}"), qos=1)
            await inbox.until(lambda box: len(box.ids()) == 100)
    finally:
        server.stop()


async def test_the_window_of_a_broker_that_speaks_3_1_1_is_taken_for_twenty(mosquitto):
    async with linked(mosquitto, version=V311) as (_, inbox):
        await inbox.up()
        assert inbox.of(BrokerUp)[0].window == 20


GARBAGE = [b"\x00", b"\xff\xfe", b"{", b"null", b"[]", b'{"id":"g"}', b"x" * 100_000, command("g")[:-1], b" "]


async def test_garbage_on_every_topic_is_refused_and_the_next_command_works(mosquitto):
    button = Button(name="desk", topic=DESK, match={"action": "emergency"}, scope=SCOPE)
    async with linked(mosquitto, buttons=[button]) as (_, inbox):
        await inbox.up()
        async with client_of(mosquitto) as client:
            for topic in (TRIP, RESET, DESK):
                for payload in GARBAGE:
                    await client.publish(topic, payload, qos=1)
                    await client.publish(topic, payload, qos=0)
        await settled(mosquitto, inbox)
        refused = inbox.of(CommandRefused)
        assert len(refused) == 3 * 2 * len(GARBAGE)
        assert {event.command for event in refused} == {"trip", "reset", "panic"}
        assert all(event.noise == (event.command == "panic") for event in refused)
        assert {event.id for event in refused} == {None, "g"}
        assert len(inbox.of(TripRequested)) == 1
        assert not inbox.of(ButtonPressed)


# --- buttons -----------------------------------------------------------------------------------------------


async def test_a_button_presses_by_its_match_and_each_delivery_presses(mosquitto):
    buttons = [
        Button(name="fields", topic=DESK, match={"action": "emergency"}, scope=SCOPE),
        Button(name="text", topic="shelly/+/panic", match="on", scope=SCOPE),
        Button(name="any", topic="any", match=None, scope=SCOPE),
    ]
    async with linked(mosquitto, buttons=buttons) as (_, inbox):
        await inbox.up()
        async with client_of(mosquitto) as client:
            for topic, payload in [
                (DESK, b'{"action":"emergency","battery":97}'),
                (DESK, b'{"action":"single"}'),
                (DESK, b'{"action":"emergency"}'),
                ("shelly/7/panic", b"on"),
                ("shelly/7/panic", b"off"),
                ("any", b"\xff"),
            ]:
                await client.publish(topic, payload, qos=1)
        await settled(mosquitto, inbox)
        assert [e.button for e in inbox.of(ButtonPressed)] == ["fields", "fields", "text", "any"]
        assert [e.scope for e in inbox.of(ButtonPressed)] == [SCOPE] * 4
        assert [e.noise for e in inbox.of(CommandRefused)] == [True, True]


async def test_an_empty_and_a_retained_payload_never_press(mosquitto):
    button = Button(name="any", topic=DESK, match=None, scope=SCOPE)
    await publish(mosquitto, DESK, b"pressed long ago", retain=True)
    async with linked(mosquitto, buttons=[button]) as (_, inbox):
        await inbox.up()
        await publish(mosquitto, DESK, b"", retain=True)
        await publish(mosquitto, DESK, b"")
        await settled(mosquitto, inbox)
        assert not inbox.of(ButtonPressed)
        assert len(inbox.of(CommandRefused)) == 3


async def test_a_delivery_that_presses_two_buttons_is_acknowledged_after_both(mosquitto):
    buttons = [Button(name=name, topic=DESK, match=None, scope=SCOPE) for name in ("one", "two")]
    async with linked(mosquitto, buttons=buttons) as (link, inbox):
        await inbox.up()
        await publish(mosquitto, DESK, b"x")
        await inbox.until(lambda box: len(box.of(ButtonPressed)) == 2)
        first, second = inbox.of(ButtonPressed)
        link.do(Acknowledge(first.token))
        link.do(Acknowledge(first.token))
        assert link._open
        link.do(Acknowledge(second.token))
        assert not link._open


def test_a_topic_that_can_not_be_subscribed_is_refused_at_start():
    button = Button(name="bad", topic="a/#/b", match=None, scope=SCOPE)
    with pytest.raises(ValueError, match="Invalid wildcard"):
        CommandLink(broker=Broker(host="localhost"), name="a", prefix="k", buttons=[button], submit=lambda _: None)


# --- what is published -------------------------------------------------------------------------------------


async def test_a_receipt_is_published_for_a_command_that_came_this_way_only(mosquitto):
    async with linked(mosquitto) as (link, inbox), client_of(mosquitto) as client:
        await inbox.up()
        await client.subscribe("killswitch/receipt/+", qos=1)
        for name, via in (("h", "http"), ("m", "mqtt")):
            link.do(Receipt(id=name, via=via, token=None, accepted=True, reason="ok", trip="t1", durable=False))
        async for message in client.messages:
            assert message.topic.value == "killswitch/receipt/m"
            assert json.loads(message.payload)["durable"] is False
            assert not message.retain
            break


async def test_what_is_announced_is_on_its_topics_and_a_reset_clears_the_trip(mosquitto):
    async with linked(mosquitto) as (link, inbox), client_of(mosquitto) as client:
        await inbox.up()
        await client.subscribe("killswitch/event", qos=1)
        link.do(AnnounceTrip(TRIP_VIEW))
        link.do(AnnounceState("sweeping", (TRIP_VIEW,)))
        link.do(AnnounceEvent("tripped", "account 14", 1_795_000_000.0, trip="t1"))
        assert await link.flush(20)
        found = {t: json.loads(p) for t, p in (await held(mosquitto, "killswitch/trip/+", "killswitch/state")).items()}
        assert found["killswitch/trip/t1"]["state"] == "sweeping"
        assert found["killswitch/state"] == {"state": "sweeping", "trips": 1}
        assert await holds(mosquitto, "killswitch/availability/ks-a", b"online")
        view = (await held(mosquitto, "killswitch/replica/ks-a"))["killswitch/replica/ks-a"]
        assert [trip["trip"] for trip in json.loads(view)["trips"]] == ["t1"]
        async for message in client.messages:
            assert json.loads(message.payload)["kind"] == "tripped"
            break
        link.do(ClearTrip("t1"))
        assert await link.flush(20)
        assert await held(mosquitto, "killswitch/trip/+") == {}


async def test_retained_topics_are_published_again_to_a_broker_that_lost_them(mosquitto):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        link.do(AnnounceTrip(TRIP_VIEW))
        link.do(AnnounceState("sweeping", (TRIP_VIEW,)))
        assert await link.flush(20)
        mosquitto.kill()
        (mosquitto.folder / "mosquitto.db").unlink(missing_ok=True)
        await inbox.until(lambda box: box.of(BrokerDown))
        mosquitto.start()
        await inbox.up(2)
        for topic in ("trip/t1", "state", "replica/ks-a", "availability/ks-a"):
            await eventually(lambda topic=topic: held(mosquitto, f"killswitch/{topic}"))


async def test_what_was_announced_while_the_broker_was_away_is_published_when_it_is_back(mosquitto):
    async with linked(mosquitto) as (link, inbox), contextlib.AsyncExitStack() as stack:
        await inbox.up()
        mosquitto.stop()
        await inbox.until(lambda box: box.of(BrokerDown))
        link.do(Receipt(id="m", via="mqtt", token=None, accepted=True, reason="ok", trip="t1"))
        link.do(AnnounceState("sweeping", (TRIP_VIEW,)))
        link.do(AnnounceState("confirmed", (TRIP_VIEW,)))
        assert not await link.flush(0.05)
        mosquitto.start()
        client = await stack.enter_async_context(client_of(mosquitto))
        await client.subscribe("killswitch/receipt/m", qos=1)
        await inbox.up(2)
        assert await link.flush(20)
        state = (await held(mosquitto, "killswitch/state"))["killswitch/state"]
        assert json.loads(state)["state"] == "confirmed"


async def test_a_topic_that_mqtt_can_not_carry_holds_nothing_up(mosquitto, caplog):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        link.do(ClearTrip("#"))
        link.do(AnnounceState("armed", ()))
        assert await link.flush(20)
        assert await held(mosquitto, "killswitch/state")
        assert "not published" in caplog.text


# --- what is left behind -----------------------------------------------------------------------------------


async def test_its_own_retained_trips_are_found_and_other_daemons_are_not(mosquitto):
    await publish(mosquitto, "killswitch/trip/t1", encode_trip(TRIP_VIEW, "ks-a"), retain=True)
    await publish(mosquitto, "killswitch/trip/t2", encode_trip(TRIP_VIEW, "ks-b"), retain=True)
    await publish(mosquitto, "killswitch/trip/t3", b"garbage", retain=True)
    async with linked(mosquitto) as (link, inbox):
        await inbox.until(lambda box: len(box.of(RetainedTripFound)) == 2)
        found = {event.trip: event for event in inbox.of(RetainedTripFound)}
        assert (found["t1"].scope, found["t1"].by) == (SCOPE, "alice")
        assert found["t3"].scope is None
        link.do(ClearTrip("t1"))
        link.do(ClearTrip("t3"))
        assert await link.flush(20)
        assert set(await held(mosquitto, "killswitch/trip/+")) == {"killswitch/trip/t2"}


async def test_a_trip_that_it_announces_itself_is_no_leftover(mosquitto):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        link.do(AnnounceTrip(TRIP_VIEW))
        assert await link.flush(20)
        mosquitto.restart()
        await inbox.up(2)
        assert await link.flush(20)
        await settled(mosquitto, inbox)
        assert not inbox.of(RetainedTripFound)


DAEMON = """
import asyncio, sys
from killswitch.adapters.mqtt import CommandLink
from killswitch.adapters.mqtt_session import Broker
from killswitch.domain.messages import AnnounceState

async def main():
    broker = Broker(host="127.0.0.1", port=int(sys.argv[1]))
    link = CommandLink(broker=broker, name="ks-a", prefix="killswitch", submit=lambda event: None)
    running = asyncio.create_task(link.run())
    link.do(AnnounceState("armed", ()))
    await running

asyncio.run(main())
"""


async def test_a_killed_daemon_leaves_an_unknown_state_and_no_view_of_its_own(mosquitto):
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(mosquitto.port)])
    try:
        await eventually(lambda: holds(mosquitto, "killswitch/availability/ks-a", b"online"))
        await eventually(lambda: holds(mosquitto, "killswitch/state", b'{"state":"armed","trips":0}'))
        await eventually(lambda: held(mosquitto, "killswitch/replica/ks-a"))
        await eventually(lambda: mosquitto.log().count("as killswitch-ks-a") >= 3)
        daemon.send_signal(signal.SIGKILL)
        await eventually(lambda: holds(mosquitto, "killswitch/availability/ks-a", b"offline"))
        await eventually(lambda: holds(mosquitto, "killswitch/state", b'{"state":"unknown"}'))

        async def gone():
            return not await held(mosquitto, "killswitch/replica/ks-a")

        await eventually(gone)
    finally:
        daemon.kill()
        daemon.wait(20)


async def test_a_link_that_ends_leaves_the_same_word_as_one_that_is_killed(mosquitto):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        link.do(AnnounceState("armed", ()))
        await eventually(lambda: mosquitto.log().count("as killswitch-ks-a-") == 2)
        await eventually(lambda: holds(mosquitto, "killswitch/availability/ks-a", b"online"))
        assert await link.flush(20)
    await eventually(lambda: holds(mosquitto, "killswitch/availability/ks-a", b"offline"))
    await eventually(lambda: holds(mosquitto, "killswitch/state", b'{"state":"unknown"}'))


async def test_the_will_of_an_older_connection_does_not_stand(mosquitto):
    async with linked(mosquitto) as (link, inbox):
        await inbox.up()
        link.do(AnnounceState("armed", ()))
        armed = b'{"state":"armed","trips":0}'
        await eventually(lambda: holds(mosquitto, "killswitch/state", armed))
        await eventually(lambda: mosquitto.log().count("as killswitch-ks-a-") == 2)
        await publish(mosquitto, "killswitch/state", b'{"state":"unknown"}', retain=True)
        await publish(mosquitto, "killswitch/replica/ks-a", b"", retain=True)
        await eventually(lambda: holds(mosquitto, "killswitch/state", armed))
        await eventually(lambda: held(mosquitto, "killswitch/replica/ks-a"))


# --- the link ----------------------------------------------------------------------------------------------


async def test_a_broker_that_restarts_is_connected_again_and_its_commands_come_again(mosquitto):
    async with linked(mosquitto) as (_, inbox):
        await inbox.up()
        await publish(mosquitto, TRIP, command("a"))
        await inbox.until(lambda box: box.ids() == ["a"])
        mosquitto.stop()
        await inbox.until(lambda box: box.of(BrokerDown))
        assert len(inbox.of(BrokerUp)) == 1
        mosquitto.start()
        await inbox.up(2)
        await inbox.until(lambda box: box.ids() == ["a", "a"])
        first, again = inbox.of(TripRequested)
        assert first.digest == again.digest


async def test_a_command_that_a_crashing_broker_had_taken_is_not_lost(mosquitto):
    async with linked(mosquitto) as (_, inbox):
        await inbox.up()
    await publish(mosquitto, TRIP, command("a"))
    await asyncio.sleep(0.5)  # autosave_on_changes writes in the broker's next pass
    mosquitto.kill()
    mosquitto.start()
    async with linked(mosquitto) as (_, inbox):
        await inbox.until(lambda box: "a" in box.ids())


async def test_a_broker_that_isnt_there_is_said_once_and_tried_for_ever(mosquitto):
    mosquitto.stop()
    async with linked(mosquitto) as (_, inbox):
        await inbox.until(lambda box: box.of(BrokerDown))
        await asyncio.sleep(1)
        assert [event.why for event in inbox.events] == ["[Errno 111] Connection refused"]
        mosquitto.start()
        await inbox.up()


async def test_a_frozen_broker_is_noticed_and_no_forgotten_client_fights_when_it_thaws(mosquitto):
    async with linked(mosquitto) as (_, inbox):
        await inbox.up()
        mosquitto.freeze()
        await inbox.until(lambda box: box.of(BrokerDown), timeout_s=30)
        await asyncio.sleep(7)  # at least one attempt meets silence
        mosquitto.thaw()
        await inbox.up(2)
        await settled(mosquitto, inbox)
        assert all("another daemon" not in event.why for event in inbox.of(BrokerDown))


@pytest.mark.parametrize("version", [V5, V311])
async def test_a_wrong_password_is_a_sentence_without_the_password(tmp_path, caplog, version):
    caplog.set_level(logging.DEBUG)
    server = Mosquitto(tmp_path, passwords={"ks": "right-one"}).start()
    try:
        broker = broker_of(server, username="ks", password="hunter2")
        assert "hunter2" not in repr(broker)
        async with linked(server, broker=broker, version=version) as (_, inbox):
            await inbox.until(lambda box: box.of(BrokerDown))
            assert inbox.of(BrokerDown)[0].why == "the broker says: Not authorized"
            assert inbox.of(BrokerDown)[0].broker == f"127.0.0.1:{server.port}"
        assert "hunter2" not in caplog.text
        right = broker_of(server, username="ks", password="right-one")
        async with linked(server, broker=right, version=version) as (_, inbox):
            await inbox.up()
    finally:
        server.stop()


async def test_a_topic_that_may_not_be_subscribed_is_named_and_the_others_work(mosquitto, monkeypatch):
    # Mosquitto's access lists never refuse a subscription, so what stands between answers for it, twice.
    monkeypatch.setattr(mqtt, "SUBSCRIBE_AGAIN_S", 1.0)
    refusals = 2

    def refuse(some):
        nonlocal refusals
        at = some.find(b"\x90\x05")  # SUBACK of 3.1.1 for three topics; a PUBACK may stand beside it
        if at >= 0 and refusals:
            refusals -= 1
            return some[: at + 6] + b"\x80" + some[at + 7 :]
        return some

    button = Button(name="desk", topic=DESK, match=None, scope=SCOPE)
    async with (
        between(mosquitto, refuse) as broker,
        linked(mosquitto, broker=broker, version=V311, buttons=[button]) as (_, inbox),
    ):
        await inbox.until(lambda box: box.of(BrokerDown))
        assert inbox.of(BrokerDown)[0].why == f"the broker doesn't let us subscribe to {DESK} with QoS 1"
        await publish(mosquitto, TRIP, command("a"))
        await inbox.until(lambda box: box.ids() == ["a"])
        assert not inbox.of(BrokerUp)
        await inbox.up()
        assert len(inbox.of(BrokerDown)) == 1


async def test_of_two_daemons_with_one_name_one_stays_away_and_says_why(mosquitto):
    async with linked(mosquitto) as (first, one):
        await one.up()
        async with linked(mosquitto) as (second, two):
            for link in (first, second):
                link.do(AnnounceState("armed", ()))

            def stopped(box):
                return any("another daemon is called ks-a" in event.why for event in box.of(BrokerDown))

            await eventually(lambda: stopped(one) or stopped(two))
            assert stopped(one) != stopped(two)
            rest = two if stopped(one) else one
            await rest.until(lambda box: isinstance(box.of(BrokerUp | BrokerDown)[-1], BrokerUp))
            await publish(mosquitto, TRIP, command("a"))
            await rest.until(lambda box: "a" in box.ids())


@pytest.mark.parametrize(
    ("to_5", "why"),
    [
        # CONNACK of 3.1.1: unacceptable protocol version
        (b"\x20\x02\x00\x01", "the broker says: Unsupported protocol version"),
        (b"", "the broker closed the connection without an answer"),
    ],
)
async def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1(mosquitto, to_5, why):
    async with (
        between(mosquitto, to_5=to_5) as broker,
        linked(mosquitto, broker=broker) as (_, inbox),
    ):
        await inbox.up()
        assert inbox.of(BrokerUp)[0].window == 20
        assert inbox.of(BrokerDown)[0].why == why
        await publish(mosquitto, TRIP, command("a"))
        await inbox.until(lambda box: box.ids() == ["a"])


async def test_a_broker_is_spoken_to_over_tls_only_if_its_certificate_is_its_own(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")

    def openssl(line):
        subprocess.run(["openssl", *line.split()], cwd=tmp_path, check=True, capture_output=True)

    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem")
    openssl("req -newkey rsa:2048 -nodes -subj /CN=broker -keyout server.key -out server.csr")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem")
    certificate = f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key"
    server = Mosquitto(tmp_path, options=certificate).start()
    try:
        url = server.url.replace("mqtt:", "mqtts:")
        trusted = Broker.from_url(url, ca_file=str(tmp_path / "ca.pem"))
        async with linked(server, broker=trusted) as (link, inbox):
            await inbox.up()
            link.do(AnnounceState("armed", ()))
            assert await link.flush(20)
        async with linked(server, broker=Broker.from_url(url)) as (_, inbox):
            await inbox.until(lambda box: box.of(BrokerDown))
            assert "certificate verify failed" in inbox.of(BrokerDown)[0].why
        missing = Broker.from_url(url, ca_file=str(tmp_path / "nowhere.pem"))
        async with linked(server, broker=missing) as (_, inbox):
            await inbox.until(lambda box: box.of(BrokerDown))
    finally:
        server.stop()


def test_what_a_release_of_the_library_could_change_is_still_there(monkeypatch):
    mqtt_session.check_library()
    monkeypatch.delattr(paho.Client, "ack")
    with pytest.raises(AssertionError, match="no ack"):
        mqtt_session.check_library()


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "label"),
    [
        ("mqtt://broker", "broker", 1883, False, "broker:1883"),
        ("mqtts://broker", "broker", 8883, True, "broker:8883"),
        ("mqtt://[::1]:1900/", "::1", 1900, False, "[::1]:1900"),
    ],
)
def test_a_brokers_address_is_read(url, host, port, tls, label):
    broker = Broker.from_url(url)
    assert (broker.host, broker.port, broker.tls, broker.label) == (host, port, tls, label)


@pytest.mark.parametrize("url", ["broker", "http://b", "mqtt://", "mqtt://u:hunter2@b", "mqtt://b:99999", "mqtt://b/x"])
def test_an_address_that_is_none_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError) as refused:
        Broker.from_url(url)
    assert "hunter2" not in str(refused.value)


# --- the outbox --------------------------------------------------------------------------------------------


async def taken(outbox):
    """Everything that waits, as if published."""
    found = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                parcel = await outbox.take()
        except TimeoutError:
            return found
        found.append((parcel.topic, parcel.make()))
        outbox.done(parcel)


async def test_a_receipt_is_never_dropped_before_an_event():
    outbox = Outbox()
    for n in range(LIMIT):
        outbox.event(f"e{n}", lambda: b"")
    for n in range(LIMIT - 1):
        outbox.receipt(f"r{n}", lambda: b"")
    assert outbox.dropped == LIMIT - 1
    topics = [topic for topic, _ in await taken(outbox)]
    assert topics == [*(f"r{n}" for n in range(LIMIT - 1)), f"e{LIMIT - 1}"]


async def test_a_parcel_that_was_not_taken_waits_where_it_stood():
    outbox = Outbox()
    outbox.event("e1", lambda: b"1")
    outbox.event("e2", lambda: b"2")
    outbox.retain("s", lambda: b"old")
    parcel = await outbox.take()
    outbox.retain("s", lambda: b"new")
    outbox.back(parcel)
    outbox.back(await outbox.take())
    assert await taken(outbox) == [("s", b"new"), ("e1", b"1"), ("e2", b"2")]
    outbox.renew()
    assert await taken(outbox) == [("s", b"new")]
    outbox.clear("s")
    assert await taken(outbox) == [("s", b"")]
    outbox.renew()
    assert await taken(outbox) == []
    assert "s" not in outbox

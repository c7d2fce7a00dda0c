"""The command link: trip and reset commands, panic buttons, receipts and everything that is announced.

It has a client and a session of its own, apart from every feed: a broker keeps a thousand messages for a
session that is away and drops the newest, so readings in this session would push a panic out of it. For the
same reason nothing but commands and buttons is subscribed here. The session is durable, QoS 1, and a delivery
is acknowledged only when the core says so, and its receipt is with the broker; one that isn't comes again on the
next connection.

A connection carries one will, and three things must be so when nobody is there: availability says offline
(the command client's will), the state is unknown and this replica's view is gone (two small clients, whose
names are new in each process, since they keep no session).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

import aiomqtt

from killswitch.adapters import mqtt_session
from killswitch.adapters.mqtt_outbox import Outbox, Parcel
from killswitch.adapters.mqtt_session import V5, V311, Backoff, Broker, connected, in_words
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
    RetainedTripFound,
)
from killswitch.wire import announce
from killswitch.wire.commands import decode_reset, decode_trip, match_button

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from killswitch.domain.messages import Event
    from killswitch.domain.scope import Scope

SUBSCRIBE_AGAIN_S: Final = 5.0
TAKEOVERS_WITHIN_S: Final = 60.0

MqttAction: TypeAlias = Receipt | Acknowledge | AnnounceTrip | ClearTrip | AnnounceState | AnnounceEvent

log = logging.getLogger("killswitch.mqtt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A panic topic. `match`: None, any payload; text, the whole payload; a mapping, fields of its JSON."""

    name: str
    topic: str
    match: str | Mapping[str, object] | None
    scope: Scope


@dataclass(frozen=True, slots=True)
class Delivery:
    """The token of a delivery: the connection it came on, its number there, and which of its presses."""

    connection: int
    mid: int
    qos: int
    part: int = 0


class CommandLink:
    """The daemon's command client. `run` connects for ever; `do` never waits; `submit` must not raise."""

    def __init__(
        self,
        *,
        broker: Broker,
        name: str,
        prefix: str,
        submit: Callable[[Event], None],
        buttons: Sequence[Button] = (),
        wall: Callable[[], float] = time.time,
    ) -> None:
        mqtt_session.check_library()
        self._broker, self._name, self._prefix = broker, name, prefix
        self._submit, self._wall = submit, wall
        self._topics: tuple[str, ...] = ()
        self._left: set[str] = set()  # topics that a reload took away and that the session may still hold
        self._changed = asyncio.Event()
        self.change(buttons)
        self._outbox = Outbox()
        self._outbox.retain(f"{prefix}/availability/{name}", lambda: b"online")
        self._version = V5
        self._spoke_v5 = False
        self._connection = 0
        self._client: aiomqtt.Client | None = None
        self._open: dict[int, set[int]] = {}  # this connection's deliveries: mid -> parts not acknowledged
        self._untold: Counter[Delivery] = Counter()  # receipts of this connection's deliveries that still wait
        self._owed: set[Delivery] = set()  # deliveries to be acknowledged as soon as none of theirs waits
        self._instance = secrets.token_hex(8)
        self._other_heard: float | None = None  # when another process of our name last published
        self._takeovers: deque[float] = deque(maxlen=2)
        self._told: str | None = None  # why it is down, as last reported

    @property
    def dropped(self) -> int:
        """Receipts and events that were never published, since too many waited."""
        return self._outbox.dropped

    def change(self, buttons: Sequence[Button]) -> None:
        """Hear these buttons from now on. Raises ValueError for a topic that is none, and changes nothing then."""
        for button in buttons:
            aiomqtt.Wildcard(button.topic)  # here, not at each connect
        commands = [f"{self._prefix}/command/trip", f"{self._prefix}/command/reset"]
        before, self._buttons = self._topics, tuple(buttons)
        self._topics = tuple(dict.fromkeys([*commands, *(b.topic for b in self._buttons)]))
        self._left = (self._left | set(before)) - set(self._topics)
        self._changed.set()

    def sign_in_as(self, broker: Broker) -> None:
        """From the next connection on: the present one stands."""
        self._broker = broker

    def do(self, action: MqttAction) -> None:
        """Carry out an action. A PUBACK leaves now, or as soon as the receipts before it are with the broker.

        A crash in between would lose such a receipt: what is acknowledged doesn't come again. Everything else
        waits for its turn to be published.
        """
        match action:
            case Acknowledge(token=token):
                if isinstance(token, Delivery) and token in self._untold:
                    self._owed.add(token)
                else:
                    self._acknowledge(token)
            case Receipt():
                if action.via == "mqtt":
                    self._receipt(action)
            case AnnounceTrip(trip=view):
                self._outbox.retain(self._trip_topic(view.trip), partial(announce.encode_trip, view, self._name))
            case ClearTrip(trip=trip):
                self._outbox.clear(self._trip_topic(trip))
            case AnnounceState(state=state, trips=trips, shadow=shadow):
                latched = sum(not view.shadow for view in trips)
                self._outbox.retain(self._state_topic, partial(announce.encode_state, state, latched))
                view_of = partial(announce.encode_replica, state, trips, self._name, self._instance, shadow=shadow)
                self._outbox.retain(self._replica_topic, view_of)
            case AnnounceEvent():
                topic = f"{self._prefix}/event"
                self._outbox.event(topic, partial(announce.encode_event, action, self._name))
            case _:
                assert_never(action)

    def _receipt(self, receipt: Receipt) -> None:
        topic, token = f"{self._prefix}/receipt/{receipt.id}", receipt.token
        then = None
        if isinstance(token, Delivery) and token.connection == self._connection:
            self._untold[token] += 1
            then = partial(self._told_sender, token)
        self._outbox.receipt(topic, partial(announce.encode_receipt, receipt, self._name), then)

    def _told_sender(self, token: Delivery) -> None:
        """A receipt is with the broker, or was dropped since too many waited."""
        self._untold[token] -= 1
        if not self._untold[token]:
            del self._untold[token]
            if token in self._owed:
                self._owed.discard(token)
                self._acknowledge(token)

    async def run(self) -> None:
        """Connect, and again, until cancelled. A second daemon of our name ends the reconnecting, not this."""
        async with asyncio.TaskGroup() as group:  # an error of ours in any of them ends the process
            presences = [
                group.create_task(self._presence("state", self._state_topic, announce.UNKNOWN_STATE)),
                group.create_task(self._presence("replica", self._replica_topic, b"")),
            ]
            await self._connect_for_ever()
            for task in presences:
                task.cancel()
        await asyncio.Event().wait()  # taken over for good: stay down, said so, until the process ends

    async def flush(self, within_s: float) -> bool:
        """Wait until everything is published, at most so long; before `run` is cancelled at the end."""
        try:
            async with asyncio.timeout(within_s):
                await self._outbox.empty()
        except TimeoutError:
            return False
        return True

    # --- the command client --------------------------------------------------------------------------------

    async def _connect_for_ever(self) -> None:
        """Returns only when another daemon of our name has taken the session over twice."""
        backoff = Backoff()
        while True:
            began, before = time.monotonic(), self._connection
            try:
                await self._connect_once()
            except* aiomqtt.MqttError as group:
                error = _first(group)
            if self._connection > before and self._is_second_takeover(error):
                why = f"another daemon is called {self._name}; this one no longer connects"
                log.error("%s: %s", self._broker.label, why)
                self._down(why)
                return
            self._down(in_words(error))
            self._choose_version(error)
            await backoff.wait(time.monotonic() - began)

    async def _connect_once(self) -> None:
        """One connection, until it ends: always by an error."""
        will = aiomqtt.Will(f"{self._prefix}/availability/{self._name}", b"offline", qos=1, retain=True)
        identifier = f"killswitch-{self._name}"
        async with (
            connected(self._broker, identifier=identifier, version=self._version, durable=True, will=will) as client,
            asyncio.TaskGroup() as group,
        ):
            self._spoke_v5 = self._spoke_v5 or self._version is V5
            self._connection += 1
            self._open = {}
            self._client = client
            try:
                # What the broker kept for us comes before any subscription is answered: read at once.
                group.create_task(self._read(client, self._connection))
                group.create_task(self._publish(client))
                await self._subscribe(client)
            finally:
                self._client = None

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        """Up only once every topic is granted. Till then what was granted works, and the rest is asked again.

        For ever: a reload may bring topics and take some away. The session is durable, so those must be let go of.
        """
        granted: set[str] = set()
        said = False
        while True:
            self._changed.clear()
            left, self._left = self._left, set()
            await mqtt_session.unsubscribe(client, sorted(left))
            granted -= left
            wanted = [topic for topic in self._topics if topic not in granted]
            refused = await mqtt_session.subscribe(client, wanted, 1)
            granted |= set(wanted) - set(refused)
            if refused:
                said = False
                self._down(f"the broker doesn't let us subscribe to {', '.join(refused)} with QoS 1")
                await asyncio.sleep(SUBSCRIBE_AGAIN_S)
                continue
            if not said:
                said = True
                self._up()
            await self._changed.wait()

    def _up(self) -> None:
        self._told = None
        self._outbox.renew()
        window = mqtt_session.RECEIVE_MAXIMUM if self._version is V5 else mqtt_session.WINDOW_UNKNOWN
        log.info("%s: connected, commands subscribed", self._broker.label)
        self._submit(BrokerUp(wall=self._wall(), broker=self._broker.label, window=window))

    async def _read(self, client: aiomqtt.Client, connection: int) -> None:
        # Never a time-out round anext: a message whose arrival races it would be lost.
        async for message in client.messages:
            self._deliver(message, connection)

    async def _publish(self, client: aiomqtt.Client) -> None:
        while True:
            parcel = await self._outbox.take()
            try:
                await _send(client, parcel)
            except BaseException:
                self._outbox.back(parcel)
                raise
            self._outbox.done(parcel)

    def _down(self, why: str) -> None:
        """Report it once for each reason, not for each attempt."""
        if why != self._told:
            self._told = why
            log.warning("%s: down: %s", self._broker.label, why)
            self._submit(BrokerDown(wall=self._wall(), broker=self._broker.label, why=why))

    def _is_second_takeover(self, error: aiomqtt.MqttError) -> bool:
        """Whether another daemon of our name has pushed us out twice within a minute.

        The broker gives a session to whoever came last, so the two would push each other out for ever. Whoever
        is pushed out twice first stays away, and the other works. Not every broker says why it closes a
        connection (Mosquitto 2.0.11 doesn't): then hearing another process of our name is the evidence.
        """
        now = time.monotonic()
        heard = self._other_heard is not None and now - self._other_heard <= TAKEOVERS_WITHIN_S
        if mqtt_session.code_of(error) != mqtt_session.TAKEN_OVER and not heard:
            return False
        self._takeovers.append(now)
        return len(self._takeovers) == 2 and now - self._takeovers[0] <= TAKEOVERS_WITHIN_S

    def _choose_version(self, error: aiomqtt.MqttError) -> None:
        """3.1.1 where MQTT 5 is refused; where it is met with silence, by turns until one is answered."""
        if self._spoke_v5:
            return
        refused = mqtt_session.code_of(error) in mqtt_session.UNSUPPORTED_VERSION
        silent = str(error) in (mqtt_session.NO_ANSWER, mqtt_session.CLOSED_AT_ONCE)
        if self._version is V5 and (refused or silent):
            self._version = V311
        elif silent and not self._connection:
            self._version = V5

    # --- deliveries ----------------------------------------------------------------------------------------

    def _deliver(self, message: aiomqtt.Message, connection: int) -> None:
        topic, payload, retained = message.topic.value, bytes(message.payload), message.retain
        events: list[Event] = []

        def token() -> Delivery:
            return Delivery(connection, message.mid, message.qos, len(events))

        if topic == f"{self._prefix}/command/trip":
            read = partial(decode_trip, payload, via="mqtt", wall=self._wall(), retained=retained)
            events.append(read(token=token()))
        elif topic == f"{self._prefix}/command/reset":
            again = partial(decode_reset, payload, via="mqtt", wall=self._wall(), retained=retained)
            events.append(again(token=token()))
        else:
            for button in self._buttons:
                if message.topic.matches(button.topic) and match_button(payload, retained, button.match):
                    pressed = partial(ButtonPressed, wall=self._wall(), button=button.name, scope=button.scope)
                    events.append(pressed(via="mqtt", token=token()))
        if not events:
            why = "a payload that matches no button, is empty or retained"
            nothing = partial(CommandRefused, wall=self._wall(), command="panic", id=None, reason=why)
            events.append(nothing(via="mqtt", token=token(), noise=True))
        if message.qos:
            self._open[message.mid] = set(range(len(events)))
        for event in events:
            self._submit(event)

    def _acknowledge(self, token: object) -> None:
        """PUBACK, once all that came of the delivery is done with. One of an older connection comes again."""
        if not isinstance(token, Delivery) or token.connection != self._connection or self._client is None:
            return
        left = self._open.get(token.mid)
        if left is None:
            return
        left.discard(token.part)
        if not left:
            del self._open[token.mid]
            mqtt_session.acknowledge(self._client, token.mid, token.qos)

    # --- presence ------------------------------------------------------------------------------------------

    async def _presence(self, what: str, topic: str, gone: bytes) -> None:
        """Hold a connection whose will says `gone` on `topic`.

        Our own word is said again after each connect, and whenever a will says `gone`: that of an older
        connection of ours, which the broker gave up late, or another daemon's.
        """
        backoff = Backoff()
        will = aiomqtt.Will(topic, gone, qos=1, retain=True)
        while True:
            began = time.monotonic()
            try:
                identifier = f"killswitch-{self._name}-{what}-{self._instance}"
                async with connected(self._broker, identifier=identifier, will=will) as client:
                    # Not on the command session, where they would fill what the broker keeps for it.
                    topics = [topic, f"{self._prefix}/trip/+"] if what == "state" else [topic]
                    await mqtt_session.subscribe(client, topics, 0)
                    self._outbox.renew(topic)
                    async for message in client.messages:
                        self._overheard(message, topic, gone)
            except aiomqtt.MqttError as error:
                log.debug("%s: presence of %s: %s", self._broker.label, what, in_words(error))
            await backoff.wait(time.monotonic() - began)

    def _overheard(self, message: aiomqtt.Message, mine: str, gone: bytes) -> None:
        topic, payload = message.topic.value, bytes(message.payload)
        if topic != mine:
            if message.retain and payload and topic not in self._outbox:
                self._leftover(topic, payload)
        elif payload == gone:
            self._outbox.renew(topic)
        elif topic == self._replica_topic and not message.retain:
            instance = announce.decode_instance(payload)
            if instance is not None and instance != self._instance:
                self._other_heard = time.monotonic()

    def _leftover(self, topic: str, payload: bytes) -> None:
        """A trip that the broker still holds and that we don't know: ours from before, or nobody can read whose."""
        trip = topic.rpartition("/")[2]
        seen = announce.decode_trip_view(payload)
        if seen is not None and seen.daemon not in ("", self._name):
            return
        found = partial(RetainedTripFound, wall=self._wall(), trip=trip)
        if seen is None or seen.trip != trip:
            self._submit(found(scope=None, by="", cause=""))
        else:
            cause = "; ".join(seen.causes)
            self._submit(found(scope=seen.scope, by=seen.by, cause=cause, shadow=seen.shadow))

    def _trip_topic(self, trip: str) -> str:
        return f"{self._prefix}/trip/{trip}"

    @property
    def _state_topic(self) -> str:
        return f"{self._prefix}/state"

    @property
    def _replica_topic(self) -> str:
        return f"{self._prefix}/replica/{self._name}"


async def _send(client: aiomqtt.Client, parcel: Parcel) -> None:
    """Publish with QoS 1 and wait for the broker's word. Raises aiomqtt.MqttError."""
    try:
        await mqtt_session.publish(client, parcel.topic, parcel.make(), retain=parcel.kind == "retained")
    except ValueError as error:  # a topic or payload that MQTT can't carry; trying again would never end
        log.error("not published on %r: %s", parcel.topic[:80], error)


def _first(group: BaseExceptionGroup[aiomqtt.MqttError]) -> aiomqtt.MqttError:
    """The error that says most: one with a reason code, else the first."""
    errors = [_first(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return next((e for e in errors if mqtt_session.code_of(e) is not None), errors[0])

"""One connection to a broker: made anew for every attempt, dropped for good, refused in a sentence.

This is asyncio-mqtt under its present name. Two of its private parts are used, because there is no public
way to acknowledge a message only after it is on disk: `_client`, paho's client, whose manual acknowledgement
must be set before connecting (set later, one message of each reconnect is acknowledged too early), and
`_disconnected`, whose error is looked at so that nobody is told of an error that was handled. What paho hands
over is looked at before the library sees it: an error there would make it read one message for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

T = TypeVar("T")

log = logging.getLogger("killswitch.mqtt")

KEEPALIVE_S: Final = 5
"""A frozen broker is noticed after about twice this."""
TIMEOUT_S: Final = 3.0
"""For connecting and for what a broker answers at once."""
PUBLISH_TIMEOUT_S: Final = 10.0
SESSION_EXPIRY_S: Final = 7 * 24 * 3600
"""How long a broker keeps what was sent to a daemon that is away (MQTT 5; 3.1.1 has no limit of its own)."""
RECEIVE_MAXIMUM: Final = 1000
"""Deliveries that may be unacknowledged at once. Mosquitto stops at 20 unless it is told this (MQTT 5)."""
WINDOW_UNKNOWN: Final = 20
"""What to expect of a 3.1.1 broker, which can't be told: the default of Mosquitto."""
TAKEN_OVER: Final = 142  # MQTT 5, 3.14.2.1: another client connected with this identifier
UNSUPPORTED_VERSION: Final = (1, 132)  # MQTT 3.1.1, 3.2.2.3 and MQTT 5, 3.2.2.2
UNSPECIFIED: Final = 128
NO_ANSWER: Final = "Operation timed out"  # the library's words
CLOSED_AT_ONCE: Final = "the broker closed the connection without an answer"
GRACE_S: Final = 0.1
FIRST_S: Final = 0.1
LAST_S: Final = 5.0
STOOD_S: Final = 5.0
"""A connection that stood this long was a good one: the next waits begin small again."""

V5: Final = aiomqtt.ProtocolVersion.V5
V311: Final = aiomqtt.ProtocolVersion.V311


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where a broker is and how to sign in there. Files are PEM; the password is never shown."""

    host: str
    port: int = 1883
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> Broker:
        """mqtt://HOST[:PORT] (1883) or mqtts://HOST[:PORT] (TLS, 8883). Raises ValueError, without the URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("a broker's address is mqtt://HOST:PORT or mqtts://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a broker's address carries no user and no password")
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=parts.port or (8883 if tls else 1883),
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            username=username or None,
            password=password,
        )

    @property
    def label(self) -> str:
        """host:port, for people and metrics."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refused(Exception):  # noqa: N818 a broker's answer, not our error
    """The broker doesn't let us subscribe to what we need: a sentence."""


def check_library() -> None:
    """Raises AssertionError when a release of aiomqtt or paho has changed what this module rests on."""
    made = aiomqtt.Client.__init__.__code__.co_names
    for name in ("_client", "_disconnected"):
        assert name in made, f"this release of aiomqtt has no {name}: commands can't be acknowledged by hand"
    for name in ("manual_ack_set", "ack", "socket", "connect_timeout", "on_socket_close", "on_message"):
        assert hasattr(paho.Client, name), f"this release of paho-mqtt has no {name}"


@contextlib.asynccontextmanager
async def connected(
    broker: Broker,
    *,
    identifier: str,
    version: aiomqtt.ProtocolVersion = V311,
    durable: bool = False,
    will: aiomqtt.Will | None = None,
    queue_type: type[asyncio.Queue[aiomqtt.Message]] | None = None,
    accepted: Callable[[Properties | None], None] | None = None,
) -> AsyncIterator[aiomqtt.Client]:
    """A connection that stands. Raises aiomqtt.MqttError when it can't be made.

    `durable`: the broker keeps the session while we are away, and every message is acknowledged by hand. At
    the end the socket is dropped without a DISCONNECT, so that the broker publishes the will: it says what
    holds when we are gone, whatever the reason. `accepted` is told what the broker says of itself (MQTT 5).
    """
    client = _client(broker, identifier, version, durable=durable, will=will, queue_type=queue_type)
    if accepted is not None:
        on_accepted(client, accepted)
    connecting = asyncio.ensure_future(client.__aenter__())
    try:
        await _answered(client, connecting)
        yield client
    finally:
        if connecting.done():
            _drop(client)
        else:
            connecting.add_done_callback(partial(_drop_late, client))


async def _answered(client: aiomqtt.Client, connecting: asyncio.Future[aiomqtt.Client]) -> None:
    """Wait until the broker has accepted us. Raises aiomqtt.MqttError.

    A cancelled connect would leave a client behind that nobody can close: only the waiting is cancelled. A
    broker that closes the connection instead of answering, as some do that don't know MQTT 5, is not waited
    for; the library would notice it by its time-out only.
    """
    loop, inner = asyncio.get_running_loop(), client._client  # noqa: SLF001 see the module's docstring
    closed, tidy = asyncio.Event(), inner.on_socket_close

    def on_close(*told: Any) -> None:
        if tidy is not None:
            tidy(*told)
        loop.call_soon_threadsafe(closed.set)

    inner.on_socket_close = on_close
    closing = asyncio.ensure_future(closed.wait())
    try:
        either: list[asyncio.Future[Any]] = [connecting, closing]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # A refusal closes the connection too: then what was answered is on its way.
        await asyncio.wait([connecting], timeout=GRACE_S)
    finally:
        closing.cancel()
    if not connecting.done():
        raise aiomqtt.MqttError(CLOSED_AT_ONCE)
    await connecting


def _client(
    broker: Broker,
    identifier: str,
    version: aiomqtt.ProtocolVersion,
    *,
    durable: bool,
    will: aiomqtt.Will | None,
    queue_type: type[asyncio.Queue[aiomqtt.Message]] | None,
) -> aiomqtt.Client:
    # MQTT 5 needs both: without clean_start False a process starts with an empty session, without the expiry
    # the session ends with the connection. Either alone loses what was sent while we were away.
    properties = Properties(PacketTypes.CONNECT) if version is V5 else None  # type: ignore[no-untyped-call]
    if properties is not None and durable:
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        identifier=identifier,
        protocol=version,
        will=will,
        clean_session=None if version is V5 else not durable,
        clean_start=not durable if version is V5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
        timeout=TIMEOUT_S,
        keepalive=KEEPALIVE_S,
        tls_params=aiomqtt.TLSParameters(broker.ca_file, broker.cert_file, broker.key_file) if broker.tls else None,
        queue_type=queue_type,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # else some answers take 40 ms
    )
    inner = client._client  # noqa: SLF001 see the module's docstring
    inner.connect_timeout = TIMEOUT_S
    inner.manual_ack_set(durable)
    inner.on_message = partial(_hand_over, inner.on_message)
    client._disconnected.add_done_callback(lambda end: end.cancelled() or end.exception())  # noqa: SLF001
    return client


def _hand_over(deliver: Any, inner: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
    """Give a message to the library, unless its topic is none: no UTF-8, empty, or with wildcards.

    The library raises for those inside paho's reading, which then takes the same packet for unread, again and
    again, with all of the loop's time. It is acknowledged, as all is that can't be a command.
    """
    try:
        aiomqtt.Topic(message.topic)
    except ValueError:
        log.warning("a message whose topic is none was dropped")
        with contextlib.suppress(OSError):
            inner.ack(message.mid, message.qos)  # does nothing where acknowledging isn't by hand
        return
    deliver(inner, userdata, message)


def acknowledge(client: aiomqtt.Client, mid: int, qos: int) -> None:
    """PUBACK. What can't be sent comes again on the next connection."""
    with contextlib.suppress(OSError):
        client._client.ack(mid, qos)  # noqa: SLF001 see the module's docstring


def _drop(client: aiomqtt.Client) -> None:
    """End the connection now. paho sees the end of the stream and cleans up after itself.

    A socket left open after a failed attempt would come alive with a broker that was frozen, and our own
    forgotten clients would take the session over from each other.
    """
    held = client._client.socket()  # noqa: SLF001 see the module's docstring
    if isinstance(held, socket.socket):  # an SSL socket is one too
        with contextlib.suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)


def _drop_late(client: aiomqtt.Client, connecting: asyncio.Future[aiomqtt.Client]) -> None:
    """The end of an attempt that was cancelled."""
    if not connecting.cancelled():
        connecting.exception()
    _drop(client)


def on_accepted(client: aiomqtt.Client, tell: Callable[[Properties | None], None]) -> None:
    """Have the properties of the broker's CONNACK told, which the library drops (MQTT 5; else None)."""
    inner = client._client  # noqa: SLF001 see the module's docstring
    before = inner.on_connect

    def on_connect(*told: Any) -> None:
        tell(told[4] if len(told) > 4 else None)
        if before is not None:
            before(*told)

    inner.on_connect = on_connect


async def subscribe(client: aiomqtt.Client, topics: Sequence[str], qos: int) -> tuple[str, ...]:
    """The topics that the broker refused, or granted below `qos`. Raises aiomqtt.MqttError."""
    if not topics:
        return ()
    codes = await _whole(client.subscribe([(topic, qos) for topic in topics]))
    values = [code.value if isinstance(code, ReasonCode) else code for code in codes]
    return tuple(topic for topic, value in zip(topics, values, strict=True) if value != qos)


async def unsubscribe(client: aiomqtt.Client, topics: Sequence[str]) -> None:
    """Let go of topics. Raises aiomqtt.MqttError."""
    if topics:
        await _whole(client.unsubscribe(list(topics)))


async def publish(
    client: aiomqtt.Client,
    topic: str,
    payload: bytes,
    *,
    retain: bool = False,
    timeout_s: float = PUBLISH_TIMEOUT_S,
) -> None:
    """Publish with QoS 1 and wait for the broker's word. aiomqtt.MqttError; ValueError: MQTT can't carry it."""
    await _whole(client.publish(topic, payload, qos=1, retain=retain, timeout=timeout_s))


async def _whole(call: Coroutine[Any, Any, T]) -> T:
    """Await a call of the library in a task of its own.

    It waits with asyncio.wait_for, which in Python 3.11 forgets a cancellation that arrives together with the
    answer; a link that forgets it never ends.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()
        raise
    return task.result()


class Backoff:
    """Jittered waits between attempts, 0.1 to 5 s; small again once a connection stood for a while."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    async def wait(self, stood_s: float) -> None:
        if stood_s >= STOOD_S:
            self._next_s = FIRST_S
        wait_s = max(FIRST_S, self._next_s * random.uniform(0.5, 1.0))  # noqa: S311 not a secret
        self._next_s = min(self._next_s * 2, LAST_S)
        await asyncio.sleep(wait_s)


def code_of(error: aiomqtt.MqttError) -> int | None:
    """The MQTT reason code of an error, or of the one it came from."""
    for link in (error, error.__cause__):
        if isinstance(link, aiomqtt.MqttCodeError):
            return link.rc.value if isinstance(link.rc, ReasonCode) else link.rc
    return None


def in_words(error: aiomqtt.MqttError | Refused) -> str:
    """Why there is no connection, for people. It holds nothing of our credentials."""
    for link in (error.__cause__, error):
        if isinstance(link, aiomqtt.MqttCodeError) and isinstance(link.rc, ReasonCode):
            # paho calls a connection that just ends an unspecified error of the broker's.
            lost = link.rc.value == UNSPECIFIED and not isinstance(link, MqttConnectError)
            return "the connection was lost" if lost else f"the broker says: {link.rc}"
        if isinstance(link, aiomqtt.MqttCodeError) and isinstance(link.rc, int):
            return f"the connection ended: {paho.error_string(MQTTErrorCode(link.rc))}"
    text = str(error)
    return f"no answer within {TIMEOUT_S:g} s" if text == NO_ANSWER else text

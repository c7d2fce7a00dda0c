"""A short visit to a broker: read what it retains, listen for a while, or publish.

Like the command line's other calls each visit has a client of its own with a clean session, and none is known
to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiomqtt

from killswitch.adapters import mqtt_session
from killswitch.adapters.mqtt_send import BrokerUnreachable
from killswitch.adapters.mqtt_session import Broker, connected, in_words

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

QUIET_S: Final = 0.5
"""A broker sends what it retains right after the subscription; silence for so long means that this was all."""
NOT_LET_IN: Final = (2, 4, 5, 133, 134, 135, 138, 140)
"""Reason codes that speak of us: MQTT 3.1.1, 3.2.2.3 and MQTT 5, 3.2.2.2 (identifier, password, authorization)."""


@contextlib.asynccontextmanager
async def _visit(broker: Broker, topics: Sequence[str]) -> AsyncIterator[aiomqtt.Client]:
    try:
        async with connected(broker, identifier=f"killswitch-cli-{secrets.token_hex(8)}") as client:
            refused = await mqtt_session.subscribe(client, topics, 1)
            if refused:
                raise BrokerUnreachable(f"{broker.label}: the broker doesn't let us subscribe to {', '.join(refused)}")
            yield client
    except aiomqtt.MqttError as error:
        raise BrokerUnreachable(f"{broker.label}: {in_words(error)}") from None


async def why_not(broker: Broker, topics: Sequence[str]) -> str | None:
    """Why this broker doesn't let us in, or subscribe to these topics: a sentence. None: it does."""
    try:
        async with _visit(broker, topics):
            return None
    except BrokerUnreachable as error:
        return str(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What a broker let us do. `refused`: topics that it doesn't let us subscribe to with QoS 1.

    `receive_max`: how many messages it takes from us unacknowledged; None: not told, as in MQTT 3.1.1.
    `took_s`: from the first byte to the answer to the subscription.
    """

    version: str
    receive_max: int | None
    refused: tuple[str, ...]
    took_s: float


class NotLetIn(Exception):  # noqa: N818  # a broker's answer, not our error
    """The broker answered, and said no: a sentence without any secret."""


async def look(broker: Broker, topics: Sequence[str], identifier: str) -> Welcome:
    """Sign in and subscribe to these topics, in a session that ends at once; nothing is published.

    `identifier` must be nobody else's: the broker gives a session to whoever came last. Raises NotLetIn,
    BrokerUnreachable.
    """
    try:
        return await _look(broker, topics, identifier, mqtt_session.V5)
    except aiomqtt.MqttError as error:
        silent = str(error) in (mqtt_session.NO_ANSWER, mqtt_session.CLOSED_AT_ONCE)
        if not silent and mqtt_session.code_of(error) not in mqtt_session.UNSUPPORTED_VERSION:
            raise _no(broker, error) from None
    try:
        return await _look(broker, topics, identifier, mqtt_session.V311)
    except aiomqtt.MqttError as error:
        raise _no(broker, error) from None


async def _look(broker: Broker, topics: Sequence[str], identifier: str, version: aiomqtt.ProtocolVersion) -> Welcome:
    told: list[Any] = []
    began = time.monotonic()
    async with connected(broker, identifier=identifier, version=version, accepted=told.append) as client:
        refused = await mqtt_session.subscribe(client, topics, 1)
        took_s = time.monotonic() - began
    five = version is mqtt_session.V5
    # MQTT 5, 3.2.2.3.3: where it isn't told, it is the most that there is.
    receive_max = getattr(told[0] if told else None, "ReceiveMaximum", 65_535) if five else None
    return Welcome(version="5" if five else "3.1.1", receive_max=receive_max, refused=refused, took_s=took_s)


def _no(broker: Broker, error: aiomqtt.MqttError) -> NotLetIn | BrokerUnreachable:
    kind = NotLetIn if mqtt_session.code_of(error) in NOT_LET_IN else BrokerUnreachable
    return kind(f"{broker.label}: {in_words(error)}")


async def retained(broker: Broker, topics: Sequence[str]) -> dict[str, bytes]:
    """What the broker retains under these topics, by topic. Raises BrokerUnreachable."""
    found: dict[str, bytes] = {}
    async with _visit(broker, topics) as client:
        messages = aiter(client.messages)
        while True:
            more = asyncio.ensure_future(anext(messages))
            try:
                done, _ = await asyncio.wait([more], timeout=QUIET_S)
                if not done:
                    return found
                message = more.result()
            finally:
                more.cancel()
                await asyncio.gather(more, return_exceptions=True)
            found[str(message.topic)] = bytes(message.payload)


async def listen(broker: Broker, topics: Sequence[str]) -> AsyncGenerator[tuple[str, bytes], None]:
    """Each message under these topics, the retained ones first. Raises BrokerUnreachable when the link is lost.

    Close it when done (contextlib.aclosing): it holds a connection.
    """
    async with _visit(broker, topics) as client:
        async for message in client.messages:
            yield str(message.topic), bytes(message.payload)


@contextlib.asynccontextmanager
async def sender(broker: Broker) -> AsyncIterator[Callable[[str, bytes], Awaitable[None]]]:
    """A connection to publish over: `send(topic, payload)`, QoS 1; the broker has it on return.

    Raises BrokerUnreachable, whenever it is.
    """
    async with _visit(broker, ()) as client:

        async def send(topic: str, payload: bytes) -> None:
            await client.publish(topic, payload, qos=1)

        yield send

"""A short visit to a broker: read what it retains, listen for a while, or publish.

Like the command line's other calls each visit has a client of its own with a clean session, and none is known
to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final

import aiomqtt

from killswitch.adapters import mqtt_session
from killswitch.adapters.mqtt_send import BrokerUnreachable
from killswitch.adapters.mqtt_session import Broker, connected, in_words

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

QUIET_S: Final = 0.5
"""A broker sends what it retains right after the subscription; silence for so long means that this was all."""


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

"""The command line's side: send one command and wait for its receipt, or watch a trip.

Each call has a short-lived client with a name of its own and a clean session.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Literal

import aiomqtt

from killswitch.adapters import mqtt_session
from killswitch.adapters.mqtt_session import Backoff, Broker, connected, in_words
from killswitch.wire import announce

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from killswitch.wire.announce import ReceiptSeen, TripSeen


class BrokerUnreachable(Exception):  # noqa: N818 the other side's, not a bug
    """The broker could not be reached or didn't take the message: a sentence without any secret."""


def _identifier() -> str:
    return f"killswitch-cli-{secrets.token_hex(8)}"


async def send_command(
    broker: Broker,
    *,
    prefix: str,
    kind: Literal["trip", "reset"],
    payload: bytes,
    id: str,  # noqa: A002 the wire's name
    timeout_s: float,
) -> ReceiptSeen | None:
    """Publish a command and wait for its receipt. None: the broker has it, and nobody answered in time.

    Raises BrokerUnreachable when the broker could not be reached, or didn't confirm that it has the command.
    """
    try:
        async with connected(broker, identifier=_identifier()) as client:
            topic = f"{prefix}/receipt/{id}"
            if await mqtt_session.subscribe(client, [topic], 1):
                raise BrokerUnreachable(f"the broker doesn't let us subscribe to {topic}")
            answer = asyncio.create_task(_receipt(client, id))
            try:
                await mqtt_session.publish(client, f"{prefix}/command/{kind}", payload, timeout_s=timeout_s)
                # Waiting for a task, never for anext with a time-out: that can lose the very message.
                await asyncio.wait([answer], timeout=timeout_s)
                # Where the link was lost meanwhile, the broker still has the command: no receipt, no failure.
                return answer.result() if answer.done() and answer.exception() is None else None
            finally:
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
    except aiomqtt.MqttError as error:
        raise BrokerUnreachable(f"{broker.label}: {in_words(error)}") from None


async def _receipt(client: aiomqtt.Client, command_id: str) -> ReceiptSeen | None:
    async for message in client.messages:
        seen = announce.decode_receipt(bytes(message.payload))
        if seen is not None and seen["id"] == command_id:
            return seen
    return None


async def watch_trip(broker: Broker, *, prefix: str, trip: str) -> AsyncGenerator[TripSeen | None, None]:
    """Each view of a trip as it is published, beginning with the retained one; None when it is cleared.

    It connects again when the link is lost; only the first connection's failure raises BrokerUnreachable.
    Close it when done (contextlib.aclosing): it holds a connection.
    """
    backoff, stood = Backoff(), False
    while True:
        began = time.monotonic()
        try:
            async with connected(broker, identifier=_identifier()) as client:
                topic = f"{prefix}/trip/{trip}"
                if await mqtt_session.subscribe(client, [topic], 1):
                    raise BrokerUnreachable(f"the broker doesn't let us subscribe to {topic}")
                stood = True
                async for message in client.messages:
                    payload = bytes(message.payload)
                    seen = announce.decode_trip_view(payload)
                    if seen is not None or not payload:
                        yield seen
        except aiomqtt.MqttError as error:
            if not stood:
                raise BrokerUnreachable(f"{broker.label}: {in_words(error)}") from None
        await backoff.wait(time.monotonic() - began)

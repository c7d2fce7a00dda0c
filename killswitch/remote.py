"""Talking to a running daemon: commands over MQTT, and over HTTP where no broker is; what the broker retains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.adapters.mqtt_send import BrokerUnreachable, send_command, watch_trip
from killswitch.adapters.mqtt_visit import retained
from killswitch.broker import broker_of
from killswitch.remote_http import NotReached, post, state
from killswitch.wire.announce import decode_trip_view
from killswitch.wire.commands import encode_reset_command, encode_trip_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, TypeAlias

    from killswitch.adapters.mqtt_session import Broker
    from killswitch.config import Config
    from killswitch.domain.scope import Scope
    from killswitch.wire.announce import ReceiptSeen, TripSeen

    Command: TypeAlias = Literal["trip", "reset"]

__all__ = ["NotReached", "state"]

RECEIPT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.2
"""How often a trip that can't be watched at the broker is looked at over HTTP."""


@dataclass(slots=True)
class Sending:
    """A trip command under way: what is known of it when it is interrupted or ends. `at`: monotonic seconds.

    `over_http`: why it didn't go over MQTT, where it did not.
    """

    id: str
    at: float
    receipt: ReceiptSeen | None = None
    view: TripSeen | None = None
    over_http: str = ""


@dataclass(frozen=True, slots=True)
class Retained:
    """What the broker retains of the daemons behind it. `state` None: nothing, or nothing that can be read."""

    state: str | None
    trips: tuple[TripSeen, ...]


def new_id() -> str:
    """A command's id: unlike any other."""
    return f"cli-{secrets.token_hex(8)}"


def _broker(config: Config) -> Broker:
    broker = broker_of(config)
    if broker is None:
        raise NotReached("no broker is configured (mqtt.urls), so no command can be sent over MQTT")
    return broker


# --- commands -----------------------------------------------------------------------------------------------


async def trip(
    config: Config,
    scope: Scope,
    *,
    by: str,
    reason: str,
    wait_s: float,
    sending: Sending,
    show: Callable[[TripSeen], None],
    tell: Callable[[str], None],
) -> None:
    """Send a trip command and watch its trip until it is VERIFIED, or the time is up; `sending` keeps what is known.

    A shadow trip is watched until it has looked. `tell` hears why a command goes over HTTP.

    Returns as well when the command was refused. Raises NotReached, CommandError.
    """
    payload = encode_trip_command(id=sending.id, scope=scope, by=by, reason=reason, issued_at=time.time())
    receipt, sending.over_http = await _send(config, "trip", payload, sending.id, tell)
    sending.receipt = receipt
    if not receipt["accepted"] or receipt["trip"] is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(wait_s, 0.0)):
            if sending.over_http:
                await _look(config, receipt["trip"], sending, show)
            else:
                await _watch(config, _broker(config), receipt["trip"], sending, show)


async def _watch(
    config: Config, broker: Broker, trip_id: str, sending: Sending, show: Callable[[TripSeen], None]
) -> None:
    """Until it is VERIFIED, or has looked where it is a shadow trip, or somebody resets it."""
    try:
        async with contextlib.aclosing(watch_trip(broker, prefix=config.mqtt.prefix, trip=trip_id)) as views:
            async for view in views:
                if _is_over(view, sending, show):
                    return
    except BrokerUnreachable as error:
        raise NotReached(
            f"the command was accepted as trip {trip_id}, but can't be watched any more: {error}"
        ) from None


async def _look(config: Config, trip_id: str, sending: Sending, show: Callable[[TripSeen], None]) -> None:
    """As _watch, at the daemon's own state."""
    while True:
        try:
            said = await asyncio.to_thread(state, config)
        except NotReached as error:
            raise NotReached(f"the command was accepted as trip {trip_id}, but can't be watched: {error}") from None
        forms = [trip for trip in said.get("trips") or () if isinstance(trip, dict) and trip.get("trip") == trip_id]
        if _is_over(decode_trip_view(json.dumps(forms[0]).encode()) if forms else None, sending, show):
            return
        await asyncio.sleep(LOOK_EVERY_S)


def _is_over(view: TripSeen | None, sending: Sending, show: Callable[[TripSeen], None]) -> bool:
    """Show what was seen of the trip: None where it isn't there. True: there is nothing more to wait for."""
    if view is None:
        return sending.view is not None
    sending.view = view
    show(view)
    return view.outcome == "VERIFIED" or (view.shadow and view.would_cancel is not None)


async def reset(config: Config, trip_id: str, *, by: str, reason: str, tell: Callable[[str], None]) -> ReceiptSeen:
    """Send a reset command. `tell` hears why it goes over HTTP. Raises NotReached, CommandError."""
    id_ = new_id()
    payload = encode_reset_command(id=id_, trip=trip_id, by=by, reason=reason, issued_at=time.time())
    receipt, _ = await _send(config, "reset", payload, id_, tell)
    return receipt


async def _send(
    config: Config, kind: Command, payload: bytes, id_: str, tell: Callable[[str], None]
) -> tuple[ReceiptSeen, str]:
    """Over MQTT, else over HTTP: the receipt, and why not over MQTT.

    Both may carry it: a command with the same id and content is carried out once, and answered alike.
    """
    try:
        return await _over_mqtt(config, _broker(config), kind, payload, id_), ""
    except NotReached as error:
        why = str(error)
    tell(f"{why}; asking the daemon over HTTP")
    try:
        return await asyncio.to_thread(post, config, kind, payload), why
    except NotReached as error:
        raise NotReached(f"{why}; {error}") from None


async def _over_mqtt(config: Config, broker: Broker, kind: Command, payload: bytes, id_: str) -> ReceiptSeen:
    try:
        receipt = await send_command(
            broker, prefix=config.mqtt.prefix, kind=kind, payload=payload, id=id_, timeout_s=RECEIPT_S
        )
    except BrokerUnreachable as error:
        raise NotReached(
            f"the broker could not be reached, or didn't confirm that it has the command: {error}"
        ) from None
    if receipt is None:
        raise NotReached(await _where_it_is(config, broker, kind, id_))
    return receipt


async def _where_it_is(config: Config, broker: Broker, kind: str, id_: str) -> str:
    """What became of a command that nobody answered: the broker keeps it for a session that it knows."""
    said = f"no receipt within {RECEIPT_S:g} s for {kind} command {id_}: "
    topic = f"{config.mqtt.prefix}/availability/{config.daemon.name}"
    try:
        there = (await retained(broker, [topic])).get(topic)
    except BrokerUnreachable:
        return f"{said}the broker took it and can't be reached now; it may still be queued there"
    queued = f"the command is still queued at the broker {broker.label}"
    match there:
        case b"online":
            return (
                f"{said}daemon {config.daemon.name} is connected, so the command is still queued or is carried out "
                "already: a receipt waits for the journal, a cancel doesn't. `killswitch status` shows more"
            )
        case b"offline":
            too_old = f"a reset older than {config.commands.max_age_s:g} s is refused by then"
            later = "it is carried out when the daemon is back" if kind == "trip" else too_old
            return f"{said}daemon {config.daemon.name} is not connected; {queued}, and {later}"
        case _:
            return (
                f"{said}the broker {broker.label} knows no daemon {config.daemon.name} under the prefix "
                f"{config.mqtt.prefix}: nothing shows that the command is queued for anybody"
            )


# --- the state ----------------------------------------------------------------------------------------------


async def retained_state(config: Config) -> Retained:
    """The state and the trips that the broker retains. Raises NotReached."""
    prefix = config.mqtt.prefix
    try:
        found = await retained(_broker(config), [f"{prefix}/state", f"{prefix}/trip/+"])
    except BrokerUnreachable as error:
        raise NotReached(str(error)) from None
    word: object = None
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        word = json.loads(found.pop(f"{prefix}/state", b"null")).get("state")
    seen = [decode_trip_view(payload) for _, payload in sorted(found.items())]
    return Retained(word if isinstance(word, str) else None, tuple(view for view in seen if view is not None))

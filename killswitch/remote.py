"""Talking to a running daemon: commands over MQTT, and its state over HTTP or from what the broker retains."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from killswitch.adapters.mqtt_send import BrokerUnreachable, send_command, watch_trip
from killswitch.adapters.mqtt_visit import retained
from killswitch.broker import broker_of
from killswitch.wire.announce import decode_trip_view
from killswitch.wire.commands import encode_reset_command, encode_trip_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.adapters.mqtt_session import Broker
    from killswitch.config import Config
    from killswitch.domain.scope import Scope
    from killswitch.wire.announce import ReceiptSeen, TripSeen

RECEIPT_S: Final = 10.0
STATE_S: Final = 3.0
STATE_MAX: Final = 64 * 1024 * 1024
"""Bytes read of /state."""


class NotReached(Exception):  # noqa: N818  # the other side's, not a bug
    """What is needed could not be reached: a sentence for a person, without any secret."""


@dataclass(slots=True)
class Sending:
    """A trip command under way: what is known of it when it is interrupted or ends. `at`: monotonic seconds."""

    id: str
    at: float
    receipt: ReceiptSeen | None = None
    view: TripSeen | None = None


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
) -> None:
    """Send a trip command and watch its trip until it is VERIFIED, or the time is up; `sending` keeps what is known.

    A shadow trip is watched until it has looked.

    Returns as well when the command was refused. Raises NotReached, CommandError.
    """
    broker = _broker(config)
    payload = encode_trip_command(id=sending.id, scope=scope, by=by, reason=reason, issued_at=time.time())
    receipt = await _send(config, broker, "trip", payload, sending.id)
    sending.receipt = receipt
    if not receipt["accepted"] or receipt["trip"] is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(wait_s, 0.0)):
            await _watch(config, broker, receipt["trip"], sending, show)


async def _watch(
    config: Config, broker: Broker, trip_id: str, sending: Sending, show: Callable[[TripSeen], None]
) -> None:
    """Until it is VERIFIED, or has looked where it is a shadow trip, or somebody resets it."""
    try:
        async with contextlib.aclosing(watch_trip(broker, prefix=config.mqtt.prefix, trip=trip_id)) as views:
            async for view in views:
                if view is None:
                    if sending.view is not None:
                        return
                    continue
                sending.view = view
                show(view)
                if view.outcome == "VERIFIED" or (view.shadow and view.would_cancel is not None):
                    return
    except BrokerUnreachable as error:
        raise NotReached(
            f"the command was accepted as trip {trip_id}, but can't be watched any more: {error}"
        ) from None


async def reset(config: Config, trip_id: str, *, by: str, reason: str) -> ReceiptSeen:
    """Send a reset command. Raises NotReached, CommandError."""
    broker, id_ = _broker(config), new_id()
    payload = encode_reset_command(id=id_, trip=trip_id, by=by, reason=reason, issued_at=time.time())
    return await _send(config, broker, "reset", payload, id_)


async def _send(config: Config, broker: Broker, kind: Any, payload: bytes, id_: str) -> ReceiptSeen:
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


def state(config: Config) -> dict[str, Any]:
    """/state of the daemon of this configuration, from this host. Raises NotReached."""
    host, port = config.http.host, config.http.port
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not bound here
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if port == 0:
        raise NotReached("http.listen has port 0: which one the daemon took, its log says")
    connection = http.client.HTTPConnection(host, port, timeout=STATE_S)
    try:
        connection.request("GET", "/state", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(STATE_MAX)
    except TimeoutError:
        raise NotReached(f"http://{shown}/state: no answer within {STATE_S:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotReached(f"http://{shown}/state: {getattr(error, 'strerror', None) or 'no HTTP'}") from None
    finally:
        connection.close()
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if answer.status != http.client.OK or not isinstance(said, dict) or "state" not in said:
        raise NotReached(f"http://{shown}/state: what answers there (HTTP {answer.status}) is no killswitch daemon")
    return said


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

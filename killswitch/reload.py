"""Reading the configuration again: what may change while it runs, and what differs from the one in use."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from killswitch.adapters.mqtt_visit import why_not
from killswitch.broker import broker_of
from killswitch.config import ConfigError, load
from killswitch.domain.messages import Reconfigured, ReloadFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from killswitch.config import Config

log = logging.getLogger("killswitch")

RESTART: Final = "can't be changed while it runs: restart it, trips stay latched"

TABLES: Final = ("daemon", "http", "mqtt", "confirm", "retry", "commands")


async def read_again(
    old: Config, env: Mapping[str, str], by: str, wall: Callable[[], float]
) -> Reconfigured | ReloadFailed:
    """Read the file of `old` again, beside the loop, which goes on meanwhile. Raises nothing."""
    log.warning("%s: reading %s again", by, old.path)
    try:
        new = await asyncio.to_thread(load, old.path, env)
        refused = refusals(old, new, env)
        if not refused:
            refused = await _tried(old, new)
        return Reconfigured(
            wall=wall(),
            settings=new.settings(boot=""),
            by=by,
            refusals=refused,
            replaced=replaced_feeds(old, new),
            changed=others_changed(old, new),
            token=new,
        )
    except ConfigError as error:
        for mistake in error.mistakes:
            log.error("%s", mistake)
        return ReloadFailed(wall=wall(), mistakes=tuple(error.mistakes), by=by)
    except Exception as error:  # a fault of ours in reading a file must not end the protection
        log.exception("the configuration can't be read")
        return ReloadFailed(wall=wall(), mistakes=(f"internal error ({type(error).__name__})",), by=by)


async def _tried(old: Config, new: Config) -> tuple[str, ...]:
    """Another sign-in at the broker is tried before it is believed: the links would find out at the next outage."""
    broker = broker_of(new)
    if broker is None or broker == broker_of(old):
        return ()
    why = await why_not(broker, [f"{new.mqtt.prefix}/command/trip", f"{new.mqtt.prefix}/command/reset"])
    return () if why is None else (f"[mqtt]: the new sign-in was tried in vain: {why}",)


def refusals(old: Config, new: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    """What can't be changed while it runs, each in a sentence. Of the latched trips the core knows."""
    found = []
    if old.journal_path(env) != new.journal_path(env):
        found.append(f"[daemon].journal {RESTART}")
    if old.daemon.mode != new.daemon.mode:
        # A rule that is in breach has tripped already, in shadow: it would not do so again.
        found.append(f"[daemon].mode {RESTART}")
    if (old.http.host, old.http.port) != (new.http.host, new.http.port):
        found.append(f"[http].listen {RESTART}")
    # The broker keeps a session under our name: two clients of that name would push each other out, and what a
    # broker that we leave still holds for us would be lost.
    found += [
        f"[mqtt].{key} {RESTART}"
        for key, was, will_be in (
            ("urls", old.mqtt.brokers, new.mqtt.brokers),
            ("prefix", old.mqtt.prefix, new.mqtt.prefix),
        )
        if was != will_be
    ]
    return tuple(found)


def replaced_feeds(old: Config, new: Config) -> frozenset[str]:
    """Feeds that read from elsewhere now, or otherwise: what was heard of them says nothing about the new ones."""
    held = {feed.spec.name: feed for feed in old.feeds}
    return frozenset(feed.spec.name for feed in new.feeds if held.get(feed.spec.name, feed) != feed)


def others_changed(old: Config, new: Config) -> tuple[str, ...]:
    """What else differs, in words for the journal: tables, buttons, and OMSs whose sign-in is another."""
    found = [f"[{name}]" for name in TABLES if getattr(old, name) != getattr(new, name)]
    omses = {oms.name: oms for oms in old.oms}
    found += [f'oms "{oms.name}"' for oms in new.oms if omses.get(oms.name, oms) != oms]
    before, after = ({panic.name: panic for panic in config.panics} for config in (old, new))
    names = dict.fromkeys((*before, *after))
    found += [f'panic "{name}"' for name in names if before.get(name) != after.get(name)]
    return tuple(found)

"""The sources of readings that a configuration names: one client for all MQTT feeds, a connection for each WebSocket.

An OMS feed has no link of its own here: it comes over the link that cancels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.adapters.feeds import WebSocketFeed
from killswitch.adapters.mqtt_feed import FeedLink
from killswitch.broker import broker_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from killswitch.config import Config
    from killswitch.config.tables import Stream
    from killswitch.domain.messages import Event
    from killswitch.links import Start


class Sources:
    """Reads them, from `start` on; `change` lets those that are the same go on undisturbed."""

    def __init__(self, config: Config, submit: Callable[[Event], None], wall: Callable[[], float]) -> None:
        self._config, self._submit, self._wall = config, submit, wall
        self._mqtt: FeedLink | None = None
        self._streams: dict[str, tuple[Stream, asyncio.Task[None]]] = {}
        self._start: Start | None = None

    def start(self, start: Start) -> None:
        """Run them by this, from now on."""
        self._start = start
        self.change(self._config)

    def change(self, config: Config) -> None:
        """Read the feeds of this configuration."""
        self._config = config
        if self._start is None:
            return
        self._change_mqtt(self._start)
        wanted = {feed.spec.name: feed.stream for feed in config.feeds if feed.stream is not None}
        for name, (stream, task) in tuple(self._streams.items()):
            if wanted.get(name) != stream:
                task.cancel()
                del self._streams[name]
        for name, stream in wanted.items():
            if name not in self._streams:
                self._streams[name] = (stream, self._start(f"feed {name}", self._feed(stream).run()))

    def _feed(self, stream: Stream) -> WebSocketFeed:
        return WebSocketFeed(
            url=stream.url, subscribe=stream.subscribe, shape=stream.shape, submit=self._submit, wall=self._wall
        )

    def _change_mqtt(self, start: Start) -> None:
        """One client, made with the first feed and kept from then on, for whatever feeds there are."""
        shapes = [feed.shape for feed in self._config.feeds if feed.shape is not None]
        broker = broker_of(self._config)
        if self._mqtt is not None and broker is not None:
            self._mqtt.sign_in_as(broker)
            self._mqtt.change(shapes)
        elif shapes and broker is not None:
            self._mqtt = FeedLink(
                broker=broker,
                name=self._config.daemon.name,
                feeds=shapes,
                submit=self._submit,
                wall=self._wall,
            )
            start("mqtt feeds", self._mqtt.run())

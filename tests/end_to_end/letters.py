"""What a test reads at the broker: everything under the prefix, kept by kind, across the broker's restarts."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

import aiomqtt


class Letters:
    """`retained`: topic -> its newest payload, as JSON; gone once cleared. `receipts`: id -> all of them, in order.

    `events`: in order, none left out; of a retained topic a payload that is overtaken may never be published.
    """

    def __init__(self):
        self.up = False
        self.retained = {}
        self.receipts = defaultdict(list)
        self.events = []
        self.heard = lambda topic, said: None  # called with each retained topic's new payload

    async def read(self, broker, who):
        """Read for ever; a session of its own that the broker keeps, so that nothing is missed."""
        while True:
            try:
                async with aiomqtt.Client(
                    broker.host,
                    broker.port,
                    username=who,
                    password=who,
                    identifier="test-reader",
                    clean_session=False,
                    timeout=5,
                ) as client:
                    await client.subscribe("killswitch/#", qos=1)
                    self.up = True
                    async for message in client.messages:
                        self._take(message.topic.value, bytes(message.payload))
            except aiomqtt.MqttError:
                self.up = False
                await asyncio.sleep(0.05)

    def _take(self, topic, payload):
        parts = topic.split("/")
        if parts[1] == "command":
            return
        if parts[1] == "event":
            self.events.append(json.loads(payload))
        elif parts[1] == "receipt":
            self.receipts[parts[2]].append(json.loads(payload))
        elif not payload:
            self.retained.pop(topic, None)
        else:
            try:
                self.retained[topic] = json.loads(payload)
            except ValueError:  # availability is a word, and a test may have left anything
                self.retained[topic] = payload.decode()
            self.heard(topic, self.retained[topic])

    def kinds(self):
        return [event["kind"] for event in self.events]

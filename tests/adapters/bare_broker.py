"""A bare MQTT broker, by hand from the standard: it grants what it is told to and can send what no broker should."""

from __future__ import annotations

import asyncio
import struct

from killswitch.adapters.mqtt_session import Broker

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ = 1, 3, 4, 8, 12


def packet(first: int, body: bytes) -> bytes:
    """A control packet: its first byte, the length of the rest, the rest."""
    head, left = bytearray([first]), len(body)
    while True:
        left, seven = divmod(left, 128)
        head.append(seven | (128 if left else 0))
        if not left:
            return bytes(head) + body


class BareBroker:
    """Speaks 3.1.1 and 5. `after_subscribe(client, five)`: what this client gets behind its SUBACK."""

    def __init__(self, after_subscribe=lambda _client, _five: ()):
        self.after_subscribe = after_subscribe
        self.acknowledged: list[int] = []
        self.published: list[tuple[str, bytes]] = []
        self.connections: list[str] = []
        self.granted = 1  # the QoS that each subscription gets, or a refusal
        self.told = b""  # properties of its CONNACK, to MQTT 5
        self.accepts = lambda _topic, _payload: True  # False: the connection is closed over it

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Broker(host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_):
        self._server.close()

    @staticmethod
    def delivery(topic: bytes, payload: bytes, mid: int, *, five: bool, retain: bool = False) -> bytes:
        """A PUBLISH with QoS 1, of MQTT 5 or 3.1.1."""
        properties = b"\0" if five else b""
        return packet(
            0x32 | retain, struct.pack("!H", len(topic)) + topic + struct.pack("!H", mid) + properties + payload
        )

    async def _serve(self, reader, writer):
        client, five = "", False
        try:
            while True:
                kind, body, flags = await self._packet(reader)
                if kind == CONNECT:
                    five = body[6] == 5
                    client = self._connect(body, five, writer)
                elif kind == SUBSCRIBE:
                    writer.write(
                        packet(
                            0x90, body[:2] + (b"\0" if five else b"") + bytes([self.granted]) * self._topics(body, five)
                        )
                    )
                    for some in self.after_subscribe(client, five):
                        writer.write(some)
                elif kind == PUBLISH and not self._publish(body, flags, writer):
                    return
                elif kind == PUBACK:
                    self.acknowledged.append(struct.unpack_from("!H", body)[0])
                elif kind == PINGREQ:
                    writer.write(b"\xd0\0")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _packet(reader) -> tuple[int, bytes, int]:
        first, length, shift = (await reader.readexactly(1))[0], 0, 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first >> 4, await reader.readexactly(length), first & 15

    def _connect(self, body, five, writer) -> str:
        at = 10 + (1 + body[10] if five else 0)
        size = struct.unpack_from("!H", body, at)[0]
        self.connections.append(body[at + 2 : at + 2 + size].decode())
        told = bytes([len(self.told)]) + self.told if five else b""
        writer.write(packet(0x20, b"\0\0" + told))
        return self.connections[-1]

    @staticmethod
    def _topics(body, five) -> int:
        at, count = 2 + (1 + body[2] if five else 0), 0
        while at < len(body):
            at += 3 + struct.unpack_from("!H", body, at)[0]
            count += 1
        return count

    def _publish(self, body, flags, writer) -> bool:
        size = struct.unpack_from("!H", body)[0]
        topic, at = body[2 : 2 + size].decode(), 2 + size
        mid = body[at : at + 2]
        payload = body[at + 2 :].removeprefix(b"\0")  # no properties: one byte of MQTT 5
        if not self.accepts(topic, payload):
            return False
        self.published.append((topic, payload))
        if flags & 6:
            writer.write(packet(0x40, mid))
        return True

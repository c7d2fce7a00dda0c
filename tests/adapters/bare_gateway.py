"""A bare WebSocket server, by hand from RFC 6455: it shares no code with the product and can misbehave.

It accepts, reads masked text frames, keeps every one of them, and answers by a table that a test sets. What
it sends is written byte by byte, so a test can trickle, cut, stall or lie.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import struct

SIGNED_IN = json.dumps({"Authenticated": True, "SessionToken": "t", "User": {"UserId": 37}, "Requires2FA": False})
RECEIVED = '{"result":true,"errormsg":null,"errorcode":0,"detail":null}'
ANSWERS = {
    "AuthenticateUser": SIGNED_IN,
    "SubscribeAccountEvents": '{"Subscribe":true}',
    "Ping": '{"msg":"PONG"}',
    "CancelAllOrders": RECEIVED,
    "CancelOrder": RECEIVED,
    "GetOpenOrders": "[]",
    "GetUserAccounts": "[14,15]",
    "GetAccountPositions": "[]",
    "GetOMSVersion": "Endpoint Not Found",
}


class Peer:
    """One accepted connection. `frames`: all that it sent, as (n, o, i)."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.frames: list[tuple[str, str, int]] = []
        self.closed = asyncio.Event()

    def text(self, payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
        """The bytes of one WebSocket frame."""
        head = bytes([(0x80 if fin else 0) | opcode])
        if len(payload) < 126:
            return head + bytes([len(payload)]) + payload
        if len(payload) < 2**16:
            return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
        return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload

    async def send(self, m: int, i: int, n: str, o: str) -> None:
        await self.send_bytes(self.text(json.dumps({"m": m, "i": i, "n": n, "o": o}).encode()))

    async def send_bytes(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def abort(self) -> None:
        """Cut the connection in the middle of whatever it is doing."""
        self.writer.transport.abort()

    async def message(self) -> bytes | None:
        """The next text message; None at the end."""
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            mask = await self.reader.readexactly(4)
            data = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if first & 0x0F == 8:
            return None
        assert second & 0x80, "a client masks its frames"
        return bytes(b ^ mask[k % 4] for k, b in enumerate(data))


class BareGateway:
    """`answers`: a name's payload, or a coroutine function (peer, i, o) that answers by itself; None: silence."""

    def __init__(self, **answers):
        self.answers = {**ANSWERS, **answers}
        self.status = "101 Switching Protocols"
        self.headers = ""
        self.peers: list[Peer] = []
        self.greet = None  # a coroutine function (peer), after the handshake
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/WSGateway/"
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=2**26)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for peer in self.peers:
            peer.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def frames(self) -> list[tuple[str, str, int]]:
        return [frame for peer in self.peers for frame in peer.frames]

    def bodies(self, name: str) -> list[str]:
        return [o for n, o, _ in self.frames if n == name]

    async def until(self, true, seconds: float = 10) -> None:
        """Wait until `true()`, which is looked at after each frame and connection."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(true)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        peer = Peer(reader, writer)
        try:
            await self._talk(peer)
        finally:
            peer.closed.set()
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _talk(self, peer):
        try:
            request = (await peer.reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        key = next(line for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        digest = hashlib.sha1((key.split(":")[1].strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        accept = base64.b64encode(digest.digest()).decode()
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        length = "" if self.status.startswith("101") else "Content-Length: 0\r\n"
        await peer.send_bytes(f"HTTP/1.1 {self.status}\r\n{upgrade}{length}{self.headers}\r\n".encode())
        await self._note(lambda: self.peers.append(peer))
        if not self.status.startswith("101"):
            return
        if self.greet is not None:
            await self.greet(peer)
        while (data := await peer.message()) is not None:
            frame = json.loads(data)
            n, i, o = frame["n"], frame["i"], frame["o"]
            await self._note(lambda n=n, o=o, i=i: peer.frames.append((n, o, i)))
            answer = self.answers.get(n)
            if callable(answer):
                await answer(peer, i, o)
            elif answer is not None:
                await peer.send(1, i, n, answer)

    async def _note(self, change):
        async with self._changed:
            change()
            self._changed.notify_all()

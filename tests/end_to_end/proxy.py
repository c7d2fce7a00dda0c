"""A faulty TCP link for tests: between the daemon and a gateway, or a broker.

async with Proxy() as proxy:
    proxy.target = house.sim.port
    fault = proxy.inject(Fault(UP, "CancelAllOrders", at=AFTER, does=MUTE_DOWN))

UP is from the daemon to the other side, DOWN from there to the daemon. Bytes pass unchanged and in order; WebSocket
frames are read in passing, so that a fault can name a call. A connection that was muted stays so until somebody cuts
it: a stream with a hole in it would be no fault of a network's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

from tests.end_to_end.ports import quiet_port

UP, DOWN = "up", "down"
BEFORE, MIDDLE, AFTER = "before", "in the middle of", "after"
CUT, STALL, MUTE, MUTE_UP, MUTE_DOWN = "cut", "stall", "mute", "mute up", "mute down"
_MUTES = {MUTE: (UP, DOWN), MUTE_UP: (UP,), MUTE_DOWN: (DOWN,)}


@dataclass(eq=False)
class Fault:
    """What happens at a frame: `does` something before, in the middle of, or after it.

    `call` "" is any frame, `says` a part of its payload. It strikes at the `nth` that fits, counted over all
    connections from the moment on when it was injected, and at the `times` - 1 next ones. `byte`: not at a frame
    but when so many bytes of one connection have passed that way. CUT drops both sockets without a word;
    MUTE_… swallows what comes from that side from now on, and leaves the sockets open; STALL stops reading it;
    a number holds that frame, and all behind it, back for so many seconds.
    """

    way: str
    call: str = ""
    at: str = AFTER
    does: str | float = CUT
    nth: int = 1
    times: int = 1
    says: str = ""
    byte: int | None = None
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __str__(self):
        says = f" that says {self.says}" if self.says else ""
        return f"{self.does} {self.at} {self.way} {self.call or 'frame'} {self.nth}{says}".replace(" ", "_")

    def hits(self, way, name, payload):
        if self.byte is not None or way != self.way or self.struck >= self.times:
            return False
        if (self.call and name != self.call) or self.says not in payload:
            return False
        self.seen += 1
        return self.seen >= self.nth


class Proxy:
    """One address that leads to `target`, a port of this host. `frames` False: a protocol that isn't WebSocket.

    Switches: `delay_s` for everything from now on, each way; `refuse` and `accept` connections.
    """

    def __init__(self, *, frames=True):
        self.port = quiet_port()
        self.target = None
        self.frames = frames
        self.delay_s = 0.0
        self.mute_new = False
        """Connections that are made while it is on are accepted, and nothing passes in them."""
        self.faults = []
        self.connections = 0
        self.links = []
        self._server = None
        self._tasks = set()

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/WSGateway/"

    async def __aenter__(self):
        await self.accept()
        return self

    async def __aexit__(self, *_):
        await self.refuse()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def inject(self, fault):
        self.faults.append(fault)
        return fault

    async def accept(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self):
        """Nobody listens any more; what is open stays open."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    def cut(self):
        """Drop every connection, without a word."""
        for link in list(self.links):
            link.cut()

    def mute(self, *ways):
        """The connections that are open swallow what comes from these sides, both if none is named."""
        for link in self.links:
            link.muted |= set(ways or (UP, DOWN))

    def flow(self):
        """Whatever stalled is read again."""
        for link in self.links:
            for gate in link.gates.values():
                gate.set()

    async def _serve(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, writer, far_writer)
        if self.mute_new:
            link.muted |= {UP, DOWN}
        self.links.append(link)
        try:
            await link.run(reader, far_reader)
        finally:
            self.links.remove(link)


class _Link:
    """One connection and its other half."""

    def __init__(self, proxy, near, far):
        self.proxy = proxy
        self.muted = set()
        self.gates = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        for gate in self.gates.values():
            gate.set()
        self._writers = {UP: far, DOWN: near}
        self._passed = {UP: 0, DOWN: 0}
        self._gone = asyncio.Event()

    def cut(self):
        self._gone.set()
        for writer in self._writers.values():
            writer.transport.abort()

    async def run(self, near, far):
        jobs = [asyncio.create_task(self._pump(way, reader)) for way, reader in ((UP, near), (DOWN, far))]
        gone = asyncio.create_task(self._gone.wait())
        await asyncio.wait([*jobs, gone], return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        for job in (*jobs, gone):
            job.cancel()
        await asyncio.gather(*jobs, gone, return_exceptions=True)

    async def _pump(self, way, reader):
        """What comes one way, until its end; written by a task of its own, since it may be late."""
        waiting = asyncio.Queue()
        writes = asyncio.create_task(self._write(way, waiting))
        cutter = _Frames() if self.proxy.frames else None
        try:
            while data := await reader.read(65_536):
                for piece, name, payload in cutter.take(data) if cutter else [(data, "", "")]:
                    if not await self._pass(way, piece, name, payload, waiting):
                        return
                await self.gates[way].wait()
            waiting.put_nowait((0.0, None))
            await writes
        except OSError:
            pass
        finally:
            writes.cancel()
            await asyncio.gather(writes, return_exceptions=True)

    async def _pass(self, way, piece, name, payload, waiting):
        """One frame; False when that was the end."""
        loop = asyncio.get_running_loop()
        hit, late_s = None, self.proxy.delay_s
        if name:
            hit = next((f for f in self.proxy.faults if f.hits(way, name, payload)), None)
        share = len(piece)
        if hit is not None:
            hit.struck += 1
            if isinstance(hit.does, float):
                late_s, hit = late_s + hit.does, None
            else:
                share = {BEFORE: 0, MIDDLE: len(piece) // 2, AFTER: len(piece)}[hit.at]
        for fault in self.proxy.faults:
            left = None if fault.byte is None or fault.way != way else fault.byte - self._passed[way]
            if left is not None and left <= share and fault.struck < fault.times:
                fault.struck += 1
                hit, share = fault, max(left, 0)
        done = asyncio.Event()
        waiting.put_nowait((loop.time() + late_s, piece[:share]))
        self._passed[way] += share
        if hit is None:
            return True
        waiting.put_nowait((0.0, done))
        await done.wait()
        if hit.does == CUT:
            self.cut()
            return False
        if hit.does == STALL:
            self.gates[way].clear()
            await self.gates[way].wait()
            waiting.put_nowait((0.0, piece[share:]))
            return True
        self.muted |= set(_MUTES[hit.does])
        return True

    async def _write(self, way, waiting):
        """In order, each piece not before it is due."""
        while True:
            due, piece = await waiting.get()
            if piece is None:
                return
            if isinstance(piece, asyncio.Event):
                piece.set()
                continue
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))
            if way not in self.muted and piece:
                with contextlib.suppress(OSError):
                    self._writers[way].write(piece)
                    await self._writers[way].drain()


class _Frames:
    """Cuts a stream into the opening handshake and WebSocket frames, and reads the name of what is in each."""

    def __init__(self):
        self._held = bytearray()
        self._open = False

    def take(self, data):
        """What is whole now: (bytes, name, payload), the name "" where it is no call."""
        self._held += data
        found = []
        while (piece := self._next()) is not None:
            found.append(piece)
        return found

    def _next(self):
        held = self._held
        if not self._open:
            end = held.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._open = True
            return self._cut(end + 4), "", ""
        if len(held) < 2:
            return None
        size, at = held[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(held) < 2 + wide:
                return None
            size, at = int.from_bytes(held[2 : 2 + wide]), 2 + wide
        masked = held[1] & 0x80
        at += 4 if masked else 0
        if len(held) < at + size:
            return None
        piece = self._cut(at + size)
        payload = piece[at:]
        if masked:
            key = (piece[at - 4 : at] * (size // 4 + 1))[:size]
            payload = bytes(a ^ b for a, b in zip(payload, key, strict=True))
        return piece, *_named(payload)

    def _cut(self, size):
        piece = bytes(self._held[:size])
        del self._held[:size]
        return piece


def _named(payload):
    try:
        frame = json.loads(payload)
        return frame["n"], frame["o"]
    except (ValueError, KeyError, TypeError):
        return "", ""

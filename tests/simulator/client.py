"""A bare client of the gateway: websockets and json only, so that nothing of ours checks itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import connect

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Seen:
    """One frame, its payload decoded where it is JSON."""

    m: int
    i: int
    n: str
    o: object


class Bare:
    """Sends frames by hand and keeps every frame that came."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self.seen: list[Seen] = []
        self.number = 0

    async def send(self, name: str, body: object = None, *, m: int = 0) -> int:
        """One request; gives its number: 2, 4, 6..."""
        self.number += 2
        payload = body if isinstance(body, str) else json.dumps({} if body is None else body)
        await self.socket.send(json.dumps({"m": m, "i": self.number, "n": name, "o": payload}))
        return self.number

    async def read(self, timeout_s: float = PATIENCE_S) -> Seen:
        """The next frame, whatever it is."""
        async with asyncio.timeout(timeout_s):
            text = await self.socket.recv()
        assert isinstance(text, str)
        frame = json.loads(text)
        assert set(frame) == {"m", "i", "n", "o"}
        try:
            payload = json.loads(frame["o"])
        except ValueError:
            payload = frame["o"]
        self.seen.append(Seen(frame["m"], frame["i"], frame["n"], payload))
        return self.seen[-1]

    async def ask(self, name: str, body: object = None):
        """The answer to one request; events that come before it are kept in `seen`."""
        number = await self.send(name, body)
        while True:
            frame = await self.read()
            if frame.m != 3:
                assert (frame.i, frame.n) == (number, name)
                return frame.o

    async def events(self, name: str, count: int) -> list[Seen]:
        """The next so many events of this name."""
        found = []
        while len(found) < count:
            frame = await self.read()
            if frame.m == 3 and frame.n == name:
                found.append(frame)
        return found

    async def silent(self, for_s: float = 0.2) -> bool:
        """Nothing comes for a while."""
        try:
            await self.read(for_s)
        except TimeoutError:
            return True
        return False

    async def sign_in(self, user) -> None:
        reply = await self.ask("AuthenticateUser", by_key(user))
        assert reply.get("Authenticated", reply.get("authenticated")) is True


def by_key(user, nonce: str = "1234567890") -> dict:
    """AuthenticateUser's body, signed as the vendor says: Nonce + UserId + APIKey."""
    message = f"{nonce}{user.user_id}{user.api_key}"
    signature = hmac.new(user.api_secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return {"APIKey": user.api_key, "Signature": signature, "UserId": str(user.user_id), "Nonce": nonce}


@asynccontextmanager
async def bare(sim, user: int | None = None):
    """A connection, signed in by key as `user` when one is named."""
    async with connect(
        sim.url, compression=None, proxy=None, max_size=64 * 2**20, ping_interval=None, close_timeout=0.2
    ) as socket:
        client = Bare(socket)
        if user is not None:
            await client.sign_in(sim.exchange.users[user])
        yield client

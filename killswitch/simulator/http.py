"""The simulator's HTTP face on a socket: `http://host:port/AP/`.

One catch-all application under the server; what is answered is decided in http_calls.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, ClassVar, Final

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from killswitch.simulator.http_calls import PATH, Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from killswitch.simulator.http_calls import HttpCalls, Reaction

_BODY_MAX: Final = 64 * 1024
"""A request is a few hundred bytes; a longer one is answered 413."""
_GRACE_S: Final = 1.0


class _Connection(H11Protocol):
    """A connection that can be found again by its other end, to be cut without an answer."""

    all: ClassVar[dict[tuple[str, int], asyncio.Transport]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.all[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.all.pop(self.client, None)
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's."""
        yield


class HttpFace:
    """Serves the calls until `stop`; may be started again, on the same port."""

    def __init__(self, calls: HttpCalls, host: str, port: int, now: Callable[[], float]) -> None:
        self.host, self.port = host, port
        self.calls = calls
        self._now = now
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}
        self._ending = asyncio.Event()
        self._listening: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients call, with the path but without its last slash; known once started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH.rstrip('/')}"

    async def start(self) -> None:
        """Listen: who connects from here on is served. Raises OSError when the address can't be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, self.port), family=family)
        self.port = self._listening.getsockname()[1]
        self._ending = asyncio.Event()
        settings: dict[str, Any] = {
            "http": type("Connection", (_Connection,), {"all": self._transports}),
            "ws": "none",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,
        }
        self._server = _Server(uvicorn.Config(self, **settings))
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listening]), name="simulated HTTP")

    async def stop(self) -> None:
        """Cut every connection and stop listening."""
        server, self._server = self._server, None
        serving, self._serving = self._serving, None
        listening, self._listening = self._listening, None
        if server is None or serving is None or listening is None:
            return
        self._ending.set()
        self.drop()
        server.should_exit = server.force_exit = True
        await asyncio.wait({serving}, timeout=_GRACE_S)
        serving.cancel()
        listening.close()  # the server does, unless it was stopped before it had begun

    def drop(self) -> None:
        """Cut every connection, as a lost link does."""
        for transport in list(self._transports.values()):
            transport.abort()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            asked = await _read(request)
        except ClientDisconnect:
            return
        if asked is None:
            await Response("PAYLOAD TOO LARGE", 413, media_type="text/plain")(scope, receive, send)
            return
        reaction = self.calls.receive(asked, self._now())
        if reaction.cut:
            self._cut(scope)
            return
        await self._gone(request, None if reaction.silent else reaction.delay_s)
        if reaction.silent or self._ending.is_set():
            self._cut(scope)
            return
        await _response(reaction)(scope, receive, send)

    async def _gone(self, request: Request, at_most_s: float | None) -> None:
        """Wait so long, for ever where it is None; less when the client goes or we stop."""
        if at_most_s == 0:
            return
        waits = [asyncio.ensure_future(self._ending.wait()), asyncio.ensure_future(_left(request))]
        await asyncio.wait(waits, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _cut(self, scope: Scope) -> None:
        transport = self._transports.get(tuple(scope["client"] or ()))
        if transport is not None:
            transport.abort()


async def _read(request: Request) -> Asked | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_MAX:
            return None
    return Asked(
        method=request.method,
        path=request.url.path,
        query=dict(request.query_params),
        headers=dict(request.headers),
        body=body.decode("utf-8", "replace"),
    )


async def _left(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(reaction: Reaction) -> Response:
    kind = "application/json" if reaction.text[:1] in ("{", "[") else "text/plain"
    return Response(reaction.text, reaction.status, media_type=kind)

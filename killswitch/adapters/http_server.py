"""The server under the HTTP face: its sockets, its bounds, and its hands off our signals."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

CONNECTIONS_MAX: Final = 256
"""Open at once; a further one is closed unanswered: sessions to the OMS need file descriptors too."""
HEAD_MAX: Final = 16 * 1024
"""Bytes of a request's line and headers; beyond it 400."""
GRACE_S: Final = 1
"""At the end requests under way get so long; without it the server waits for them for ever."""


class ListenError(OSError):
    """The address can't be listened on: a sentence."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. Port 0: any free one."""

    host: str
    port: int


def bind(listen: Listen) -> list[socket.socket]:
    """A bound socket for each address of the host, all on one port. Raises ListenError.

    Done here since the server, given a host, ends the whole process when the port is taken.
    """
    sockets: list[socket.socket] = []
    port = listen.port
    why: OSError | None = None
    try:
        found = socket.getaddrinfo(listen.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"no address is called {listen.host}: {error.strerror}") from None
    for family, address in dict.fromkeys((entry[0], str(entry[4][0])) for entry in found):
        try:
            sockets.append(socket.create_server((address, port), family=family, backlog=CONNECTIONS_MAX))
        except OSError as error:
            why = error  # localhost may stand for an address family that this host doesn't have
        else:
            port = sockets[0].getsockname()[1]
    if not sockets:
        raise ListenError(f"can't listen on {listen.host} port {listen.port}: {why.strerror if why else ''}")
    return sockets


def is_loopback(sockets: list[socket.socket]) -> bool:
    return all(ipaddress.ip_address(s.getsockname()[0].split("%")[0]).is_loopback for s in sockets)


class _Connection(H11Protocol):
    """One connection, which is cut `life_s` after it was made, whatever it does or doesn't do.

    The server itself waits for ever for the rest of a request, and for a client that doesn't read.
    """

    life_s: ClassVar[float]
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            self._cut = self.loop.call_later(self.life_s, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM is the daemon's: it sweeps on first, and stops the server last."""
        yield


class Server:
    """Serves an ASGI application on bound sockets until `stop`."""

    def __init__(self, app: ASGIApp, *, connection_life_s: float) -> None:
        connection: type[asyncio.Protocol] = type("Connection", (_Connection,), {"life_s": connection_life_s})
        settings: dict[str, Any] = {
            "http": connection,
            "ws": "none",
            "lifespan": "off",
            "log_config": None,  # logging is set up by the daemon
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,  # nobody's word for who asks
            "timeout_graceful_shutdown": GRACE_S,
            "h11_max_incomplete_event_size": HEAD_MAX,
        }
        self._server = _Server(uvicorn.Config(app, **settings))

    async def run(self, sockets: list[socket.socket]) -> None:
        """Returns after `stop`; cancelling it stops the server in order too."""
        serving = asyncio.ensure_future(self._server.serve(sockets=sockets))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait({serving}, timeout=GRACE_S + 2)
            raise
        finally:
            serving.cancel()

    def stop(self) -> None:
        self._server.should_exit = True

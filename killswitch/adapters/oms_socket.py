"""The WebSocket connection to a gateway: how it is opened, and what of it can be seen from outside."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

if TYPE_CHECKING:
    from websockets.protocol import Protocol

_log = logging.getLogger("killswitch.adapters.oms")

OPEN_S: Final = 3.0
CLOSE_S: Final = 0.2
MESSAGE_BYTES_MAX: Final = 256 * 2**20

FOREIGN_ERRORS: Final = (OSError, EOFError, WebSocketException, ValueError)
"""All that opening a connection can end in (TimeoutError and TLS errors are OSErrors)."""


def _library_log() -> logging.Logger:
    """A logger for the library that no configuration can turn up.

    At DEBUG the library logs frames, and the sign-in's frame holds a password or a signature. A logger that
    isn't in the registry can't be reached by name or by a level set on its parents.
    """
    quiet = logging.Logger("killswitch.adapters.oms.websocket", logging.WARNING)  # noqa: LOG001  # see above
    quiet.parent = _log
    return quiet


class _Redirected(InvalidHandshake):
    """The gateway points elsewhere. Credentials go to the configured address only."""


class Connection(ClientConnection):
    """A client connection that counts the bytes that came in.

    A list of 22 MB can be one frame and take a minute on a thin link: only the bytes tell that it is alive.
    """

    bytes_heard = 0

    def __init__(self, protocol: Protocol, **options: Any) -> None:
        super().__init__(protocol, **options)  # type: ignore[arg-type]  # it is a ClientProtocol
        self.bytes_heard = 0

    def data_received(self, data: bytes) -> None:
        self.bytes_heard += len(data)
        super().data_received(data)

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().handshake(*args, **kwargs)
        except InvalidStatus as error:
            status = error.response.status_code
            if 300 <= status < 400:
                raise _Redirected(f"the gateway points elsewhere (HTTP {status}); not followed") from None
            raise


async def open_socket(url: str) -> Connection:
    """A connection after its opening handshake. Raises one of FOREIGN_ERRORS; see `in_words`."""
    connection = await connect(
        url,
        # Saves 24 us a message and most of the time of a big list; the gateways don't negotiate it anyway.
        compression=None,
        # The library would take HTTP(S)_PROXY from the environment: a cancel goes straight or not at all.
        proxy=None,
        # The library's 1 MiB would close the connection at about 950 open orders, while they are counted.
        max_size=MESSAGE_BYTES_MAX,
        # Frames that wait while a big list is being decoded; beyond it the library stops reading the socket.
        max_queue=1024,
        # An address that doesn't answer shouldn't hold up the next attempt.
        open_timeout=OPEN_S,
        # A pong waits behind a big list and the library would close a living link: bytes and the
        # gateway's own Ping tell whether it lives.
        ping_interval=None,
        # A silent peer doesn't answer a closing handshake: don't wait 10 s for it.
        close_timeout=CLOSE_S,
        # Nobody needs to be told our library's version.
        user_agent_header="killswitch",
        logger=_library_log(),
        create_connection=Connection,
    )
    assert isinstance(connection, Connection)
    return connection


def in_words(error: BaseException) -> str:
    """A sentence for an error of FOREIGN_ERRORS; it holds nothing that was sent."""
    match error:
        case TimeoutError():
            return f"no answer to the opening handshake within {OPEN_S:g} s"
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate doesn't hold: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'no reason given'}"
        case InvalidStatus():
            return f"the gateway refused the opening handshake: HTTP {error.response.status_code}"
        case _Redirected():
            return str(error)
        case ConnectionClosed():
            return _closed(error)
        case OSError():
            return f"no connection: {error.strerror or error}"
        case _:
            return f"no WebSocket there: {type(error).__name__}"


def _closed(error: ConnectionClosed) -> str:
    if error.rcvd is not None:
        return f"the gateway closed the connection ({error.rcvd.code})"
    if error.sent is not None:
        # We had to fail the connection: 1009 is a message beyond MESSAGE_BYTES_MAX, 1002 no WebSocket frame.
        return f"the gateway sent what can't be read ({error.sent.code})"
    return "the connection broke"


async def read_message(socket: Connection) -> bytes:
    """One message, put together from however many fragments (the library's own way stops at 4,096).

    Raises ConnectionClosed when all that had arrived is read.
    """
    return b"".join([part async for part in socket.recv_streaming(decode=False)])


def abort(socket: Connection) -> None:
    """Cut it at once, without a closing handshake that a dead peer wouldn't answer."""
    socket.transport.abort()


async def close(socket: Connection) -> None:
    """Close it politely, within about CLOSE_S: what was written just now still leaves. Never raises."""
    try:
        async with asyncio.timeout(5 * CLOSE_S):
            await socket.close()
    except TimeoutError:
        abort(socket)

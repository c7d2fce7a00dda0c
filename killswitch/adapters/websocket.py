"""The WebSocket client that the OMS link and the feeds share: how a connection is opened, heard, and ended.

It is the one door to the library for us as a client; the callers say what differs: sizes, and who is spoken of.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

if TYPE_CHECKING:
    from websockets.protocol import Protocol

__all__ = [
    "FOREIGN_ERRORS",
    "Connection",
    "ConnectionClosed",
    "abort",
    "close",
    "in_words",
    "open_socket",
    "read_message",
]

OPEN_S: Final = 3.0
CLOSE_S: Final = 0.2

FOREIGN_ERRORS: Final = (OSError, EOFError, WebSocketException, ValueError)
"""All that opening a connection can end in (TimeoutError and TLS errors are OSErrors)."""


def _library_log(name: str) -> logging.Logger:
    """A logger for the library that no configuration can turn up.

    At DEBUG the library logs frames, and a sign-in's frame holds a password or a signature. A logger that
    isn't in the registry can't be reached by name or by a level set on its parents.
    """
    quiet = logging.Logger(f"{name}.websocket", logging.WARNING)  # noqa: LOG001  # see above
    quiet.parent = logging.getLogger(name)
    return quiet


class _Redirected(InvalidHandshake):
    """The other side points elsewhere. What we send goes to the configured address only."""


class Connection(ClientConnection):
    """A client connection that counts the bytes that came in.

    A list of 22 MB can be one frame and take a minute on a thin link: only the bytes tell that it is alive. A
    pong is a sign of life as well as a reading.
    """

    bytes_heard = 0

    def __init__(self, protocol: Protocol, **options: Any) -> None:
        super().__init__(protocol, **options)  # type: ignore[arg-type]  # it is a ClientProtocol
        self.bytes_heard = 0

    def data_received(self, data: bytes) -> None:
        self.bytes_heard += len(data)
        super().data_received(data)

    @property
    def date(self) -> str:
        """The other side's clock, as it stood in its answer to the opening handshake; "" where it told none."""
        return "" if self.response is None else self.response.headers.get("Date", "")

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().handshake(*args, **kwargs)
        except InvalidStatus as error:
            status = error.response.status_code
            if 300 <= status < 400:
                raise _Redirected(f"it points elsewhere (HTTP {status}); not followed") from None
            raise


async def open_socket(url: str, *, bytes_max: int, frames_max: int, log: str) -> Connection:
    """A connection after its opening handshake. Raises one of FOREIGN_ERRORS; see `in_words`.

    `bytes_max`: the longest message; the library's 1 MiB would cut a list of about 950 open orders. `frames_max`:
    frames that wait while a message is decoded; beyond it the library stops reading the socket. `log`: the name
    of the caller's logger.
    """
    connection = await connect(
        url,
        # Saves 24 us a message and most of the time of a big list; gateways don't negotiate it anyway, and a
        # hostile source has nothing to blow up.
        compression=None,
        # The library would take HTTP(S)_PROXY from the environment: what
        # goes out goes straight or not at all, and readings come from where the configuration says.
        proxy=None,
        max_size=bytes_max,
        max_queue=frames_max,
        # An address that doesn't answer shouldn't hold up the next attempt.
        open_timeout=OPEN_S,
        # A pong waits behind a big list or a flood and the library would close a living link: bytes heard,
        # and pings of the callers' own, tell whether it lives.
        ping_interval=None,
        # A silent peer doesn't answer a closing handshake: don't wait 10 s for it.
        close_timeout=CLOSE_S,
        # Nobody needs to be told our library's version.
        user_agent_header="killswitch",
        logger=_library_log(log),
        create_connection=Connection,
    )
    assert isinstance(connection, Connection)
    return connection


def in_words(error: BaseException, peer: str) -> str:
    """A sentence for an error of FOREIGN_ERRORS; it holds nothing that was sent. `peer`: such as "the gateway"."""
    match error:
        case TimeoutError():
            return f"no answer to the opening handshake within {OPEN_S:g} s"
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate doesn't hold: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'no reason given'}"
        case InvalidStatus():
            return f"{peer} refused the opening handshake: HTTP {error.response.status_code}"
        case _Redirected():
            return str(error)
        case ConnectionClosed():
            return _closed(error, peer)
        case OSError():
            return f"no connection: {error.strerror or str(error) or 'it was cut while it was opened'}"
        case _:
            return f"no WebSocket there: {type(error).__name__}"


def _closed(error: ConnectionClosed, peer: str) -> str:
    if error.rcvd is not None:
        return f"{peer} closed the connection ({error.rcvd.code})"
    if error.sent is not None:
        # We had to fail the connection: 1009 is a message beyond bytes_max, 1002 no WebSocket frame.
        return f"{peer} sent what can't be read ({error.sent.code})"
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

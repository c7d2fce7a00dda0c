"""The WebSocket connection to a feed's source: how it is opened, and the sentences for how it ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

if TYPE_CHECKING:
    from websockets.protocol import Protocol

OPEN_S: Final = 3.0
CLOSE_S: Final = 0.2
MESSAGE_BYTES_MAX: Final = 2 * 2**20
FRAMES_MAX: Final = 64

FOREIGN_ERRORS: Final = (OSError, EOFError, WebSocketException, ValueError)
"""All that opening a connection can end in (TimeoutError and TLS errors are OSErrors)."""


def _library_log() -> logging.Logger:
    """A logger for the library that no configuration can turn up: at DEBUG it logs whole frames.

    One that isn't in the registry can't be reached by name or by a level set on its parents.
    """
    quiet = logging.Logger("killswitch.feeds.websocket", logging.WARNING)  # noqa: LOG001  # see above
    quiet.parent = logging.getLogger("killswitch.feeds")
    return quiet


class _Redirected(InvalidHandshake):
    """The source points elsewhere. What is subscribed goes to the configured address only."""


class Connection(ClientConnection):
    """A client connection that counts the bytes that came in: a pong is a sign of life as well as a reading."""

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
                raise _Redirected(f"it points elsewhere (HTTP {status}); not followed") from None
            raise


async def open_socket(url: str) -> Connection:
    """A connection after its opening handshake. Raises one of FOREIGN_ERRORS; see `in_words`."""
    connection = await connect(
        url,
        # Readings are small and their delay counts; it also leaves a hostile source nothing to blow up.
        compression=None,
        # The library would take HTTP(S)_PROXY from the environment, and only the configuration says where
        # readings come from.
        proxy=None,
        # Twice the longest message that is read (wire/feed.py), so that one a bit too long is a bad reading,
        # counted, and doesn't cost the connection.
        max_size=MESSAGE_BYTES_MAX,
        # Frames that wait while a long message is read; then the source has to wait. With max_size it bounds
        # what a source can make us hold.
        max_queue=FRAMES_MAX,
        # An address that doesn't answer shouldn't hold up the next attempt.
        open_timeout=OPEN_S,
        # The library closes a living link whose pong waits behind a flood; feeds.py pings when nothing at all
        # is heard, and any byte counts as an answer.
        ping_interval=None,
        # A silent source doesn't answer a closing handshake: don't wait 10 s for it.
        close_timeout=CLOSE_S,
        # Nobody needs to be told our library's version.
        user_agent_header="killswitch",
        logger=_library_log(),
        create_connection=Connection,
    )
    assert isinstance(connection, Connection)
    return connection


def in_words(error: BaseException) -> str:
    """A sentence for an error of FOREIGN_ERRORS; it holds nothing that was sent, and no text of the source's."""
    match error:
        case TimeoutError():
            return f"no answer to the opening handshake within {OPEN_S:g} s"
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate doesn't hold: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'no reason given'}"
        case InvalidStatus():
            return f"the source refused the opening handshake: HTTP {error.response.status_code}"
        case _Redirected():
            return str(error)
        case ConnectionClosed(rcvd=close) if close is not None:
            return f"the source closed the connection ({close.code})"
        case ConnectionClosed(sent=close) if close is not None:
            # We had to fail the connection: 1009 is a message beyond MESSAGE_BYTES_MAX, 1002 no WebSocket frame.
            return f"the source sent what can't be read ({close.code})"
        case ConnectionClosed():
            return "the connection broke"
        case OSError():
            return f"no connection: {error.strerror or error}"
        case _:
            return f"no WebSocket there: {type(error).__name__}"


async def read_message(socket: Connection) -> bytes:
    """One message, put together from however many fragments (the library's own way stops at 4,096).

    Raises ConnectionClosed when all that had arrived is read.
    """
    return b"".join([part async for part in socket.recv_streaming(decode=False)])


def abort(socket: Connection) -> None:
    """Cut it at once, without a closing handshake that a dead source wouldn't answer."""
    socket.transport.abort()


async def close(socket: Connection) -> None:
    """Close it politely, within about CLOSE_S. Never raises."""
    try:
        async with asyncio.timeout(5 * CLOSE_S):
            await socket.close()
    except TimeoutError:
        abort(socket)

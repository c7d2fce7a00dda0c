"""A short visit to a gateway: one connection, one sign-in, a few questions one after the other, and off.

Nothing is retried, subscribed or cancelled. The session is closed without LogOut: no document says whether that
ends the user's other sessions too, and the daemon's is one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.adapters.oms import FRAMES_MAX, LIST_BYTES_MAX, without_secrets
from killswitch.adapters.websocket import (
    FOREIGN_ERRORS,
    Connection,
    ConnectionClosed,
    close,
    in_words,
    open_socket,
    read_message,
)
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_replies import NotSignedIn, read_sign_in
from killswitch.wire.frame import Frame, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from killswitch.adapters.oms import Credentials

ANSWER_S: Final = 5.0
"""For each question; a gateway that is slower than that is one to be told of."""
DATE_STEP_S: Final = 1.0
"""A gateway tells its clock in whole seconds."""


class Unreachable(Exception):  # noqa: N818  # the other side's, not a bug
    """No connection, no TLS, no WebSocket, or no answer: a sentence without any secret."""


class SignInRefused(Exception):  # noqa: N818  # the other side's, not a bug
    """The gateway answered the sign-in, and said no: a sentence without any secret."""


class NoAnswer(Exception):  # noqa: N818  # the other side's, not a bug
    """A question that got no answer: a sentence."""


@dataclass(frozen=True, slots=True)
class ClockSpan:
    """How much the gateway's clock is ahead of ours, in seconds: between these two."""

    least_s: float
    most_s: float


class Visit:
    """A session with a gateway. `user`: whom it takes us for, where it says so. `took_s`: to be signed in."""

    def __init__(self, socket: Connection, credentials: Credentials) -> None:
        self.user: int | None = None
        self.took_s = 0.0
        self.clock: ClockSpan | None = None
        self._socket = socket
        self._credentials = credentials
        self._talk: alphapoint.Conversation[int] = alphapoint.Conversation()
        self._asked = 0

    def clean(self, text: str) -> str:
        """A text of the gateway's without our secrets."""
        return without_secrets(text, self._credentials)

    async def ask(self, request: alphapoint.Request) -> tuple[Frame, float]:
        """The answer, and the seconds that it took. Raises NoAnswer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._asked += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._socket.send(self._talk.ask(request, self._asked), text=True)
                while True:
                    frame = self._heard(await read_message(self._socket))
                    if frame is not None:
                        return frame, loop.time() - began
        except ConnectionClosed as error:
            raise NoAnswer(in_words(error, "the gateway")) from None
        except TimeoutError:
            raise NoAnswer(f"no answer within {ANSWER_S:g} s") from None

    def _heard(self, data: bytes) -> Frame | None:
        """The answer to the question under way. None: something else, such as a late one to a question before."""
        with contextlib.suppress(ProtocolError):
            heard = self._talk.hear(data)
            if isinstance(heard, alphapoint.Reply) and heard.tag == self._asked:
                return heard.frame
        return None


@contextlib.asynccontextmanager
async def visit(url: str, credentials: Credentials, wall: Callable[[], float]) -> AsyncIterator[Visit]:
    """A session, signed in; closed at the end. Raises Unreachable, SignInRefused. `wall`: Unix seconds."""
    loop = asyncio.get_running_loop()
    began, wall_before = loop.time(), wall()
    try:
        socket = await open_socket(url, bytes_max=LIST_BYTES_MAX, frames_max=FRAMES_MAX, log="killswitch.adapters.oms")
    except FOREIGN_ERRORS as error:
        raise Unreachable(in_words(error, "the gateway")) from None
    try:
        found = Visit(socket, credentials)
        found.clock = _clock(socket.date, wall_before, wall())
        await _sign_in(found, credentials, wall)
        found.took_s = loop.time() - began
        yield found
    finally:
        await close(socket)


async def _sign_in(found: Visit, credentials: Credentials, wall: Callable[[], float]) -> None:
    try:
        frame, _ = await found.ask(credentials.request(str(int(wall() * 1_000_000))))
    except NoAnswer as error:
        raise Unreachable(f"the sign-in: {error}") from None
    answer = read_sign_in(frame)
    if isinstance(answer, NotSignedIn):
        raise SignInRefused(found.clean(answer.why))
    found.user = answer.user


def _clock(date: str, before: float, after: float) -> ClockSpan | None:
    """What a Date says of the other clock: it was written between `before` and `after`, and cut to a second."""
    try:
        said = email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
    return ClockSpan(said - after, said + DATE_STEP_S - before)

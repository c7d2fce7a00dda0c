"""How a call over HTTP gets to the server: a pool of connections to one address, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx2

from killswitch.wire.alphapoint_http import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

for _library in ("httpx2", "httpcore2"):
    # They would log each call, and at DEBUG the headers that come back.
    logging.getLogger(_library).setLevel(logging.WARNING)

AT_A_TIME: Final = 4
"""Calls under way. A hundred orders one by one must not wait for each other's round trips; more would be a flood."""
ANSWER_BYTES_MAX: Final = 256 * 1024
"""Answers to cancels are short; of a longer one the rest isn't read."""
_CAUSES_MAX: Final = 20
_WRITTEN: Final = "http11.send_request_body.complete"

FOREIGN_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError)
"""All that a call can end in (TimeoutError and TLS errors are OSErrors)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long HTTP waits for what, in seconds."""

    connect_s: float = 3.0
    # For one call from beginning to end: the library's own bounds are for each read alone, so a drip would hold it.
    call_s: float = 5.0
    # Between two at least: venues limit sign-ins to about fifty a minute, for an address and not for a connection.
    sign_in_every_s: float = 5.0
    # The gateway ends a session after an hour without a call; a minute also tells how long HTTP has been away.
    warm_every_s: float = 60.0


class Unanswered(Exception):  # noqa: N818  # the other side's, not a bug
    """A call without an answer: a sentence without any secret."""


class HttpWeb:
    """A pool of connections to one address."""

    def __init__(self, url: str, pace: Pace) -> None:
        self._url, self._pace = url.rstrip("/"), pace
        self._client = httpx2.AsyncClient(
            # The machine's own authorities, as for the WebSocket link; a library's bundle would know no private one.
            verify=ssl.create_default_context(),
            # No proxies, no .netrc and no key log out of the environment: calls go straight or not at all.
            trust_env=False,
            # A token goes to the configured address and nowhere else.
            follow_redirects=False,
            # HTTP/1.1: nothing is gained from streams here, and one stuck connection would hold all calls.
            http2=False,
            timeout=httpx2.Timeout(pace.call_s, connect=pace.connect_s),
            # Beside the calls there is a question whether the session lives. Kept open for longer than we are
            # silent, so that the first cancel of a trip needs no handshake where the server keeps it open too.
            limits=httpx2.Limits(
                max_connections=AT_A_TIME + 2,
                max_keepalive_connections=AT_A_TIME + 2,
                keepalive_expiry=pace.warm_every_s * 1.5,
            ),
            # Unpacked answers can be of any size; ours are a few bytes.
            headers={"User-Agent": "killswitch", "Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections. Never raises."""
        with contextlib.suppress(*FOREIGN_ERRORS):
            await self._client.aclose()

    async def post(
        self, name: str, payload: str, headers: dict[str, str], written: Callable[[], None] | None = None
    ) -> Reply:
        """One call. Raises Unanswered. `written` is called when the request is out, at most once."""

        async def trace(step: str, _: object) -> None:
            if step == _WRITTEN and written is not None:
                written()

        self._client.cookies.clear()  # the token says who we are; a cookie would tie us to one replica
        try:
            async with (
                asyncio.timeout(self._pace.call_s),
                self._client.stream(
                    "POST",
                    f"{self._url}/{name}",
                    content=payload.encode(),
                    headers={"Content-Type": "application/json", **headers},
                    extensions={"trace": trace},
                ) as answer,
            ):
                body = b""
                async for part in answer.aiter_raw():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        break
                return Reply(answer.status_code, body[:ANSWER_BYTES_MAX].decode("utf-8", "replace"))
        except FOREIGN_ERRORS as error:
            raise Unanswered(in_words(error, self._pace)) from None


def in_words(error: BaseException, pace: Pace) -> str:
    """A sentence for an error of FOREIGN_ERRORS; it holds nothing that was sent."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the TLS certificate doesn't hold: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or 'no reason given'}"
    match error:
        case httpx2.ConnectTimeout():
            return f"no connection within {pace.connect_s:g} s"
        case TimeoutError() | httpx2.TimeoutException():
            return f"no answer within {pace.call_s:g} s"
        case httpx2.ConnectError() | OSError():
            said = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
            return f"no connection: {said[-1] if said else 'it could not be opened'}"
        case httpx2.NetworkError():
            return "the connection broke"
        case httpx2.RemoteProtocolError():
            return "the connection was cut, or what came is no HTTP"
        case _:
            return f"it can't be called: {type(error).__name__}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what lies under it, outermost first."""
    found: list[BaseException] = []
    waiting: deque[BaseException | None] = deque([error])
    while waiting and len(found) < _CAUSES_MAX:
        cause = waiting.popleft()
        if cause is None or cause in found:
            continue
        found.append(cause)
        waiting.extend(cause.exceptions if isinstance(cause, BaseExceptionGroup) else ())
        waiting.extend((cause.__cause__, cause.__context__))
    return found

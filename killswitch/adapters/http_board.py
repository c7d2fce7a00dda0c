"""The board's page at `/`, and `/events`: the state, pushed to those who look on.

Each message is the whole state, so a client that reads slowly misses nothing by missing messages: what waits for it
is one message, the newest. Nobody looking costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from killswitch.adapters.http_gate import PLAIN_HEADERS, refusal
from killswitch.board import page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    Picture = Callable[[], dict[str, Any]]

_log = logging.getLogger(__name__)

CLIENTS_MAX: Final = 32
"""Who may look on at once; a further one gets 503 and asks again: the state stays at /state."""
EVERY_S: Final = 1.0
"""A message so often at least: ages grow, and a board that hears nothing says that the daemon is lost."""
GAP_S: Final = 0.1
"""Between two messages at least: a sweep has many steps a second."""
BEAT: Final = b": no picture\n\n"
"""A comment, which browsers pass over: the connection lives, and there is nothing to show."""
RETRY_MS: Final = 500


class Board:
    """Serves the page, and to each client of `/events` the newest picture until `stop`.

    `picture`: the state as JSON-able values. `life_s`: a stream ends in order after so long, and the browser comes
    again: the connection under it would be cut.
    """

    def __init__(self, picture: Picture, *, life_s: float) -> None:
        self._picture = picture
        self._life_s = life_s
        self._clients: set[asyncio.Queue[bytes | None]] = set()
        self._poked = asyncio.Event()
        self._page = page()
        self._stopped = False

    async def show(self, _request: Request) -> Response:
        """The page."""
        headers = PLAIN_HEADERS | {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": self._page.policy,
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        return Response(self._page.document, headers=headers)

    async def events(self, request: Request) -> Response:
        """Server-sent events: `data` is a picture."""
        if len(self._clients) >= CLIENTS_MAX or self._stopped:
            return refusal(f"{CLIENTS_MAX} boards look on already; /state says the same once", 503)
        headers = PLAIN_HEADERS | {"Content-Type": "text/event-stream; charset=utf-8"}
        if request.method == "HEAD":
            return Response(headers=headers)
        return StreamingResponse(self._stream(), headers=headers)

    async def run(self) -> None:
        """Draw a picture whenever there is something new, and each EVERY_S, for those who are there."""
        while not self._stopped:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()
            if self._clients:
                self._offer(self._drawn())
            await asyncio.sleep(GAP_S)

    def poke(self) -> None:
        """Something changed."""
        self._poked.set()

    def stop(self) -> None:
        """End every stream."""
        self._stopped = True
        self._poked.set()
        self._offer(None)

    async def _stream(self) -> AsyncIterator[bytes]:
        mine: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        # Counted only once it runs: a stream that never began would stand in the set for ever.
        self._clients.add(mine)
        try:
            yield f"retry: {RETRY_MS}\n\n".encode() + self._drawn()
            running = asyncio.get_running_loop()
            end = running.time() + self._life_s
            # The wait is bounded, never the yield: a timeout that fires while a client is sent to would cut there.
            while not self._stopped and (left := end - running.time()) > 0:
                try:
                    message = await asyncio.wait_for(mine.get(), left)
                except TimeoutError:
                    return
                if message is None:
                    return
                yield message
        finally:
            self._clients.discard(mine)

    def _offer(self, message: bytes | None) -> None:
        for queue in self._clients:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    def _drawn(self) -> bytes:
        try:
            picture = json.dumps(self._picture(), allow_nan=False, separators=(",", ":"))
        except Exception:  # noqa: BLE001 whatever it is, who looks on must see that there is no picture
            _log.exception("the board's picture could not be drawn")
            return BEAT
        return f"event: state\ndata: {picture}\n\n".encode()

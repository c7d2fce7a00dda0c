"""The HTTP face: the board, health, metrics, the state, previews, and a way in for commands when the broker is down.

It decides nothing: a command becomes the same event as over MQTT, and its receipt is the answer. There is no
wait without an end, no body without a limit, and an answer that can't be had says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from killswitch.adapters.http_board import Board
from killswitch.adapters.http_gate import PLAIN_HEADERS, Answer, Gate, our_names, refusal
from killswitch.adapters.http_server import Listen, Server, bind, is_loopback
from killswitch.domain.messages import CommandRefused, LookRequested, Preview, Receipt
from killswitch.wire.announce import event_json, receipt_json, rfc3339, trip_json
from killswitch.wire.commands import SIZE_MAX, decode_reset, decode_trip
from killswitch.wire.status import QueryError, preview_json, ready_json, scope_of_query, view_json

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from killswitch.domain.messages import AnnounceEvent, Event, ResetRequested, TripRequested
    from killswitch.domain.view import View

    Decoder = Callable[..., TripRequested | ResetRequested | CommandRefused]

_log = logging.getLogger(__name__)
_T = TypeVar("_T", Receipt, Preview)

DRAIN_MAX: Final = 1024 * 1024
"""Bytes read of a body that is too long, so that its sender gets to read the answer."""
PREVIEWS_MAX: Final = 4
"""Previews under way; a further one gets 503, since each lists every account of its scope."""
EVENTS_KEPT: Final = 50
"""Recent events that the board shows; the journal has them all."""
LAST_WORDS_S: Final = 5.0
"""So long before its connection is cut a stream of events ends in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long each thing may take. A connection lives longer than the rest together."""

    body_s: float = 10.0
    receipt_s: float = 10.0
    preview_s: float = 35.0
    connection_s: float = 60.0


class _Ticket(Generic[_T]):
    """The token of a request that waits: it goes through the core and comes back with the answer."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: asyncio.Future[_T | None] = asyncio.get_running_loop().create_future()

    def give(self, answer: _T | None) -> None:
        """None: we are stopping. A second answer, or one after its time, is dropped."""
        if not self.answer.done():
            self.answer.set_result(answer)


class HttpFace:
    """Serve with `run` until `stop` or cancellation; give it every Receipt via http and every Preview.

    `submit` takes an event for the core and doesn't block. `healthy` says whether the decision loop turns.
    `wall`: seconds since 1970. `bind` may be called before `run`, to learn early that the port is taken;
    it raises ListenError. `places`: the scopes that the board's panic button offers, as JSON-able values. Give it
    each announced event with `tell`, and say with `poke` that what it shows has changed.
    """

    def __init__(
        self,
        listen: Listen,
        *,
        daemon: str,
        submit: Callable[[Event], None],
        view: Callable[[], View],
        metrics: Callable[[str | None], tuple[bytes, str]],
        healthy: Callable[[], bool],
        wall: Callable[[], float],
        places: Callable[[], Sequence[dict[str, Any]]] = tuple,
        waits: Waits | None = None,
    ) -> None:
        self._listen = listen
        self._daemon = daemon
        self._submit = submit
        self._view = view
        self._metrics = metrics
        self._healthy = healthy
        self._wall = wall
        self._waits = waits or Waits()
        self._sockets: list[socket.socket] = []
        self._server: Server | None = None
        self._stopped = False
        self._receipts: set[_Ticket[Receipt]] = set()
        self._previews: set[_Ticket[Preview]] = set()
        self._places = places
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._loopback = True
        self._board = Board(self._picture, life_s=max(self._waits.connection_s - LAST_WORDS_S, 0.0))

    # --- life -----------------------------------------------------------------------------------------------

    def bind(self) -> None:
        if not self._sockets:
            self._sockets = bind(self._listen)

    @property
    def port(self) -> int:
        """The port that is listened on, once bound."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._listen.port

    async def run(self) -> None:
        self.bind()
        port, loopback = self.port, is_loopback(self._sockets)
        self._loopback = loopback
        names = our_names(self._listen.host, port, loopback=loopback)
        if not loopback:
            _log.warning("HTTP listens beyond loopback: it shows the state there, and takes no commands")
        self._server = Server(Gate(self._routes(), names, loopback), connection_life_s=self._waits.connection_s)
        if self._stopped:  # before we had begun
            self._server.stop()
        _log.info("HTTP on %s port %d", self._listen.host, port)
        showing = asyncio.ensure_future(self._board.run())
        try:
            await self._server.run(self._sockets)
        finally:
            showing.cancel()
            self._send_home()
            for each in self._sockets:
                each.close()

    def stop(self) -> None:
        """Answer whoever waits, then end. Before `run` it makes that one end at once."""
        self._stopped = True
        self._send_home()
        if self._server is not None:
            self._server.stop()

    def deliver(self, action: Receipt | Preview) -> None:
        """The core's answer to a request that waits here; any other is ignored."""
        if not isinstance(action.token, _Ticket):
            return
        waiting = self._receipts if isinstance(action, Receipt) else self._previews
        if action.token in waiting:
            action.token.give(action)

    def tell(self, event: AnnounceEvent) -> None:
        """Something that people should know, for the board."""
        said = event_json(event, self._daemon)
        said.pop("detail", None)  # for machines, of any shape
        self._events.append(said)
        self._board.poke()

    def poke(self) -> None:
        """What the board shows has changed."""
        self._board.poke()

    def _send_home(self) -> None:
        self._board.stop()
        for receipt in self._receipts:
            receipt.give(None)
        for preview in self._previews:
            preview.give(None)

    # --- reading --------------------------------------------------------------------------------------------

    def _routes(self) -> Starlette:
        routes = Starlette(
            routes=[
                Route("/", self._board.show),
                Route("/events", self._board.events),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._show_metrics),
                Route("/state", self._state),
                Route("/preview", self._preview),
                Route("/command/trip", self._trip, methods=["POST"]),
                Route("/command/reset", self._reset, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _http_error, Exception: _our_error},
        )
        # A redirect would be an answer past ours: it says a Host, and leaves the connection open.
        routes.router.redirect_slashes = False
        return routes

    async def _healthz(self, _request: Request) -> Response:
        if self._healthy():
            return Answer({"healthy": True})
        return Answer({"healthy": False, "error": "the decision loop doesn't turn"}, 503)

    async def _readyz(self, _request: Request) -> Response:
        view = self._view()
        return Answer(ready_json(view), 200 if view.ready else 503)

    async def _show_metrics(self, request: Request) -> Response:
        body, content_type = self._metrics(request.headers.get("accept"))
        return Response(body, headers=PLAIN_HEADERS | {"Content-Type": content_type})

    async def _state(self, _request: Request) -> Response:
        return Answer(view_json(self._view(), trip_json))

    def _picture(self) -> dict[str, Any]:
        """What the board is shown: the state, recent events (newest last), and what its button may do."""
        return view_json(self._view(), trip_json) | {
            "at": rfc3339(self._wall()),
            "healthy": self._healthy(),
            "events": list(self._events),
            "places": list(self._places()),
            "takes_commands": self._loopback,
        }

    async def _preview(self, request: Request) -> Response:
        try:
            scope = scope_of_query(request.scope["query_string"])
        except QueryError as error:
            return refusal(str(error), 400)
        if scope.oms not in {oms.oms for oms in self._view().omses}:
            return refusal("no OMS of this name is configured", 400)
        if len(self._previews) >= PREVIEWS_MAX:
            return refusal(f"{PREVIEWS_MAX} previews are under way already; try again", 503)
        ticket = _Ticket[Preview]()
        event = LookRequested(wall=self._wall(), scope=scope, token=ticket)
        try:
            preview = await self._answer_to(event, ticket, self._previews, request, self._waits.preview_s)
        except TimeoutError:
            return refusal(f"the lists weren't there after {self._waits.preview_s:g} s", 504)
        return Answer(preview_json(preview))

    # --- commands -------------------------------------------------------------------------------------------

    async def _trip(self, request: Request) -> Response:
        return await self._command(
            request, decode_trip, "taken; its cancels don't wait for the journal, the receipt does"
        )

    async def _reset(self, request: Request) -> Response:
        return await self._command(request, decode_reset, "taken; the receipt waits for the journal")

    async def _command(self, request: Request, decode: Decoder, late: str) -> Response:
        body = await self._body(request)
        ticket = _Ticket[Receipt]()
        event = decode(body, via="http", wall=self._wall(), token=ticket)
        if isinstance(event, CommandRefused):
            self._hand_over(event)  # it is counted and announced like one that came over MQTT
            return Answer(self._said(event.id, accepted=False, reason=event.reason), 400)
        try:
            receipt = await self._answer_to(event, ticket, self._receipts, request, self._waits.receipt_s)
        except TimeoutError:
            if self._healthy():
                return Answer(self._said(event.id, accepted=None, reason=late) | {"durable": False}, 202)
            stuck = "the decision loop doesn't turn: nobody knows whether this is carried out"
            return Answer(self._said(event.id, accepted=None, reason=stuck) | {"durable": False}, 503)
        return Answer(receipt_json(receipt, self._daemon), 200 if receipt.accepted else 409)

    def _said(self, command_id: str | None, *, accepted: bool | None, reason: str) -> dict[str, object]:
        """A receipt's form where there is no receipt."""
        return {
            "id": command_id,
            "accepted": accepted,
            "reason": reason,
            "trip": None,
            "daemon": self._daemon,
        }

    async def _body(self, request: Request) -> bytes:
        """Raises HTTPException 413, 408."""
        kept, length = bytearray(), 0
        try:
            async with asyncio.timeout(self._waits.body_s):
                async for chunk in request.stream():
                    length += len(chunk)
                    if length <= SIZE_MAX:
                        kept += chunk
                    elif length > DRAIN_MAX:
                        break
        except TimeoutError:
            raise HTTPException(408, "the rest of the body didn't come") from None
        except ClientDisconnect:
            raise HTTPException(400, "the body was cut off") from None
        if length > SIZE_MAX:
            raise HTTPException(413, f"a command has at most {SIZE_MAX // 1024} KiB")
        return bytes(kept)

    # --- waiting for the core -------------------------------------------------------------------------------

    def _hand_over(self, event: Event) -> None:
        try:
            self._submit(event)
        except Exception:  # noqa: BLE001 the asker is told, whatever it is
            _log.exception("an HTTP request could not be handed to the core")
            raise HTTPException(503, "this could not be handed to the core: nothing was done") from None

    async def _answer_to(
        self, event: Event, ticket: _Ticket[_T], waiting: set[_Ticket[_T]], request: Request, wait_s: float
    ) -> _T:
        """Hand an event over and wait for its answer. Raises TimeoutError, HTTPException.

        A client that hangs up ends the wait, not what it asked for: a trip that was taken is carried out.
        """
        waiting.add(ticket)
        gone: asyncio.Future[None] = asyncio.ensure_future(_hung_up(request))
        either: set[asyncio.Future[Any]] = {ticket.answer, gone}
        try:
            self._hand_over(event)
            await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not ticket.answer.done():
                if gone.done():
                    raise HTTPException(400, "the client hung up")  # nobody reads it
                raise TimeoutError
            answer = ticket.answer.result()
        finally:
            waiting.discard(ticket)
            gone.cancel()
            await asyncio.wait({gone})
        if answer is None:
            raise HTTPException(503, "the daemon is stopping; whether this is carried out, its journal says")
        return answer


async def _hung_up(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = refusal(error.detail, error.status_code)
    for name, value in (error.headers or {}).items():  # Allow, of a 405
        answer.headers[name] = value
    return answer


async def _our_error(_request: Request, _error: Exception) -> Response:
    return refusal("an error of ours; the log has it", 500)

"""The simulator on its sockets: `ws://host:port/WSGateway/`, where it was told to `http://host:port/AP/` too.

This is what tests and the command line start:

async with Simulator(SimulatorOptions(orders=12)) as sim:
    ...  # sim.url, sim.http, sim.exchange, sim.faults.inject("no_answer=2")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Self

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from killswitch.simulator.faults import Deaf
from killswitch.simulator.http import HttpFace
from killswitch.simulator.http_calls import HttpCalls
from killswitch.simulator.session import Session
from killswitch.simulator.sign_in import Door
from killswitch.simulator.world import SimulatorOptions, build

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

    from killswitch.simulator.events import Event
    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.faults import Faults
    from killswitch.simulator.orders import Order

PATH: Final = "/WSGateway/"
_REQUEST_MAX_BYTES: Final = 64 * 1024
"""A request is a few hundred bytes; a longer one ends the connection with code 1009."""
_OUT_MAX_BYTES: Final = 512 * 1024 * 1024
"""What may wait for a client that doesn't read (a list of 20,000 orders is 22 MB); beyond it is cut off."""
_STEPS_A_TURN: Final = 500
"""Cancels carried out before the sockets get their turn again."""
_QUIET: Final = logging.getLogger("killswitch.simulator.websockets")


class _Connection:
    """A session with its socket and the frames that wait for it."""

    def __init__(self, socket: ServerConnection, session: Session) -> None:
        self.session = session
        self._socket = socket
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._more = asyncio.Event()

    def put(self, frame: bytes) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        self._more.set()
        if self._waiting_bytes > _OUT_MAX_BYTES:
            self.cut()

    def cut(self) -> None:
        """Drop the socket without a word, as a lost link does."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._socket.transport.abort()

    async def write(self) -> None:
        """Send what waits, in order, until the socket is gone."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._waiting:
                    frame = self._waiting.popleft()
                    self._waiting_bytes -= len(frame)
                    await self._socket.send(frame, text=True)


class Simulator:
    """An OMS on a socket. Times of the exchange are seconds since this object was made.

    `start` and `stop` may be called again and again: the world stays, sessions and subscriptions don't, and a
    port that was chosen freely is kept. Raises WorldError and FaultError for options that can't be.
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options or SimulatorOptions()
        self._zero = time.monotonic()
        self.exchange: Exchange = build(self.options, wall_at_zero_ms=round(time.time() * 1000))
        self.faults: Faults = self.exchange.faults
        self._places = [(self.options.host, self.options.port), *self.options.more_gateways]
        self._door = Door(self.exchange.users, oms_id=self.exchange.oms_id, failures=self.options.failed_logins)
        self.http: HttpFace | None = None
        """Its HTTP face, where the options ask for one."""
        if self.options.http_port is not None:
            calls = HttpCalls(self.exchange, self._door)
            self.http = HttpFace(calls, self.options.http_host, self.options.http_port, self.now)
        self._connections: dict[int, _Connection] = {}
        self._sessions = 0
        self._servers: list[Server] = []
        self._pump: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Of the first gateway; known once started."""
        return self._places[0][1]

    @property
    def url(self) -> str:
        """Where clients connect; known once started."""
        return self.urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """The same of every gateway."""
        return tuple(f"ws://{f'[{host}]' if ':' in host else host}:{port}{PATH}" for host, port in self._places)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The connections that are open, oldest first."""
        return tuple(connection.session for connection in self._connections.values())

    def now(self) -> float:
        return time.monotonic() - self._zero

    def place(self, account: int, user: int, instrument: int, **order: Any) -> Order:
        """`Exchange.place` at this moment."""
        return self.exchange.place(account=account, user=user, instrument=instrument, now=self.now(), **order)

    def fill(self, order_id: int, **fill: Any) -> None:
        """`Exchange.fill` at this moment."""
        self.exchange.fill(order_id, now=self.now(), **fill)

    def reject_order(self, account: int, **reject: Any) -> None:
        """`Exchange.reject_order`."""
        self.exchange.reject_order(account, **reject)

    def set_price(self, instrument: int, **price: Any) -> None:
        """`Exchange.set_price`."""
        self.exchange.set_price(instrument, **price)

    def move_position(self, account: int, product: int, **move: Any) -> None:
        """`Exchange.move_position`, beside `place` and `fill` for one way of saying it."""
        self.exchange.move_position(account, product, **move)

    def drop_sessions(self) -> None:
        """Cut every connection, as a lost link does."""
        for connection in list(self._connections.values()):
            connection.cut()

    async def start(self) -> None:
        """Listen. Raises OSError when the address can't be had."""
        assert not self._servers, "already started"
        for index, (host, port) in enumerate(self._places):
            server = await self._listen(host, port)
            self._servers.append(server)
            self._places[index] = (host, next(iter(server.sockets)).getsockname()[1])
        if self.http is not None:
            await self.http.start()
        self._pump = asyncio.create_task(self._run(), name="simulated exchange")

    async def _listen(self, host: str, port: int) -> Server:
        return await serve(
            self._serve,
            host,
            port,
            process_request=_only_our_path,
            process_response=self._date,
            compression=None,  # live gateways don't negotiate it
            max_size=_REQUEST_MAX_BYTES,
            ping_interval=None,  # live gateways send no pings of their own
            close_timeout=0.2,
            logger=_QUIET,
        )

    async def stop(self) -> None:
        """Cut every connection and stop listening; the exchange keeps its orders and stands still."""
        servers, self._servers = self._servers, []
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump
        self.drop_sessions()
        if self.http is not None:
            await self.http.stop()
        for server in servers:
            server.close()
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except OSError:
            await self.stop()  # some of its addresses could be had
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, socket: ServerConnection) -> None:
        self._sessions += 1
        connection = _Connection(socket, Session(self._sessions, self.exchange, self._door))
        self._connections[self._sessions] = connection
        number, loop = self._sessions, asyncio.get_running_loop()
        writer = asyncio.create_task(connection.write(), name=f"simulated session {number}")
        try:
            async for message in socket:
                reaction = connection.session.receive(message, self.now())
                if reaction.cut:
                    connection.cut()
                elif reaction.frame is not None and reaction.delay_s > 0:
                    loop.call_later(reaction.delay_s, connection.put, reaction.frame)
                elif reaction.frame is not None:
                    connection.put(reaction.frame)
        except ConnectionClosed:
            pass
        finally:
            del self._connections[number]
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    def _date(self, _: ServerConnection, __: Request, response: Response) -> None:
        off_s = self.options.clock_off_s
        del response.headers["Date"]
        if off_s is not None:
            response.headers["Date"] = formatdate(time.time() + off_s, usegmt=True)

    async def _run(self) -> None:
        """Carry out what is due and tell of it."""
        woken = asyncio.Event()
        self.exchange.wake = woken.set
        while True:
            woken.clear()
            self.exchange.advance(self.now(), at_most=_STEPS_A_TURN)
            self._tell(self.exchange.take_events())
            due = self.exchange.due()
            wait_s = None if due is None else due - self.now()
            if wait_s is not None and wait_s <= 0:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await woken.wait()

    def _tell(self, events: list[Event]) -> None:
        if not events or self.faults.on(Deaf):
            return
        for connection in list(self._connections.values()):
            for event in events:
                if connection.session.wants(event):
                    connection.put(connection.session.event_frame(event))


def _only_our_path(socket: ServerConnection, request: Request) -> Response | None:
    path = request.path.partition("?")[0].rstrip("/")
    return None if path.lower() == PATH.rstrip("/").lower() else socket.respond(404, "NOT FOUND")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve_forever(options: SimulatorOptions, say: Callable[[str], None] = _say) -> None:
    """`killswitch simulate`: run until cancelled, saying first where and with which credential.

    A credential that was given isn't repeated. Raises WorldError, FaultError and OSError as Simulator does.
    """
    async with Simulator(options) as sim:
        user = sim.exchange.users[options.api_user]
        say(f"simulated OMS {sim.exchange.oms_id} at {', '.join(sim.urls)}")
        if sim.http is not None:
            say(f"over HTTP at {sim.http.url}")
        say(f"dialect {options.dialect}")
        say(f"accounts {', '.join(map(str, sim.exchange.accounts))}")
        say(f"users {', '.join(f'{u.user_id} ({u.name})' for u in sim.exchange.users.values())}")
        standing = sim.exchange.open_orders()
        say(f"open orders {sum(not order.beside for order in standing)}")
        if options.quotes or options.block_trades:
            say(f"quotes {options.quotes}, block trades {options.block_trades}")
        if not options.api_key:
            say(f"user_id {user.user_id}")
            say(f"api_key {user.api_key}")
            say(f"api_secret {user.api_secret}")
        await asyncio.get_running_loop().create_future()

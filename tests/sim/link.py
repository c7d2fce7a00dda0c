"""Our adapter before one gateway, in virtual time: what the core may rely on.

It keeps its contract: calls leave in order, `Sent` comes once the frame is written, an answer comes later or never,
each unanswered call is `Lost` before its session is down, nothing is carried over, and no session number comes twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.adapters.oms_calls import request_for
from killswitch.domain.dialects import POOREST, Dialect
from killswitch.domain.messages import (
    CancelAllOrders,
    CancelOrder,
    HttpDown,
    HttpUp,
    LinkFailed,
    Lost,
    Sent,
    SessionDown,
    SessionUp,
    SignInRefused,
)
from tests.sim.gateway import Connection, Gateway

if TYPE_CHECKING:
    from killswitch.domain.messages import Event
    from tests.sim.exchange import Exchange, Resting
    from tests.sim.gateway import Call
    from tests.sim.world import World

OMS_ID = 1


class Link(Gateway):
    """A gateway of one OMS, and our side of the way there. `connection` None: not signed in."""

    def __init__(
        self,
        world: World,
        exchange: Exchange,
        gateway: str,
        age: str,
        *,
        configured: bool = True,
        tells: bool = True,
        share: float = 1.0,
    ) -> None:
        super().__init__(world, exchange, gateway, age, share)
        self.configured = Dialect(age) if configured else None
        self.tells = tells
        self.attempt = 0
        self.locked_until = self.away_until = 0.0

    def connect_in(self, delay: float) -> None:
        self.attempt += 1
        attempt = self.attempt
        if self.hit("sign-in slow"):
            delay += self.world.rng.uniform(0.5, 4.0)
        self.world.after(delay, lambda: self._connect(attempt))

    def _connect(self, attempt: int) -> None:
        world = self.world
        if attempt != self.attempt or self.connection is not None or not world.running:
            return
        oms = self.exchange.oms
        if world.now < self.away_until:
            world.post(LinkFailed(wall=world.wall, oms=oms, gateway=self.gateway, why="connection refused"))
            self.connect_in(world.rng.uniform(0.05, 0.3))
            return
        if self.hit("sign-in locked"):
            self.locked_until = world.now + world.rng.uniform(1.0, 5.0)
        locked = world.now < self.locked_until and not world.faults.over
        if locked or self.hit("sign-in refused"):
            why = "the user is locked" if locked else "Invalid credentials"
            world.post(SignInRefused(wall=world.wall, oms=oms, gateway=self.gateway, why=why))
            self.connect_in(world.rng.uniform(0.1, 0.6))
            return
        world.sessions += 1
        dialect = POOREST if self.configured is None and self.hit("version untold") else self.speaks()
        self.connection = Connection(world.sessions, dialect)
        world.post(self._up(world.sessions, dialect))

    def _up(self, session: int, dialect: Dialect) -> Event:
        oms, wall = self.exchange.oms, self.world.wall
        return SessionUp(wall=wall, oms=oms, gateway=self.gateway, session=session, dialect=dialect)

    def _down(self, session: int, why: str) -> Event:
        oms, wall = self.exchange.oms, self.world.wall
        return SessionDown(wall=wall, oms=oms, gateway=self.gateway, session=session, why=why)

    def speaks(self) -> Dialect:
        """What the server's version says, where no person does; the poorest where it says none."""
        return self.configured or (Dialect(self.age) if self.tells else POOREST)

    def upgrade(self, age: str) -> None:
        """The gateway starts anew as another version."""
        if self.connection is not None:
            self.connection.upgraded = True
        self.age = age
        self.go_down("restarted", self.world.rng.uniform(0.05, 0.5))

    def submit(self, call: Call) -> None:
        """An action of the core for this session, or for one that this link no longer has."""
        held = self.connection
        if held is None or held.session != call.session:
            self.world.post(self._lost(call.call, call.session, "the session is gone"))
            return
        try:
            request_for(call, OMS_ID, held.dialect)
        except ValueError as error:
            self.world.post(self._lost(call.call, held.session, f"it can't be said: {error}"))
            return
        held.pending[call.call] = call
        held.unsent.append(call)
        self._write_soon(held)

    def _lost(self, call: int, session: int, why: str) -> Event:
        return Lost(wall=self.world.wall, call=call, session=session, why=why)

    def withdraw(self, calls: tuple[int, ...]) -> None:
        held = self.connection
        if held is None:
            return
        for call in [c for c in held.unsent if c.call in calls]:
            held.unsent.remove(call)
            del held.pending[call.call]
            self.world.post(self._lost(call.call, held.session, "withdrawn"))

    def _write_soon(self, held: Connection) -> None:
        if held.writing or not held.unsent:
            return
        held.writing = True
        delay = self.world.rng.uniform(0.02, 0.4) if self.hit("write late") else self.world.rng.uniform(0.0, 0.001)
        self.world.after(delay, lambda: self._write(held))

    def _write(self, held: Connection) -> None:
        held.writing = False
        if not held.alive or self.connection is not held or not held.unsent:
            return
        world = self.world
        call = next((c for c in held.unsent if isinstance(c, CancelAllOrders | CancelOrder)), held.unsent[0])
        held.unsent.remove(call)  # cancels overtake lists
        body = request_for(call, OMS_ID, held.dialect).payload
        world.judge.written(call, self, body)
        world.post(Sent(wall=world.wall, call=call.call, session=held.session))
        held.last_arrival = max(held.last_arrival, world.now + world.rng.uniform(0.0005, 0.004))
        if not held.silent:
            world.at(held.last_arrival, lambda: self._arrive(held, call, body))
        self._write_soon(held)

    def go_down(self, why: str, back_in: float) -> None:
        """The connection ends: every unanswered call is lost, then the session is down."""
        held = self.connection
        if held is None:
            return
        self._end(held)
        for number in sorted(held.pending):
            self.world.post(self._lost(number, held.session, why))
        self.world.post(self._down(held.session, why))
        self.connect_in(back_in)

    def vanish(self) -> None:
        """Our process died: nobody is there to be told."""
        self.attempt += 1
        if self.connection is not None:
            self._end(self.connection)

    def _end(self, held: Connection) -> None:
        held.alive = False
        self.connection = None


class HttpLink(Link):
    """The way over HTTP: it takes cancels, tells of nothing, and lists nothing."""

    def _up(self, session: int, dialect: Dialect) -> Event:
        oms, wall = self.exchange.oms, self.world.wall
        return HttpUp(wall=wall, oms=oms, gateway=self.gateway, session=session, dialect=dialect)

    def _down(self, session: int, why: str) -> Event:
        oms, wall = self.exchange.oms, self.world.wall
        return HttpDown(wall=wall, oms=oms, gateway=self.gateway, session=session, why=why)

    def submit(self, call: Call) -> None:
        if not isinstance(call, CancelAllOrders | CancelOrder):
            self.world.judge.broken(f"{call} is asked over HTTP")
        super().submit(call)

    def order_event(self, order: Resting, state: str | None) -> None:
        """Nobody tells of anything here."""

    def _arrive(self, held: Connection, call: Call, body: str) -> None:
        self.world.faults.note("cancel over HTTP")
        super()._arrive(held, call, body)

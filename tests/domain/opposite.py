"""The core opposite a simulated OMS: real requests, the simulator's own session and exchange, and virtual time.

Nothing stands in for a part of ours. The frames are those of the wire; only sockets and waiting are left out, so
that minutes of a sweep take milliseconds and each run is the same.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from killswitch.adapters.oms_calls import answer_to, request_for
from killswitch.domain.messages import (
    AnnounceEvent,
    DropSession,
    Journalled,
    Lost,
    Record,
    Restored,
    Sent,
    SessionDown,
    SessionUp,
    SetAside,
    Tick,
    TripRequested,
    Withdraw,
)
from killswitch.domain.settings import ConfirmPolicy, RetryPolicy, Settings, Site
from killswitch.domain.switch import KillSwitch
from killswitch.simulator.session import Session
from killswitch.simulator.sign_in import Door
from killswitch.simulator.world import SimulatorOptions, build
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_events import read_event

if TYPE_CHECKING:
    from killswitch.domain.dialects import Dialect
    from killswitch.domain.scope import Scope

TRAVEL_S = 0.004
BASE = 5_000_000_000


class Opposite:
    """`sim`: SimulatorOptions beside the dialect. `site`, `settings`: what the configuration says otherwise."""

    def __init__(self, dialect: Dialect, *, site=None, settings=None, says: Dialect | None = None, **sim) -> None:
        options = SimulatorOptions(**({"dialect": dialect.value, "orders": 12, "first_order_id": BASE} | sim))
        self.exchange = build(options)
        self.user = self.exchange.users[options.api_user]
        self.door = Door(self.exchange.users, oms_id=1, failures=5)
        own = Site(
            name="prime", accounts=tuple(self.exchange.accounts), whole_oms=True, calls_per_minute=6000,
            gateways=("gw:1",), oms_id=1, dialect=says or dialect,
        )  # fmt: skip
        self.site = replace(own, **(site or {}))
        base = Settings(
            daemon="ks", boot="1", sites=(self.site,), confirm=ConfirmPolicy(), retry=RetryPolicy(list_timeout_s=5.0)
        )
        self.now = 10.0
        self.switch = KillSwitch(replace(base, **(settings or {})), Restored(fresh=True), self.now)
        self.dialect = self.site.dialect
        self.heap: list = []
        self.order = count()
        self.number = 0
        self.session: Session | None = None
        self.talk: alphapoint.Conversation | None = None
        self.events: list[AnnounceEvent] = []
        self.records: list[object] = []
        self.drops: list[str] = []
        self.states: list[tuple[float, str, str | None]] = []
        self.sign_ins = 0
        self.comes_back = True

    # --- time

    @property
    def wall(self) -> float:
        return 1_700_000_000 + self.now

    def at(self, when: float, what) -> None:
        heapq.heappush(self.heap, (when, next(self.order), what))

    def after(self, delay: float, what) -> None:
        self.at(self.now + delay, what)

    def run(self, until, within_s: float = 60.0) -> float:
        """Let time go on until `until()` holds; how long that took."""
        began, end = self.now, self.now + within_s
        while not until():
            due = self.switch.due()
            times = [t for t in (due, self.heap[0][0] if self.heap else None, self.exchange.due()) if t is not None]
            assert times, "nothing is under way and nothing is due"
            assert min(times) <= end, f"not within {within_s} s: {self.shown()}"
            self.now = max(self.now, min(times))
            self.exchange.advance(self.now)
            self._tell_events()
            if self.heap and self.heap[0][0] <= self.now:
                heapq.heappop(self.heap)[2]()
            elif due is not None and due <= self.now:
                self.tell(Tick(wall=self.wall))
        return self.now - began

    def wait(self, seconds: float) -> None:
        """So much time goes by."""
        over: list[bool] = []
        self.after(seconds, lambda: over.append(True))
        self.run(lambda: bool(over), seconds + 1)

    # --- the link

    def connect(self) -> None:
        """A session, signed in and subscribed."""
        self.number += 1
        self.sign_ins += 1
        self.session = Session(self.number, self.exchange, self.door)
        self.session.user = self.user
        self.session.subscribed |= set(self.site.accounts)
        self.talk = alphapoint.Conversation()
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway="gw:1", session=self.number, user=self.user.user_id))

    def cut(self, why: str = "cut", back_in_s: float = 0.05) -> None:
        talk, number = self.talk, self.number
        self.session = self.talk = None
        for call in talk.pending():
            self.tell(Lost(wall=self.wall, call=call.call, session=number, why=why))
        self.tell(SessionDown(wall=self.wall, oms="prime", gateway="gw:1", session=number, why=why))
        if self.comes_back:
            self.after(back_in_s, self.connect)

    def tell(self, event) -> None:
        actions = self.switch.handle(event, self.now)
        last = 0
        for action in actions:
            match action:
                case Record(n=n, body=body):
                    assert not isinstance(body, SetAside), body.traceback
                    self.records.append(body)
                    last = n
                case AnnounceEvent():
                    self.events.append(action)
                case DropSession(session=number, why=why) if number == self.number:
                    self.drops.append(why)
                    self.after(0.0, lambda number=number, why=why: self._drop(number, why))
                case Withdraw():
                    pass  # the socket takes everything at once
                case _ if getattr(action, "session", None) is not None and hasattr(action, "call"):
                    self._write(action)
        seen = [(t.state, t.outcome) for t in self.switch.view(self.now).trips]
        if seen and (not self.states or self.states[-1][1:] != seen[0]):
            self.states.append((self.now, *seen[0]))
        if last:
            self.tell(Journalled(wall=self.wall, n=last))

    def _drop(self, number: int, why: str) -> None:
        if number == self.number and self.session is not None:
            self.cut(why)

    def _write(self, action) -> None:
        session, talk, number = self.session, self.talk, self.number
        if session is None or action.session != number:
            self.after(0, lambda: self.tell(Lost(wall=self.wall, call=action.call, session=action.session, why="gone")))
            return
        data = talk.ask(request_for(action, 1, self.dialect), action)
        self.after(0.0, lambda: self.tell(Sent(wall=self.wall, call=action.call, session=number)))
        self.after(TRAVEL_S, lambda: self._arrive(session, talk, number, data))

    def _arrive(self, session, talk, number: int, data: bytes) -> None:
        reaction = session.receive(data, self.now)
        if reaction.cut:
            if session is self.session:
                self.cut()
            return
        if reaction.frame is not None:
            self.after(TRAVEL_S + reaction.delay_s, lambda: self._hear(talk, number, reaction.frame))

    def _hear(self, talk, number: int, frame: bytes) -> None:
        if talk is not self.talk:
            return
        heard = talk.hear(frame)
        if isinstance(heard, alphapoint.EventFrame):
            for event in read_event(heard.frame, "prime", number, self.wall):
                self.tell(event)
        elif isinstance(heard, alphapoint.Reply):
            self.tell(answer_to(heard.tag, heard.frame, number, self.wall))

    def _tell_events(self) -> None:
        for event in self.exchange.take_events():
            if self.session is not None and self.session.wants(event):
                frame, talk, number = self.session.event_frame(event), self.talk, self.number
                self.after(TRAVEL_S, lambda f=frame, t=talk, n=number: self._hear(t, n, f))

    # --- people, and what is seen

    def trip(self, covered: Scope, id_: str = "t1") -> None:
        self.tell(
            TripRequested(
                wall=self.wall,
                id=id_,
                scope=covered,
                by="ann",
                reason="test",
                issued_at=None,
                digest=str(covered),
                via="mqtt",
                token=id_,
            )
        )

    def view(self, id_: str = "t1"):
        return next(t for t in self.switch.view(self.now).trips if t.trip == id_)

    def verified(self, id_: str = "t1") -> bool:
        return self.view(id_).outcome == "VERIFIED"

    def cancelled(self) -> set[int]:
        return {ending.order_id for ending in self.exchange.log.endings}

    def said(self, name: str) -> list:
        return [request.body for request in self.exchange.log.of(name)]

    def shown(self) -> str:
        calls = [(round(r.at, 2), r.name, dict(r.body)) for r in list(self.exchange.log.requests)[-12:]]
        return f"{self.states[-6:]} left {len(self.exchange.open_ids())} calls {calls}"

"""One session with a gateway: from a fresh connection to its end.

It signs in, subscribes, writes calls in the order in which they came (cancels before lists), reads answers
and events, and watches whether bytes still arrive. It repeats nothing and decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from killswitch.adapters.oms_calls import CANCELS, answer_to, request_for
from killswitch.adapters.oms_dialect import find_dialect, heeds_less
from killswitch.adapters.oms_home import Ended, Ending, Failed, PutOff, Refused
from killswitch.adapters.websocket import ConnectionClosed, abort, close, in_words, read_message
from killswitch.domain.dialects import POOREST
from killswitch.domain.messages import (
    AnswerKind,
    Heard,
    LinkFailed,
    Lost,
    Sent,
    SessionDown,
    SessionUp,
)
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_credential import Version, get_oms_version, read_version
from killswitch.wire.alphapoint_events import LOGGED_OUT, read_event
from killswitch.wire.alphapoint_replies import NotSignedIn, SignedIn, read_sign_in, read_subscribed
from killswitch.wire.frame import Frame, ProtocolError

if TYPE_CHECKING:
    from killswitch.adapters.oms_calls import Call
    from killswitch.adapters.oms_home import Home
    from killswitch.adapters.websocket import Connection

_log = logging.getLogger("killswitch.adapters.oms")

LANE_MAX: Final = 100_000
"""Calls that may wait to be written, a lane. At the limit a call is Lost at once: the core decides again."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call on its way. `sent`: it was reported so."""

    call: Call
    request: alphapoint.Request
    sent: bool = False


@dataclass(slots=True, eq=False)
class _Own:
    """A request of the session's own, whose answer it awaits."""

    answer: asyncio.Future[Frame] = field(repr=False)


@dataclass(slots=True, eq=False)
class _Ping:
    """Are you there?"""


class Session:
    """One connection that may become a session; `number` is never used again."""

    def __init__(self, home: Home, socket: Connection, number: int, sign_in: alphapoint.Request) -> None:
        self.number = number
        self.dialect = home.dialect or POOREST  # until the server has told a version
        self._sign_in = sign_in
        self._user: int | None = None
        self.up = False
        self._home = home
        self._socket = socket
        self._talk: alphapoint.Conversation[_Asked | _Own | _Ping] = alphapoint.Conversation()
        self._cancels: deque[_Asked] = deque()
        self._lists: deque[_Asked] = deque()
        self._wake = asyncio.Event()
        self._signed_in = asyncio.Event()
        self._ping_wanted = False
        self._pinging = False
        self._spoke_at = 0.0
        self._awaiting = False  # something was asked since the last answer
        self._unanswered_s = 0.0  # for so long
        self._heard_at = 0.0
        self._up_since = 0.0
        self._ending: Refused | PutOff | str | None = None  # a string: why the link was given up
        self._odd_frames = 0

    # --- the other side of do() ----------------------------------------------------------------------------

    def take(self, call: Call) -> None:
        """Put a call in its lane. Lost at once when the session is going, or the call can't be said."""
        if not self.up or self._ending is not None:
            self._lose(call, "the session is gone")
            return
        try:
            request = request_for(call, self._home.oms_id, self.dialect)
        except ValueError as error:
            _log.error("%s: call %d can't be said: %s", self._home.oms, call.call, error)
            self._lose(call, f"it can't be said: {error}")
            return
        lane = self._cancels if isinstance(call, CANCELS) else self._lists
        if len(lane) >= LANE_MAX:
            self._lose(call, f"{LANE_MAX} calls wait already")
            return
        lane.append(_Asked(call, request))
        self._wake.set()

    def withdraw(self, calls: tuple[int, ...]) -> None:
        """Drop those of these calls that aren't written; each is Lost."""
        named = set(calls)
        for lane in (self._cancels, self._lists):
            waiting = tuple(lane)
            lane.clear()
            for asked in waiting:
                if asked.call.call in named:
                    self._lose(asked.call, "withdrawn before it was written")
                else:
                    lane.append(asked)

    def drop(self, why: str) -> None:
        """Give this link up, now: nothing more is written, and what hangs on it is Lost."""
        if self._ending is None:
            self._ending = why
        abort(self._socket)

    # --- its life ------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """From the fresh connection to its end; everything about it is reported when this returns."""
        why = "stopped"
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(c) for c in (self._greet(), self._write(), self._watch(), self._mind_version())
                ]
                why = await self._read()
                for task in beside:
                    task.cancel()
        finally:
            # Also when we are cancelled: what was written just now should still leave.
            lasted_s = self._report_down(self._ending if isinstance(self._ending, str) else why)
            if self._ending is None:
                await close(self._socket)
        if isinstance(self._ending, Refused | PutOff):
            return self._ending
        why = self._ending or why
        return Failed(why) if lasted_s is None else Ended(why, lasted_s)

    def _report_down(self, why: str) -> float | None:
        """Lost for each call that hangs, then SessionDown. Seconds it was up; None: it never was."""
        written = [tag for tag in self._talk.pending() if isinstance(tag, _Asked)]
        for asked in sorted([*written, *self._cancels, *self._lists], key=lambda a: a.call.call):
            self._lose(asked.call, f"the session ended: {why}")
        self._cancels.clear()
        self._lists.clear()
        if not self.up:
            return None
        self.up = False
        home = self._home
        home.submit(SessionDown(wall=home.wall(), oms=home.oms, gateway=home.gateway, session=self.number, why=why))
        return asyncio.get_running_loop().time() - self._up_since

    async def _greet(self) -> None:
        """Sign in, await the answer, subscribe, await the answers: only then is the session up."""
        home = self._home
        async with home.door.turn(home.gateway) as open_:
            ending = await self._knock() if open_ else PutOff()
        if ending is not None:
            self._ending = self._ending or ending
            abort(self._socket)
            return
        self._signed_in.set()
        version = await self._ask_own(get_oms_version())
        await self._subscribe()
        self.dialect, wider = find_dialect(home.dialect, await self._version(version))
        if wider:
            self._ending = Refused(wider, home.door.refused(home.gateway))
            abort(self._socket)
            return
        self.up = True
        home.door.let_in(home.gateway)
        self._up_since = asyncio.get_running_loop().time()
        _log.info("%s %s: session %d is up, dialect %s", home.oms, home.gateway, self.number, self.dialect.value)
        home.submit(
            SessionUp(
                wall=home.wall(),
                oms=home.oms,
                gateway=home.gateway,
                session=self.number,
                dialect=self.dialect,
                user=self._user,
            )
        )

    async def _knock(self) -> Refused | str | None:
        """Sign in. None: they let us in."""
        home = self._home
        try:
            async with asyncio.timeout(home.patience.sign_in_s):
                frame = await (await self._ask_own(self._sign_in))
        except TimeoutError:
            return f"no answer to the sign-in within {home.patience.sign_in_s:g} s"
        match read_sign_in(frame):
            case NotSignedIn(why, passing):
                return why if passing else Refused(why, home.door.refused(home.gateway))
            case SignedIn(user):
                self._user = user or home.user
                return None

    async def _version(self, answer: asyncio.Future[Frame]) -> str:
        """What the server says that it is; "" where it doesn't know the call, or doesn't answer it in time.

        An answer that comes too late is for nobody: a dialect that was found is never found richer later.
        """
        await asyncio.wait([answer], timeout=self._home.patience.version_s)
        said = read_version(answer.result()) if answer.done() else None
        return said.text if isinstance(said, Version) else ""

    async def _mind_version(self) -> None:
        """Ask again and again: a server that heeds less than it did is signed in to anew, and spoken to accordingly."""
        await self._signed_in.wait()
        while True:
            await asyncio.sleep(self._home.patience.version_every_s)
            if not self.up:
                continue
            answer = await self._ask_own(get_oms_version())
            version = await self._version(answer)
            if not answer.done():
                return  # a server that says nothing to a call that it doesn't know
            why = heeds_less(self.dialect, version)
            if why:
                self.drop(why)
                return

    async def _subscribe(self) -> None:
        """SubscribeAccountEvents for each account, all asked at once. A refusal stops nothing.

        A session without events still cancels and lists: evidence rests on lists alone.
        """
        home = self._home
        waiting = {
            account: await self._ask_own(alphapoint.subscribe_account_events(home.oms_id, account))
            for account in home.accounts
        }
        if waiting:
            await asyncio.wait(waiting.values(), timeout=home.patience.subscribed_s)
        for account, answer in waiting.items():
            said = read_subscribed(answer.result()) if answer.done() else None
            if said is not None and said.kind is AnswerKind.RECEIVED:
                continue
            why = "no answer" if said is None else said.text or f"answer {said.label}"
            sentence = f"no events of account {account}: {why}"
            _log.warning("%s %s: %s", home.oms, home.gateway, sentence)
            home.submit(LinkFailed(wall=home.wall(), oms=home.oms, gateway=home.gateway, why=sentence))

    async def _ask_own(self, request: alphapoint.Request) -> asyncio.Future[Frame]:
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        await self._say(request, _Own(answer))
        return answer

    # --- writing -------------------------------------------------------------------------------------------

    async def _say(self, request: alphapoint.Request, tag: _Asked | _Own | _Ping) -> bool:
        """Write one frame; False when the connection is gone, which the reader then tells."""
        self._spoke_at, self._awaiting = asyncio.get_running_loop().time(), True
        try:
            await self._socket.send(self._talk.ask(request, tag), text=True)
        except ConnectionClosed:
            return False
        return True

    async def _write(self) -> None:
        """Empty the lanes: cancels, then a Ping that is due, then lists. A cancel never waits behind a list."""
        while self._ending is None:
            if self._cancels:
                alive = await self._write_call(self._cancels.popleft())
            elif self._ping_wanted:
                self._ping_wanted = False
                alive = await self._say(alphapoint.ping(), _Ping())
            elif self._lists:
                alive = await self._write_call(self._lists.popleft())
            else:
                self._wake.clear()
                await self._wake.wait()
                continue
            if not alive:
                return
            await asyncio.sleep(0)  # sending doesn't pause by itself: let answers be read between frames

    async def _write_call(self, asked: _Asked) -> bool:
        alive = await self._say(asked.request, asked)
        if alive:
            self._report_sent(asked)
        return alive

    # --- reading -------------------------------------------------------------------------------------------

    async def _read(self) -> str:
        """Read until the connection ends, and say why it did. Nothing slow is awaited here."""
        while True:
            try:
                data = await read_message(self._socket)
            except ConnectionClosed as error:
                return in_words(error, "the gateway")
            try:
                self._hear(data)
            except ProtocolError as error:
                self._odd(str(error))

    def _hear(self, data: bytes) -> None:
        heard = self._talk.hear(data)
        if isinstance(heard, alphapoint.Reply):
            self._awaiting, self._unanswered_s = False, 0.0
        match heard:
            case alphapoint.EventFrame(frame):
                self._event(frame)
            case alphapoint.Reply(_Own(answer), frame):
                if not answer.done():
                    answer.set_result(frame)
            case alphapoint.Reply(_Ping(), _):
                self._pinging = False
                self._report_heard()
            case alphapoint.Reply(_Asked() as asked, frame):
                # The answer can be read before the writer is told that its frame is out.
                self._report_sent(asked)
                self._home.submit(answer_to(asked.call, frame, self.number, self._home.wall()))
            case alphapoint.Ignored(why):
                self._odd(why)

    def _event(self, frame: Frame) -> None:
        if frame.n == LOGGED_OUT:
            self.drop("the gateway logged us out")
        elif self._unanswered_s >= self._home.patience.answer_s:
            # Not while one long answer trickles in: then no event comes either.
            self.drop(f"no answer for {self._home.patience.answer_s:g} s, though events come")
        elif self.up:
            # What comes while we are still subscribing is in the lists that follow SessionUp.
            for event in read_event(frame, self._home.oms, self.number, self._home.wall()):
                self._home.submit(event)

    def _odd(self, why: str) -> None:
        self._odd_frames += 1
        level = logging.WARNING if self._odd_frames == 1 else logging.DEBUG
        _log.log(level, "%s %s: a frame was ignored: %s", self._home.oms, self._home.gateway, why)

    # --- watching ------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask when nothing is heard, and give the link up when not even a byte comes."""
        await self._signed_in.wait()
        loop, patience = asyncio.get_running_loop(), self._home.patience
        before, seen, silent_s = loop.time(), self._socket.bytes_heard, 0.0
        while True:
            await asyncio.sleep(patience.beat_s)
            now = loop.time()
            # After our own process stood still, what lies in the socket is read before silence counts.
            passed_s = min(now - before, 2 * patience.beat_s)
            silent_s += passed_s
            self._unanswered_s += passed_s if self._awaiting else 0.0
            before = now
            if self._socket.bytes_heard != seen:
                seen, silent_s = self._socket.bytes_heard, 0.0
                self._pinging = False  # the next silence asks again, even if this Ping was never answered
                if self.up and now - self._heard_at >= patience.heard_every_s:
                    self._report_heard()
            if silent_s >= patience.dead_after_s:
                self.drop(f"half-open: not a byte for {patience.dead_after_s:g} s")
                return
            quiet = silent_s >= patience.ping_after_s or now - self._spoke_at >= patience.speak_every_s
            unheard = min(self._unanswered_s, now - self._spoke_at) >= patience.ping_after_s
            if (quiet or unheard) and not self._pinging:
                self._pinging = self._ping_wanted = True
                self._wake.set()

    # --- reports -------------------------------------------------------------------------------------------

    def _report_sent(self, asked: _Asked) -> None:
        if not asked.sent:
            asked.sent = True
            self._home.submit(Sent(wall=self._home.wall(), call=asked.call.call, session=self.number))

    def _report_heard(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self.up:
            self._home.submit(Heard(wall=self._home.wall(), oms=self._home.oms, session=self.number))

    def _lose(self, call: Call, why: str) -> None:
        home = self._home
        home.submit(Lost(wall=home.wall(), call=call.call, session=call.session, why=why))

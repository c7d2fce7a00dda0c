"""The last resort for cancels: the same OMS over HTTP. It cancels and it proves nothing.

Answers over HTTP may come from a replica that lags, so no list is ever asked for here. The token is kept warm; a
call that finds it gone signs in again once and is said once more. Everything else is as with a gateway: refused
sign-ins share one back-off, no call is carried over from one session to the next, and none is repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from killswitch.adapters.oms_calls import answer_to, request_for
from killswitch.adapters.oms_dialect import find_dialect
from killswitch.adapters.oms_home import Ended, Failed, PutOff, Refused
from killswitch.adapters.oms_http_web import AT_A_TIME, Unanswered
from killswitch.adapters.oms_session import LANE_MAX
from killswitch.domain.dialects import POOREST
from killswitch.domain.messages import CancelAllOrders, CancelOrder, HttpDown, HttpUp, Lost, Sent
from killswitch.wire.alphapoint import Request, get_user_accounts
from killswitch.wire.alphapoint_credential import Version, get_oms_version, read_version
from killswitch.wire.alphapoint_http import (
    NO_SUCH_PATH,
    OK,
    TOKEN_HEADER,
    Reply,
    as_frame,
    is_list,
    never_looked,
    no_session,
    read_token,
    sign_in_headers,
)
from killswitch.wire.alphapoint_replies import NotSignedIn, read_sign_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from killswitch.adapters.oms import Credentials
    from killswitch.adapters.oms_calls import Call
    from killswitch.adapters.oms_home import Ending, Home
    from killswitch.adapters.oms_http_web import HttpWeb, Pace
    from killswitch.wire.frame import Frame

    Clean: TypeAlias = Callable[[str], str]
    """A text of the other side's without our secrets."""

_log = logging.getLogger("killswitch.adapters.oms")

TOKEN_MIN: Final = 8
_SIGN_INS: Final = ("Authenticate", "AuthenticateUser")
"""The first of them exists over HTTP only, and not everywhere."""


class _Gone(Exception):  # noqa: N818  # the other side's, not a bug
    """The session can't be made again within a call."""

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        self.ending = ending


@dataclass(slots=True, eq=False)
class _Asked:
    """A call of the core."""

    call: CancelAllOrders | CancelOrder
    request: Request
    sent: bool = False
    withdrawn: bool = False


class HttpSession:
    """One token's time, and of those that take its place within a call; `number` is never used again."""

    def __init__(
        self, home: Home, web: HttpWeb, number: int, credentials: Credentials, *, clean: Clean, pace: Pace
    ) -> None:
        self.number = number
        self.up = False
        self.signed_in_at = float("-inf")
        self.version = ""
        self._home, self._web = home, web
        self._credentials, self._clean, self._pace = credentials, clean, pace
        self._dialect = home.dialect or POOREST
        self._token = ""
        self._user = home.user
        self._waiting: deque[_Asked] = deque()
        self._under_way: list[_Asked] = []
        self._wake = asyncio.Event()
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._renewing = asyncio.Lock()
        self._worked_at = 0.0
        self._up_since = 0.0

    # --- the other side of do() ----------------------------------------------------------------------------

    def take(self, call: Call) -> None:
        """Put a cancel in the lane. Lost at once when the session is going, or the call can't be said here."""
        if not self.up or self._over.done():
            self._lose(call, "the session is gone")
        elif not isinstance(call, CancelAllOrders | CancelOrder):
            self._lose(call, "over HTTP orders are cancelled and nothing else is asked: a replica may answer")
        elif len(self._waiting) >= LANE_MAX:
            self._lose(call, f"{LANE_MAX} calls wait already")
        else:
            try:
                request = request_for(call, self._home.oms_id, self._dialect)
            except ValueError as error:
                _log.error("%s: call %d can't be said: %s", self._home.oms, call.call, error)
                self._lose(call, f"it can't be said: {error}")
                return
            self._waiting.append(_Asked(call, request))
            self._wake.set()

    def withdraw(self, calls: tuple[int, ...]) -> None:
        """Drop those of these calls that aren't written; each is Lost. One under way isn't said a second time."""
        named = set(calls)
        for asked in self._under_way:
            asked.withdrawn = asked.withdrawn or asked.call.call in named
        waiting = tuple(self._waiting)
        self._waiting.clear()
        for asked in waiting:
            if asked.call.call in named:
                self._lose(asked.call, "withdrawn before it was written")
            else:
                self._waiting.append(asked)

    def drop(self, why: str) -> None:
        """Give this session up, now: nothing more is written, and what hangs on it is Lost."""
        self._end(Failed(why))

    # --- its life ------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """From the sign-in to the end; everything about it is reported when this returns."""
        why = "stopped"
        tasks: list[asyncio.Task[None]] = []
        try:
            try:
                await self._greet()
            except _Gone as gone:
                return gone.ending
            tasks = [asyncio.create_task(self._guarded(self._work)) for _ in range(AT_A_TIME)]
            tasks.append(asyncio.create_task(self._guarded(self._keep_warm)))
            ending = await self._over
            match ending:
                case PutOff():
                    why = "it is gone, and another gateway refuses our sign-in"
                case Refused(said):
                    why = f"it is gone, and signing in again was refused: {said}"
                case Failed(said) | Ended(said):
                    why = said
                case _:
                    assert_never(ending)
        finally:
            lasted_s = self._report_down(why)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Ended(why, lasted_s or 0.0) if isinstance(ending, Failed) else ending

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """A bug in one task ends the session, which is made anew, and not the daemon."""
        try:
            await work()
        except _Gone as gone:
            self._end(gone.ending)
        except Exception as error:  # noqa: BLE001  # see above
            _log.exception("%s %s: the session failed", self._home.oms, self._home.gateway)
            self._end(Failed(f"it failed: {type(error).__name__}"))

    def _end(self, ending: Ending) -> None:
        if not self._over.done():
            self._over.set_result(ending)

    def _report_down(self, why: str) -> float | None:
        """Lost for each call that hangs, then HttpDown. Seconds it was up; None: it never was."""
        for asked in sorted([*self._under_way, *self._waiting], key=lambda a: a.call.call):
            self._lose(asked.call, f"the session ended: {why}")
        self._waiting.clear()
        self._under_way.clear()
        if not self.up:
            return None
        self.up = False
        home = self._home
        home.submit(HttpDown(wall=home.wall(), oms=home.oms, gateway=home.gateway, session=self.number, why=why))
        return asyncio.get_running_loop().time() - self._up_since

    async def _greet(self) -> None:
        """Sign in, ask for the version, see a call that needs the session carried out: only then it is up."""
        home = self._home
        await self._sign_in()
        self.version = await self._version()
        self._dialect, wider = find_dialect(home.dialect, self.version)
        if wider:
            raise _Gone(Refused(wider, home.door.refused(home.gateway)))
        if not await self._alive():
            raise _Gone(Failed("signed in, and the calls that need it don't know of it"))
        self.up = True
        home.door.let_in(home.gateway)
        self._up_since = self._worked_at = asyncio.get_running_loop().time()
        _log.info("%s %s: session %d is up over HTTP", home.oms, home.gateway, self.number)
        home.submit(
            HttpUp(wall=home.wall(), oms=home.oms, gateway=home.gateway, session=self.number, dialect=self._dialect)
        )

    async def _version(self) -> str:
        asked = get_oms_version()
        try:
            reply = await self._web.post(asked.name, asked.payload, {})
        except Unanswered:
            return ""
        said = read_version(as_frame(asked.name, reply))
        return said.text if isinstance(said, Version) else ""

    async def _sign_in(self) -> None:
        """A token of our own. Raises _Gone."""
        home = self._home
        async with home.door.turn(home.gateway) as open_:
            if not open_:
                raise _Gone(PutOff())
            try:
                name, reply = await self._knock()
            except Unanswered as error:
                raise _Gone(Failed(f"the sign-in: {error}")) from None
            self._admit(name, reply)

    async def _knock(self) -> tuple[str, Reply]:
        """The call that was answered, and its answer. Raises Unanswered."""
        self.signed_in_at = asyncio.get_running_loop().time()
        # Any text will do as a nonce, as long as it is a fresh one.
        headers = sign_in_headers(self._credentials.request(str(int(self._home.wall() * 1_000_000))))
        only, other = _SIGN_INS
        reply = await self._web.post(only, "{}", headers)
        if reply.status != NO_SUCH_PATH:
            return only, reply
        return other, await self._web.post(other, "{}", headers)

    def _admit(self, name: str, reply: Reply) -> None:
        """Take the token out of the answer. Raises _Gone."""
        home, unseen = self._home, never_looked(reply)
        if unseen:
            raise _Gone(Failed(f"the sign-in: {unseen}"))
        answer = read_sign_in(as_frame(name, reply))
        if isinstance(answer, NotSignedIn):
            why = self._clean(answer.why)
            raise _Gone(Failed(why) if answer.passing else Refused(why, home.door.refused(home.gateway)))
        token = read_token(reply)
        if not token:
            why = "the answer to the sign-in holds no session token"
            raise _Gone(Refused(why, home.door.refused(home.gateway)))
        self._token, self._user = token, answer.user or self._user

    # --- the token -----------------------------------------------------------------------------------------

    async def _alive(self, *, unasked: bool = True) -> bool:
        """Whether the token is known: by a short list of our own that needs it. No answer is no yes.

        `unasked`: what is said where the gateway never told who we are, and there is nothing to ask with.
        """
        if self._user is None:
            return unasked
        asked = get_user_accounts(self._home.oms_id, self._user)
        try:
            reply = await self._web.post(asked.name, asked.payload, {TOKEN_HEADER: self._token})
        except Unanswered:
            return False
        return is_list(reply)

    async def _still(self, token: str, *, unasked: bool) -> bool:
        """Whether that token is the present one, and known."""
        return token == self._token and await self._alive(unasked=unasked)

    async def _renew(self, token: str) -> None:
        """Another token in the place of this one; once for all calls that found it gone. Raises _Gone."""
        async with self._renewing:
            if token != self._token:
                return
            if asyncio.get_running_loop().time() - self.signed_in_at < self._pace.sign_in_every_s:
                raise _Gone(Failed("the session was gone as soon as it was made"))
            _log.warning("%s %s: the session is gone; signing in again", self._home.oms, self._home.gateway)
            await self._sign_in()
            await self._same_server()

    async def _same_server(self) -> None:
        """What is behind the address may be another server by now, which heeds other ids of a cancel. Raises _Gone."""
        version = await self._version()
        if version and version != self.version:
            raise _Gone(Failed(f"the server is version {version} now"))

    async def _keep_warm(self) -> None:
        """A call now and then, so that the session lasts and a lost one is noticed. Raises _Gone."""
        loop = asyncio.get_running_loop()
        while True:
            rest_s = self._worked_at + self._pace.warm_every_s - loop.time()
            if rest_s > 0:
                await asyncio.sleep(rest_s)
                continue
            token = self._token
            if not await self._alive():
                await self._renew(token)
                if not await self._alive():
                    raise _Gone(Failed("it doesn't answer"))
            await self._same_server()
            self._worked_at = loop.time()

    # --- cancels -------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Carry out what waits, one after the other; several of us do. Raises _Gone."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            asked = self._waiting.popleft()
            self._under_way.append(asked)
            try:
                frame = await self._say(asked)
            except Unanswered as error:
                told: Frame | str = str(error)
            else:
                told = frame
            if asked not in self._under_way:
                return  # the session ended meanwhile, and has reported it Lost
            self._under_way.remove(asked)
            if isinstance(told, str):
                self._lose(asked.call, told)
            else:
                self._report_sent(asked)
                self._home.submit(answer_to(asked.call, told, self.number, self._home.wall()))

    async def _say(self, asked: _Asked) -> Frame:
        """The answer to a cancel. Where the token is gone: once more with another. Raises Unanswered, _Gone."""
        token = self._token
        reply = await self._post(asked, token)
        if no_session(asked.request.name, reply) and not await self._still(token, unasked=reply.status == OK):
            # It wasn't carried out; and even if it was, a cancel may be said twice.
            await self._renew(token)
            if asked.withdrawn:
                raise Unanswered("withdrawn while the session was made again")
            reply = await self._post(asked, self._token)
        self._worked_at = asyncio.get_running_loop().time()
        return as_frame(asked.request.name, Reply(reply.status, self._without_secrets(reply.text)))

    async def _post(self, asked: _Asked, token: str) -> Reply:
        headers = {TOKEN_HEADER: token}
        return await self._web.post(
            asked.request.name, asked.request.payload, headers, lambda: self._report_sent(asked)
        )

    def _without_secrets(self, text: str) -> str:
        """A server may quote what it refuses. A token that is a word or a digit hides nothing worth hiding."""
        if len(self._token) >= TOKEN_MIN:
            text = text.replace(self._token, "***")
        return self._clean(text)

    # --- reports -------------------------------------------------------------------------------------------

    def _report_sent(self, asked: _Asked) -> None:
        if not asked.sent:
            asked.sent = True
            self._home.submit(Sent(wall=self._home.wall(), call=asked.call.call, session=self.number))

    def _lose(self, call: Call, why: str) -> None:
        home = self._home
        home.submit(Lost(wall=home.wall(), call=call.call, session=call.session, why=why))

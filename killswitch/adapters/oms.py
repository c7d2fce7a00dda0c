"""The link to one gateway of an OMS, kept warm for ever: connect, sign in, subscribe, and again when it ends.

It maps the core's calls to frames and answers back to events. It repeats no call, carries no frame over from
one session to the next, and tells a refused sign-in from a lost link.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, assert_never

from killswitch.adapters.oms_calls import Call
from killswitch.adapters.oms_door import Door
from killswitch.adapters.oms_home import Ended, Ending, Failed, Home, Patience, PutOff, Refused
from killswitch.adapters.oms_session import Session
from killswitch.adapters.oms_waits import link_wait_s
from killswitch.adapters.websocket import FOREIGN_ERRORS, in_words, open_socket
from killswitch.domain.messages import (
    CancelAllOrders,
    DropSession,
    Event,
    LinkFailed,
    Lost,
    SignInRefused,
    Withdraw,
)
from killswitch.wire import alphapoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from killswitch.domain.dialects import Dialect

__all__ = [
    "Credentials",
    "Door",
    "KeyCredentials",
    "OmsAction",
    "OmsLink",
    "PasswordCredentials",
    "Patience",
    "without_secrets",
]

_log = logging.getLogger("killswitch.adapters.oms")

OmsAction: TypeAlias = Call | Withdraw | DropSession

LIST_BYTES_MAX: Final = 256 * 2**20
"""A list of 20,000 open orders is 22 MB in one message; one that is cut off could never be proven empty."""
FRAMES_MAX: Final = 1024
"""Events and answers that wait while a big list is being decoded."""
STEADY_S: Final = 5.0
"""A session that was up for less doesn't count as a success: a gateway that accepts and closes at once would
be called twenty times a second."""

_SIGNATURE_LIKE: Final = re.compile(r"[0-9a-fA-F]{32,}")


@dataclass(frozen=True, slots=True)
class KeyCredentials:
    """An API key: it needs no second factor."""

    user_id: int
    api_key: str = field(repr=False)
    secret: str = field(repr=False)

    def request(self, nonce: str) -> alphapoint.Request:
        """The sign-in."""
        return alphapoint.sign_in_with_key(self.api_key, self.secret, str(self.user_id), nonce)

    def hidden(self) -> tuple[str, ...]:
        """What may stand in no sentence."""
        return (self.secret, self.api_key)


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A user name; the gateway may demand a second factor, which a daemon can't give."""

    username: str
    password: str = field(repr=False)

    def request(self, _nonce: str) -> alphapoint.Request:
        """The sign-in."""
        return alphapoint.sign_in_with_password(self.username, self.password)

    def hidden(self) -> tuple[str, ...]:
        """What may stand in no sentence."""
        return (self.password,)


Credentials: TypeAlias = KeyCredentials | PasswordCredentials


class AnySession(Protocol):
    """What a link hands actions to, whichever way they go out."""

    number: int
    up: bool

    def take(self, call: Call) -> None: ...

    def withdraw(self, calls: tuple[int, ...]) -> None: ...

    def drop(self, why: str) -> None: ...


class OmsLink:
    """One gateway. `run` it in a task; `do` puts actions; facts come out through `submit`. `lists`: it can prove.

    `gateway` is host:port, for people and metrics. `accounts`: whose events to subscribe. `submit` must not
    block. `new_session` gives numbers that nobody uses twice. `dialect`: None where the server's version says it.
    `door`: shared by the links to one OMS.
    """

    lists = True

    def __init__(
        self,
        *,
        oms: str,
        oms_id: int,
        url: str,
        gateway: str,
        dialect: Dialect | None,
        credentials: Credentials,
        accounts: Sequence[int],
        submit: Callable[[Event], None],
        wall: Callable[[], float],
        new_session: Callable[[], int],
        patience: Patience | None = None,
        door: Door | None = None,
    ) -> None:
        self._home = Home(
            oms=oms,
            oms_id=oms_id,
            gateway=gateway,
            dialect=dialect,
            accounts=tuple(accounts),
            submit=submit,
            wall=wall,
            patience=patience or Patience(),
            user=credentials.user_id if isinstance(credentials, KeyCredentials) else None,
            door=door or Door(),
        )
        self._url = url
        self._credentials = credentials
        self._new_session = new_session
        self._session: AnySession | None = None
        self._failures = 0
        self._logged = ""  # the kind of trouble that was logged since the last session
        self._retired = False

    @property
    def session(self) -> int | None:
        """The number of the session that is up; None: there is none."""
        return self._session.number if self._session is not None and self._session.up else None

    def retire(self) -> None:
        """Another link takes this one's place: its session serves until it ends, and none comes after it."""
        self._retired = True

    def do(self, action: OmsAction) -> None:
        """Take an action; returns at once. A call for any session but the present one is Lost."""
        session = self._session
        match action:
            case Withdraw(oms=oms, calls=calls):
                if session is not None and oms == self._home.oms:
                    session.withdraw(calls)
            case DropSession(session=number, why=why):
                if session is not None and number == session.number:
                    session.drop(why)
            case _:
                if session is None or action.session != session.number:
                    self._lost(action, "it was for a session that is gone")
                elif _oms_of(action) != self._home.oms:
                    self._lost(action, "it was for another OMS")
                else:
                    session.take(action)

    async def run(self) -> None:
        """Keep the link, until it is cancelled, which closes the session, or was retired and its session ends."""
        while not self._retired:
            await self._home.door.opens(self._home.gateway)
            wait_s = await self._attempt()
            if not self._retired:
                await asyncio.sleep(wait_s)

    async def _attempt(self) -> float:
        """One connection from beginning to end; seconds to wait before the next."""
        try:
            socket = await open_socket(
                self._url, bytes_max=LIST_BYTES_MAX, frames_max=FRAMES_MAX, log="killswitch.adapters.oms"
            )
        except FOREIGN_ERRORS as error:
            return self._link_failed(in_words(error, "the gateway"))
        # Any text will do as a nonce, as long as it is a fresh one.
        sign_in = self._credentials.request(str(int(self._home.wall() * 1_000_000)))
        session = self._session = Session(self._home, socket, self._new_session(), sign_in)
        try:
            ending = await session.run()
        finally:
            self._session = None
        return self._after(ending)

    def _after(self, ending: Ending) -> float:
        """What an ending means for the next attempt: seconds to wait before it."""
        match ending:
            case Failed(why):
                return self._link_failed(self._clean(why))
            case Refused(why, wait_s):
                return self._sign_in_refused(self._clean(why), wait_s)
            case PutOff():
                return self._link_failed("not tried while another gateway refuses our sign-in", tried=False)
            case Ended(why, lasted_s):
                return self._ended(why, lasted_s)
            case _:
                assert_never(ending)

    def _link_failed(self, why: str, *, tried: bool = True) -> float:
        home = self._home
        self._failures += tried
        wait_s = link_wait_s(self._failures) if tried else 0.0  # the door says how long
        self._say("link", why, wait_s)
        home.submit(LinkFailed(wall=home.wall(), oms=home.oms, gateway=home.gateway, why=why))
        return wait_s

    def _sign_in_refused(self, why: str, wait_s: float) -> float:
        home = self._home
        self._say("sign-in", f"sign-in refused: {why}", wait_s)
        home.submit(SignInRefused(wall=home.wall(), oms=home.oms, gateway=home.gateway, why=why))
        return 0.0  # the door says how long

    def _ended(self, why: str, lasted_s: float) -> float:
        self._failures = 1 if lasted_s >= STEADY_S else self._failures + 1
        wait_s = link_wait_s(self._failures)
        self._logged = ""
        self._say("lost", f"session lost: {why}", wait_s)
        return wait_s

    def _say(self, kind: str, why: str, wait_s: float) -> None:
        """The first trouble of its kind since the last session is a warning, the rest is for debugging."""
        level = logging.DEBUG if kind == self._logged else logging.WARNING
        self._logged = kind
        _log.log(level, "%s %s: %s; again in %.2f s", self._home.oms, self._home.gateway, why, wait_s)

    def _clean(self, text: str) -> str:
        return without_secrets(text, self._credentials)

    def _lost(self, call: Call, why: str) -> None:
        self._home.submit(Lost(wall=self._home.wall(), call=call.call, session=call.session, why=why))


def without_secrets(text: str, credentials: Credentials) -> str:
    """A text from the other side without what we told it: a server may quote the frame it refuses."""
    for secret in filter(None, credentials.hidden()):
        for form in _as_quoted(secret):
            text = text.replace(form, "***")
            # A long text is cut short, maybe in the middle of it.
            for length in range(len(form) - 1, 1, -1):
                text = text.replace(form[:length] + "…", "***…")
    return _SIGNATURE_LIKE.sub("***", text)


def _as_quoted(secret: str) -> list[str]:
    """A secret as it may stand in a quotation of our frame, whose payload is JSON within JSON; longest first."""
    forms = {secret}
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in forms for ascii_only in (True, False)}
    return sorted(forms, key=len, reverse=True)


def _oms_of(call: Call) -> str:
    return call.scope.oms if isinstance(call, CancelAllOrders) else call.oms

"""Expiry: a session whose token has run out on the server while its socket lives. Every private call is refused then.

What was refused is no refusal of ours if the same call was fine on this very session before: the session is given up
and signed in again, and nothing of what was said on it is held against the next. A refusal that lasts is one on the
next session too, where the call never worked: so this can't go round in circles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Answered,
    AnswerKind,
    DropSession,
    NamesTold,
    Noted,
    OpenOrders,
    Positions,
)
from killswitch.domain.refusals import NOT_AUTHORIZED
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Call
    from killswitch.domain.messages import Event
    from killswitch.domain.parts import Parts
    from killswitch.domain.scope import Scope

AGAIN_S: Final = 10.0
"""A session of the same gateway isn't given up for this sooner: sign-ins are limited, and counted."""
BLIND_AGAIN_S: Final = 3600.0
"""The same where nothing but refusals tells of it: as often as a session may run out."""
ASK_AGAIN_S: Final = 5.0
"""A session on which something was refused is asked what we may do, but not more often than that."""
LOOKS: Final = "GetOpenOrders"
OTHERS: Final = ("GetAccounts", "GetValidate2FARequiredEndpoints")
"""The operator's, and public: their refusal says nothing of a session."""
ASKS: Final = "GetUserPermissions"


class Expiry:
    """What worked on each session, and what was refused there since."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._worked: Table[int, frozenset[tuple[str, Scope]]] = Table(parts.undo)
        """Session -> calls that were answered there as they should be."""
        self._refused: Table[int, frozenset[str]] = Table(parts.undo)
        """Session -> the names of what was refused there since anything worked."""
        self._given_up: Table[int, bool] = Table(parts.undo)
        self._last: Table[tuple[str, str], float] = Table(parts.undo)
        """(OMS, gateway) -> when a session there was given up last."""
        self._asked: Table[int, float] = Table(parts.undo)

    def told(self, event: Event, now: float) -> str:
        """An answer came. Why it says nothing, as its session has run out; "" for one that says what it says."""
        match event:
            case OpenOrders() | AccountsFound() | AccountsListed() | Positions() | NamesTold():
                self._fine(event.call, event.session)
            case Answered() if event.answer.kind in (AnswerKind.RECEIVED, AnswerKind.ABSENT):
                self._fine(event.call, event.session)
            case Answered() if event.answer.code == NOT_AUTHORIZED:
                return self._not_authorized(event, now)
        return ""

    def _fine(self, number: int, session: int) -> None:
        call = self._call(number, session)
        if call is None:
            return
        self._refused.pop(session)
        held = self._worked.get(session) or frozenset()
        if not call.order_id and call.name not in OTHERS and (call.name, call.scope) not in held:
            self._worked[session] = held | {(call.name, call.scope)}

    def _call(self, number: int, session: int) -> Call | None:
        call = self._parts.book.calls.get(number)
        return call if call is not None and call.session == session else None

    def _not_authorized(self, event: Answered, now: float) -> str:
        call = self._call(event.call, event.session)
        if call is None:
            return ""
        why = f"{call.name} is refused on a session that has run out"
        if event.session in self._given_up:
            return why
        worked = self._worked.get(event.session) or frozenset()
        refused = (self._refused.get(event.session) or frozenset()) | {call.name}
        self._refused[event.session] = refused
        if (call.name, call.scope) in worked:
            return why if self._give_up(event, f"{call.name} is refused, where it wasn't before", AGAIN_S, now) else ""
        if ASKS in {name for name, _ in worked}:
            self._ask(event.session, now)  # whoever is signed in may ask that: a refusal of it tells
            return ""
        if len(refused) > 1 and LOOKS in refused and self._idle(event.session, now):
            return why if self._give_up(event, "every call on it is refused", BLIND_AGAIN_S, now) else ""
        return ""

    def _idle(self, number: int, now: float) -> bool:
        """It has been up for longer than its first calls took: what is refused at the sign-in is refused for good."""
        session = self._parts.book.sessions.get(number)
        return session is not None and now - session.up_at >= AGAIN_S

    def _ask(self, number: int, now: float) -> None:
        session, asked = self._parts.book.sessions.get(number), self._asked.get(number)
        if session is not None and (asked is None or now - asked >= ASK_AGAIN_S):
            self._asked[number] = now
            self._parts.credentials.ask(session, now)

    def _give_up(self, event: Answered, why: str, again_s: float, now: float) -> bool:
        session = self._parts.book.sessions.get(event.session)
        if session is None:
            return False
        place = (session.oms, session.gateway)
        last = self._last.get(place)
        if last is not None and now - last < again_s:
            return False
        self._last[place] = now
        self._given_up[session.number] = True
        self._parts.outbox.put(DropSession(session.oms, session.number, f"its token seems to have run out: {why}"))
        self._parts.sweeper.refusals.forget(session.oms)
        text = f"{session.oms}: the session at {session.gateway} seems to have run out ({why}): signing in again"
        n = self._parts.outbox.record(Noted("session_expired", text), event.wall)
        self._parts.outbox.event("session_expired", text, event.wall, n=n)
        return True

    def session_down(self, number: int) -> None:
        """Nothing of it is held against the next one."""
        for held in (self._worked, self._refused, self._given_up, self._asked):
            held.pop(number)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        self._last.drop(lambda place: place[0] == oms)

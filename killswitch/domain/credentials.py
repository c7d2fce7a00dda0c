"""Credentials: whether ours may cancel at all, asked at each sign-in and again, so that it is known before the day.

Two questions a session: what the credential may do, and which calls want a second factor with them. What isn't
known, since a server doesn't have the call or doesn't answer it, is said to be unknown, and counts as neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import ListPermissions, ListSecondFactorCalls, Noted
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import State
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Session
    from killswitch.domain.messages import NamesTold
    from killswitch.domain.parts import Parts

CANCELS: Final = ("cancelallorders", "cancelorder")
OPERATOR, TRADING = "operator", "trading"
BAD_AGAIN_S: Final = 60.0
"""While it can't cancel it is asked again so often: somebody may be mending it."""
AGAIN_S: Final = 600.0
"""A permission may be taken in the middle of the day, and a server may come to know the call."""
AFTER_SWEEP_S: Final = 1.0
KEEP_SHARE: Final = 0.3
"""Of the burst of calls: what the questions leave for sweeps and guards."""
PERMISSIONS: Final = "GetUserPermissions"
SECOND_FACTOR: Final = "GetValidate2FARequiredEndpoints"


def lacking(permissions: tuple[str, ...] | None, second_factor: tuple[str, ...] | None, *, whole_oms: bool) -> str:
    """Why a credential could not cancel, or not all that it is configured for; "" where nothing shows that."""
    reasons: list[str] = []
    if permissions is not None:
        may = {name.lower() for name in permissions}
        if not may & {OPERATOR, TRADING}:
            reasons.append("the credential has neither Trading nor Operator")
        elif whole_oms and OPERATOR not in may:
            reasons.append("whole_oms = true, but the credential isn't Operator")
    needing = [name for name in CANCELS if name in {call.lower() for call in second_factor or ()}]
    if needing:
        wants = "wants" if len(needing) == 1 else "want"
        reasons.append(f"{' and '.join(needing)} {wants} a second factor with each call, which a daemon can't give")
    return "; ".join(reasons)


@dataclass(frozen=True, slots=True)
class Told:
    """What was told on one session. `unknown`: why one of the two isn't known."""

    permissions: tuple[str, ...] | None = None
    second_factor: tuple[str, ...] | None = None
    unknown: str = "not asked yet"
    waiting: int = 0


class Credentials:
    """What each session was told of our credential, and what people hear of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told: Table[int, Told] = Table(parts.undo)
        self._said: Table[str, str] = Table(parts.undo)
        """OMS -> why it could not cancel, as people were told last; nothing: they weren't."""

    def begin(self, session: Session, now: float) -> None:
        """Ask, after the sweeps that are under way, and within the budget."""
        parts, oms = self._parts, session.oms
        if session.number not in parts.book.sessions:
            return
        if session.user is None:
            self._told[session.number] = Told(unknown="the gateway doesn't say which user we are")
            return
        sweeping = any(t.scope.oms == oms and t.state is not State.CONFIRMED for t in parts.trips.values())
        if sweeping and now - session.up_at < parts.settings.confirm.deadline_s:
            self._again(session.number, now + AFTER_SWEEP_S)
            return
        if not parts.book.may_call(oms, now, KEEP_SHARE):
            self._again(session.number, parts.book.call_again_at(oms, now, KEEP_SHARE))
            return
        self.ask(session, now)

    def ask(self, session: Session, now: float) -> None:
        """Ask at once, unless it is asked already."""
        parts, oms = self._parts, session.oms
        held = self._told.get(session.number) or Told()
        if held.waiting > 0 or session.user is None:
            return
        self._told[session.number] = replace(held, waiting=2)
        for name in (PERMISSIONS, SECOND_FACTOR):
            everything = Scope(oms=oms, account=EVERY, user=EVERY, instrument=EVERY)
            call = parts.book.new_call(session, name, everything, now)
            if name == PERMISSIONS:
                parts.outbox.put(ListPermissions(call.number, session.number, oms, session.user))
            else:
                parts.outbox.put(ListSecondFactorCalls(call.number, session.number, oms))
            parts.agenda.set(("call", call.number), now + parts.settings.retry.list_timeout_s)

    def wake(self, number: int, now: float) -> None:
        """It is time to ask again on a session."""
        session = self._parts.book.sessions.get(number)
        if session is not None:
            self.begin(session, now)

    def told(self, event: NamesTold, now: float) -> None:
        """One of the two questions was answered with names."""
        call = self._parts.book.answered(event.call, event.session)
        held = self._told.get(event.session)
        if call is None or held is None:
            return
        self._parts.agenda.clear(("call", call.number))
        if call.name == PERMISSIONS:
            held = replace(held, permissions=event.names)
        else:
            held = replace(held, second_factor=event.names)
        self._settle(event.session, replace(held, waiting=held.waiting - 1), now, event.wall)

    def failed(self, number: int, why: str, now: float, wall: float) -> None:
        """Nothing comes of a question: what it was about isn't known, whatever was told before."""
        call = self._parts.book.calls.get(number)
        held = self._told.get(call.session) if call is not None else None
        if call is None or held is None or call.name not in (PERMISSIONS, SECOND_FACTOR):
            return
        if call.name == PERMISSIONS:
            held = replace(held, permissions=None, unknown=f"{call.name}: {why}")
        else:
            held = replace(held, second_factor=None, unknown=f"{call.name}: {why}")
        self._settle(call.session, replace(held, waiting=held.waiting - 1), now, wall)

    def _settle(self, number: int, held: Told, now: float, wall: float) -> None:
        self._told[number] = held
        session = self._parts.book.sessions.get(number)
        if session is None or held.waiting > 0:
            return
        why = self.why_not(session.oms)
        self._again(number, now + (BAD_AGAIN_S if why else AGAIN_S))
        before = self._said.get(session.oms) or ""
        if why == before or (not why and self.may_cancel(number) is None):
            return
        if why:
            self._said[session.oms] = why
            self._say("could_not_cancel", f"{session.oms}: it could not cancel: {why}", wall)
        else:
            self._said.pop(session.oms)
            self._say("can_cancel", f"{session.oms}: the credential may cancel again", wall)

    def _say(self, kind: str, text: str, wall: float) -> None:
        n = self._parts.outbox.record(Noted(kind, text), wall)
        self._parts.outbox.event(kind, text, wall, n=n)

    def _again(self, session: int, at: float) -> None:
        self._parts.agenda.set(("credential", session), at)

    def session_down(self, number: int) -> None:
        """What was told on it is asked anew on the next one."""
        self._parts.agenda.clear(("credential", number))
        self._told.pop(number)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more."""
        self._said.pop(oms)

    # --- what is seen of it

    def lacks(self, number: int) -> str:
        """Why this session could not cancel, as far as it was told."""
        held, session = self._told.get(number), self._parts.book.sessions.get(number)
        site = self._parts.book.sites.get(session.oms) if session is not None else None
        if held is None or site is None:
            return ""
        return lacking(held.permissions, held.second_factor, whole_oms=site.whole_oms)

    def may_cancel(self, number: int) -> bool | None:
        """None: it isn't known."""
        held = self._told.get(number)
        if held is not None and self.lacks(number):
            return False
        whole = held is not None and None not in (held.permissions, held.second_factor)
        return True if whole else None

    def in_words(self, number: int) -> str:
        """What the session was told, where that isn't simply that it may; "" where it is, or nothing was asked yet."""
        held = self._told.get(number)
        if self.may_cancel(number) is None and held is not None:
            return f"whether the credential may cancel isn't known: {held.unknown}"
        return self.lacks(number)

    def why_not(self, oms: str) -> str:
        """Why no session of an OMS could cancel; "" where one may, or nobody knows."""
        live = [s.number for s in self._parts.book.sessions.values() if s.oms == oms]
        if any(self.may_cancel(number) for number in live):
            return ""
        return next((why for number in live if (why := self.lacks(number))), "")

"""Census: which accounts an OMS has, asked of the OMS itself where nobody gave a word on it.

The credential's own accounts (GetUserAccounts) can always be had; all of the OMS (GetAccounts, page by page) by an
operator only, and only that is complete. What is found joins what is swept, listed, subscribed to and covered; an
account once found is never dropped. Asked for at each sign-in, with each snapshot, and by each sweep that has to
prove every account empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain import paths
from killswitch.domain.book import Enumeration
from killswitch.domain.messages import AnswerKind, ListAccounts, ListUserAccounts, Noted, SubscribeAccount
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.trips import Input
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Call, Session
    from killswitch.domain.messages import AccountsListed, Action, Answered, SessionDown, SessionUp
    from killswitch.domain.parts import Parts

PAGE: Final = 500
ACCOUNTS_MAX: Final = 1_000_000
"""A list that goes on for longer isn't what it should be."""
KEEP_SHARE: Final = 0.3
"""Of the burst of calls: what is left for sweeps and guards, unless it is a sweep that asks."""
EVERY_S: Final = 60.0
AGAIN_S: Final = 2.0
AGAIN_MAX_S: Final = 60.0
"""The waits after a list that failed; after one that was refused it is the longest at once."""
TOLD_MAX: Final = 10
"""So many accounts of a session whose events are refused are named."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A list of all accounts under way. `first`, `call`: the first page's call and the present one's; 0: not yet asked.

    `start`: the rows so far.
    """

    first: int = 0
    call: int = 0
    start: int = 0
    found: frozenset[int] = frozenset()


class Census:
    """Asks for accounts, and subscribes to the events of those that were found."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._walks: Table[str, Walk] = Table(parts.undo)
        self._failed: Table[str, int] = Table(parts.undo)  # how often in a row
        self._heard: Table[int, frozenset[int]] = Table(parts.undo)  # session -> accounts subscribed to, or asked for
        self._calls: Table[int, tuple[int, int]] = Table(parts.undo)  # call -> (session, account) of a subscription
        self._told: Table[int, int] = Table(parts.undo)  # session -> how many refusals were named

    # --- sessions

    def session_up(self, event: SessionUp, now: float) -> None:
        """A new session may be allowed more, or know more."""
        if self._parts.book.discovers(event.oms):
            self._failed.pop(event.oms)
            self._parts.book.not_listed.pop(event.oms)
            self._parts.agenda.set(("census", event.oms), now)
            self._parts.agenda.set(("hear", event.oms), now)

    def session_down(self, event: SessionDown) -> None:
        """What it had subscribed to is over."""
        for of_session in (self._heard, self._told):
            of_session.pop(event.session)
        for call, (session, _) in self._calls.items():
            if session == event.session:
                del self._calls[call]

    # --- the list of all accounts

    def go_on(self, oms: str, now: float) -> None:
        """Ask for the next page, or for the first, within the budget of calls."""
        book = self._parts.book
        session = paths.to_look(book, oms)
        if session is None or not book.discovers(oms):
            return
        walk = self._walks.get(oms) or Walk()
        under_way = book.calls.get(walk.call)
        if under_way is not None and under_way.session in paths.steady(book, oms):
            return
        keep = 0.0 if self._wanted(oms) else KEEP_SHARE
        if not book.may_call(oms, now, keep):
            self._parts.agenda.set(("census", oms), book.call_again_at(oms, now, keep))
            return
        if not walk.first and session.user is not None:
            call = self._call(session, "GetUserAccounts", now, user=session.user)
            self._put(ListUserAccounts(call.number, session.number, oms, session.user), call, now)
        call = self._call(session, "GetAccounts", now)
        self._walks[oms] = replace(walk, first=walk.first or call.number, call=call.number)
        self._put(ListAccounts(call.number, session.number, oms, walk.start, PAGE), call, now)

    def _wanted(self, oms: str) -> bool:
        evidence = self._parts.sweeper.evidence
        return any(evidence.asks_for_accounts(trip) for trip in evidence.latched(oms))

    def listed(self, event: AccountsListed, now: float) -> None:
        """A page came. Only an empty one is the end: one that is shorter than it should be is gone on from."""
        call = self._parts.book.answered(event.call, event.session)
        if call is None:
            return
        self._parts.agenda.clear(("call", call.number))
        self._parts.sweeper.gathering.met(call.oms, event.accounts, now)
        self._parts.stir.add(call.oms)
        walk = self._walks.get(call.oms)
        if walk is None or walk.call != event.call:
            return
        found = walk.found.union(event.accounts)
        if event.unreadable:
            self._fail(call.oms, "a row of it can't be read", now)
        elif not event.rows and not walk.found:
            self._fail(call.oms, "it holds none", now)
        elif not event.rows:
            self._walks.pop(call.oms)
            self._failed.pop(call.oms)
            self._parts.book.enumerated[call.oms] = Enumeration(walk.first, walk.found)
            self._parts.agenda.set(("census", call.oms), now + self._every_s(call.oms))
        elif len(found) == len(walk.found) or len(found) > ACCOUNTS_MAX:
            self._fail(call.oms, "its pages repeat themselves, or never end", now)
        else:
            self._walks[call.oms] = replace(walk, call=0, start=walk.start + event.rows, found=found)
            self.go_on(call.oms, now)

    def _every_s(self, oms: str) -> float:
        feeds = [feed for feed in self._parts.settings.feeds if feed.kind == "oms" and feed.oms == oms]
        return min((feed.snapshot_every_s for feed in feeds), default=EVERY_S)

    def failed(self, number: int, why: str, now: float, *, refused: bool = False) -> None:
        """Nothing will be heard of a call, or it was refused: a page that is missing is no list of all accounts."""
        oms = next((oms for oms, walk in self._walks.items() if walk.call == number), None)
        if oms is not None:
            self._fail(oms, why, now, refused=refused)
        which = self._calls.get(number)
        if which is not None:
            self._subscribed(number, which[0], now)

    def _fail(self, oms: str, why: str, now: float, *, refused: bool = False) -> None:
        times = self._failed.get(oms) or 0
        wait_s = AGAIN_MAX_S if refused else min(AGAIN_S * 2 ** min(times, 20), AGAIN_MAX_S)
        walk = self._walks.pop(oms)
        self._failed[oms] = times + 1
        self._parts.book.not_listed[oms] = (walk.first if walk is not None else 0, now + wait_s)
        self._parts.agenda.set(("census", oms), now + wait_s)
        self._parts.stir.add(oms)
        evidence = self._parts.sweeper.evidence
        for trip in evidence.latched(oms):
            if evidence.asks_for_accounts(trip):
                looked, _ = self._parts.sweeper.remains.looked_at(trip)
                text = (
                    f"looked at {len(looked)} accounts, there may be more: the list of all accounts can't be had: {why}"
                )
                self._parts.sweeper.changes.append((trip.id, Input.OVERDUE, text))

    # --- the events of what was found

    def hear(self, oms: str, now: float) -> None:
        """Subscribe to the events of accounts that were found, on each session, within the budget of calls."""
        book = self._parts.book
        if not book.discovers(oms):
            return
        roster = book.roster(oms)
        for session in [held for held in book.sessions.values() if held.oms == oms]:
            heard = self._heard.get(session.number) or frozenset()
            for account in (account for account in roster if account not in heard):
                if not book.may_call(oms, now, KEEP_SHARE):
                    self._parts.agenda.set(("hear", oms), book.call_again_at(oms, now, KEEP_SHARE))
                    return
                call = self._call(session, "SubscribeAccountEvents", now, account=account)
                self._put(SubscribeAccount(call.number, session.number, oms, account), call, now)
                self._calls[call.number] = (session.number, account)
                self._heard[session.number] = (self._heard.get(session.number) or frozenset()) | {account}

    def answered(self, event: Answered, now: float) -> None:
        """A generic answer: to a subscription, or instead of a page."""
        answer = event.answer
        why = answer.text or f"answer {answer.label}"
        which = self._calls.get(event.call)
        if which is None:
            self.failed(event.call, why, now, refused=answer.kind is AnswerKind.REFUSED)
            return
        told = self._told.get(which[0]) or 0
        session = self._parts.book.sessions.get(which[0])
        if answer.kind is not AnswerKind.RECEIVED and session is not None and told < TOLD_MAX:
            self._told[which[0]] = told + 1
            text = f"{session.oms}: no events of account {which[1]}: {why}"
            n = self._parts.outbox.record(Noted("no_events", text), event.wall)
            self._parts.outbox.event("no_events", text, event.wall, n=n)
        self._subscribed(event.call, which[0], now)

    def _subscribed(self, call: int, number: int, now: float) -> None:
        """Once the last one is answered: what happened before is seen by a snapshot only."""
        self._calls.pop(call)
        session = self._parts.book.sessions.get(number)
        if session is None or any(held == number for held, _ in self._calls.values()):
            return
        if paths.watching(self._parts.book, session.oms) is not session:
            return  # what it tells is no value for rules; a snapshot follows when it takes over
        if frozenset(self._parts.book.roster(session.oms)) <= (self._heard.get(number) or frozenset()):
            self._parts.agenda.set(("afresh", session.oms), now)

    def _call(self, session: Session, name: str, now: float, **part: int) -> Call:
        look = Scope(
            oms=session.oms, account=part.get("account", EVERY), user=part.get("user", EVERY), instrument=EVERY
        )
        return self._parts.book.new_call(session, name, look, now)

    def _put(self, action: Action, call: Call, now: float) -> None:
        self._parts.outbox.put(action)
        self._parts.agenda.set(("call", call.number), now + self._parts.settings.retry.list_timeout_s)

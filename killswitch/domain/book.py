"""Book: sessions, calls under way, known accounts, and the latest list per OMS and account.

It keeps facts and judges nothing. One list serves every trip that covers its account.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from killswitch.domain.budget import Budget
from killswitch.domain.dialects import POOREST, Dialect, poorest
from killswitch.domain.extras import Extras
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sightings import Sightings
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from killswitch.domain.messages import Order
    from killswitch.domain.settings import Site
    from killswitch.domain.standing import Standing
    from killswitch.domain.undo import Undo


@dataclass(frozen=True, slots=True)
class Session:
    """One live connection. `answered`: the highest call that was answered on it.

    `dialect`: the poorest that it or a later sign-in at the same OMS has shown. `user`: whose session it is. `lists`:
    False over HTTP, where answers may come from a replica that lags. `cancelled`: the highest cancel that was answered
    on it. `cancels_hang`, `lists_hang`: the newest call of its kind whose time passed without an answer, until one of
    its kind has one.
    """

    number: int
    oms: str
    gateway: str
    up_at: float
    answered: int = 0
    dialect: Dialect = POOREST
    user: int | None = None
    lists: bool = True
    cancelled: int = 0
    cancels_hang: int = 0
    lists_hang: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is unanswered. Exactly what it was for; `overdue`: its time is up, it still may be answered.

    `twin`: the same cancel over another session; `settled`: that one was received.
    """

    number: int
    name: str
    oms: str
    session: int
    asked_at: float
    scope: Scope  # what a cancel can touch, or what is looked at
    order_id: int | None = None
    cancels: bool = False
    client_order_id: int | None = None
    fully: bool = False  # of a single cancel: it named the account too
    extra: bool = False  # of a quote's side, whatever the call
    twin: int = 0
    settled: bool = False
    sent_at: float | None = None
    overdue: bool = False
    over_http: bool = False

    @property
    def is_awaited(self) -> bool:
        """Its answer is still worth waiting for."""
        return not self.overdue and not self.settled


@dataclass(frozen=True, slots=True)
class Listed:
    """One answered list of open orders. `asked_at`, `ended_at`: monotonic seconds."""

    call: int
    session: int
    asked_at: float
    ended_at: float
    orders: tuple[Order, ...]
    ids: frozenset[int]
    unreadable: int


@dataclass(frozen=True, slots=True)
class Enumeration:
    """All accounts of an OMS as it listed them itself, page after page. `call`: the first page's."""

    call: int
    accounts: frozenset[int]


def _where(call: Call) -> Hashable:
    """Where the book finds this call again; None: nobody looks for calls of this kind."""
    if call.cancels:
        return call.oms
    return (call.oms, call.scope.account) if call.name == "GetOpenOrders" else None


class Book:
    """Facts about every OMS. All of it in undoable tables."""

    def __init__(self, standing: Standing, undo: Undo) -> None:
        self._standing = standing
        self.sessions: Table[int, Session] = Table(undo)
        self.resorts: Table[str, Session] = Table(undo)
        """OMS -> the session over HTTP, for cancels when no other answers."""
        self.calls: Table[int, Call] = Table(undo)
        self.listed: Table[tuple[str, int], Listed] = Table(undo)
        self.sightings = Sightings(undo)
        self.extras = Extras(self, undo)
        self.users: Table[tuple[str, int], tuple[int, frozenset[int]]] = Table(undo)
        """(oms, user) -> the call that listed the user's accounts, and the accounts."""
        self.narrowed: Table[str, str] = Table(undo)
        """OMS -> why it is told an account and nothing else, whatever it says that it is."""
        self.enumerated: Table[str, Enumeration] = Table(undo)
        self.not_listed: Table[str, tuple[int, float]] = Table(undo)
        """OMS -> the call with which its list of all accounts failed, and until when it isn't asked for again."""
        self._extra: Table[str, frozenset[int]] = Table(undo)
        self.budget = Budget(standing, undo)
        self._numbers: Table[str, int] = Table(undo)
        self._numbers["call"] = 1
        self._under_way: Table[Hashable, tuple[int, ...]] = Table(undo)
        """Where calls are looked for again and again: OMS -> its cancels, (OMS, account) -> the account's lists."""

    @property
    def sites(self) -> dict[str, Site]:
        """The configured OMSs, by their names."""
        return self._standing.sites

    def dialect(self, oms: str, *, over: Dialect | None = None) -> Dialect:
        """What an OMS is told its calls in: the poorest that is configured or that a live session has.

        `over`: what the session is told in that isn't among these, as that over HTTP isn't.
        """
        site = self.sites.get(oms)
        told = [session.dialect for session in self.sessions.values() if session.oms == oms]
        if site is not None and site.dialect is not None:
            told.append(site.dialect)
        if over is not None:
            told.append(over)
        return POOREST if oms in self.narrowed else poorest(told)

    def narrow(self, oms: str, why: str) -> None:
        """The OMS's cancels go wider than they say: no id but the account is said to it any more."""
        self.narrowed[oms] = why
        for held in self.sessions.values():
            if held.oms == oms:
                self.sessions[held.number] = replace(held, dialect=POOREST)

    # --- sessions and calls

    def add_session(self, session: Session, dialect: Dialect | None) -> None:
        """A connection is signed in. What it shows narrows the older ones: behind all of them is one OMS.

        `dialect` None: as the OMS is configured. What a session was once told is poor never grows richer.
        """
        site = self.sites.get(session.oms)
        configured = None if site is None else site.dialect
        found = POOREST if session.oms in self.narrowed else dialect or configured or POOREST
        for held in self.sessions.values():
            if held.oms == session.oms and poorest((held.dialect, found)) is not held.dialect:
                self.sessions[held.number] = replace(held, dialect=found)
        resort = self.resorts.get(session.oms)
        if resort is not None:
            self.resorts[session.oms] = replace(resort, dialect=poorest((resort.dialect, found)))
        self.sessions[session.number] = replace(session, dialect=found)

    @property
    def next_call(self) -> int:
        return self._numbers["call"]

    def new_call(self, session: Session, name: str, scope: Scope, now: float, **more: int | bool | None) -> Call:
        """Number and keep a call that is about to leave."""
        number = self._numbers["call"]
        self._numbers["call"] = number + 1
        call = Call(number, name, session.oms, session.number, now, scope, over_http=not session.lists)
        call = replace(call, **more)  # type: ignore[arg-type]  # order_id and cancels, checked where they are made
        self.calls[number] = call
        where = _where(call)
        if where is not None:
            self._under_way[where] = (*(self._under_way.get(where) or ()), number)
        self.budget.take(session.oms, now)
        return call

    def end(self, number: int) -> Call | None:
        """Nothing more is waited for: the call is taken out. None: there is none of that number."""
        call = self.calls.pop(number)
        where = _where(call) if call is not None else None
        if where is not None:
            left = tuple(n for n in self._under_way[where] if n != number)
            if left:
                self._under_way[where] = left
            else:
                del self._under_way[where]
        return call

    def answered(self, number: int, session: int) -> Call | None:
        """A call is over. None: it isn't one of ours, or came back on another session."""
        call = self.calls.get(number)
        if call is None or call.session != session:
            return None
        self.end(number)
        held = self.sessions.get(session)
        if held is not None:
            held = replace(held, answered=max(number, held.answered))
            if call.cancels:
                held = replace(held, cancelled=max(number, held.cancelled))
            if call.cancels and number >= held.cancels_hang:
                held = replace(held, cancels_hang=0)
            if call.name == "GetOpenOrders" and number >= held.lists_hang:
                held = replace(held, lists_hang=0)
            self.sessions[session] = held
        return call

    def hangs(self, call: Call) -> None:
        """Its session had time to answer this one."""
        held = self.sessions.get(call.session)
        if held is None:
            return
        if call.cancels and call.number > max(held.cancelled, held.cancels_hang):
            self.sessions[call.session] = replace(held, cancels_hang=call.number)
        if call.name == "GetOpenOrders" and call.number > held.lists_hang:
            self.sessions[call.session] = replace(held, lists_hang=call.number)

    def cancels_of(self, oms: str) -> tuple[Call, ...]:
        """Every unanswered cancel of an OMS."""
        return self._held(oms)

    def cancels_under_way(self, scope: Scope) -> tuple[Call, ...]:
        """Unanswered cancels on live sessions that could touch the scope."""
        return tuple(c for c in self._held(scope.oms) if c.session in self.sessions and c.scope.meets(scope))

    def cancels_over_http(self, scope: Scope) -> tuple[Call, ...]:
        """Unanswered cancels over HTTP that could touch the scope."""
        return tuple(c for c in self._held(scope.oms) if c.over_http and c.scope.meets(scope))

    def lists_under_way(self, oms: str, account: int) -> tuple[Call, ...]:
        return tuple(c for c in self._held((oms, account)) if not c.overdue)

    def _held(self, where: Hashable) -> tuple[Call, ...]:
        return tuple(self.calls[number] for number in self._under_way.get(where) or ())

    # --- accounts

    def meet_accounts(self, oms: str, accounts: Iterable[int]) -> tuple[int, ...]:
        """Something showed these accounts. Those among them that nobody had told us of, and nothing had shown."""
        extra = self._extra.get(oms) or frozenset()
        told = self._told(oms)
        new = tuple(sorted({account for account in accounts if account not in extra and account not in told}))
        if new:
            self._extra[oms] = extra.union(new)
        return new

    def tell_of(self, oms: str, accounts: tuple[int, ...]) -> tuple[int, ...]:
        """A person's word on accounts that it didn't hold before. Those among them that nothing had shown."""
        extra = self._extra.get(oms) or frozenset()
        if extra & frozenset(accounts):
            self._extra[oms] = extra - frozenset(accounts)
        return tuple(account for account in accounts if account not in extra)

    def forget(self, oms: str) -> None:
        """The OMS is configured no more; its sessions and calls are over."""
        for of_oms in (self._extra, self.enumerated, self.not_listed, self.resorts):
            of_oms.pop(oms)
        self.budget.forget(oms)
        for of_account in (self.listed, self.users):
            of_account.drop(lambda key: key[0] == oms)
        self.sightings.forget(oms)
        self.extras.forget(oms)

    def roster(self, oms: str) -> tuple[int, ...]:
        """The accounts that something is done for without a trip: those of a person's word, else what was found."""
        return self.known_accounts(oms) if self.discovers(oms) else self._told(oms)

    def ask_accounts_at(self, oms: str, since_call: int, now: float) -> float:
        """When to ask an OMS for all its accounts: now, unless it failed since this call and waits for another try."""
        call, again_at = self.not_listed.get(oms) or (0, now)
        return max(again_at, now) if call >= since_call else now

    def discovers(self, oms: str) -> bool:
        """The OMS's accounts are nobody's word: it is asked for them."""
        site = self.sites.get(oms)
        return site is not None and site.discover

    def known_accounts(self, oms: str) -> tuple[int, ...]:
        """All accounts of an OMS that we were told of or met."""
        return tuple(sorted({*self._told(oms), *(self._extra.get(oms) or ())}))

    def seen_accounts_of(self, scope: Scope) -> tuple[tuple[int, ...], bool]:
        """As `accounts_of`, for a look that proves nothing: any list of all accounts that the OMS gave will do."""
        complete = self.accounts_of(scope, self.next_call)[1]
        accounts, ever = self.accounts_of(scope, 0)
        return accounts, complete or (scope.user is EVERY and ever)

    def accounts_of(self, scope: Scope, since_call: int) -> tuple[tuple[int, ...], bool]:
        """The accounts that a round over `scope` must list, and whether they are known to be all.

        All is: the scope's one account; an enumeration of the user's, or of the OMS's, accounts asked at or after
        call `since_call`; or a person's word, as long as nothing has shown another account.
        """
        if scope.account is not EVERY:
            return (scope.account,), True
        extra = self._extra.get(scope.oms) or frozenset()
        known = set(self._told(scope.oms)) | extra
        if scope.user is not EVERY:
            found = self.users.get((scope.oms, scope.user))
            if found is not None and found[0] >= since_call:
                return tuple(sorted(known | found[1])), True
        if not self.discovers(scope.oms):
            return tuple(sorted(known)), not extra
        all_of_them = self.enumerated.get(scope.oms)
        whole = all_of_them is not None and all_of_them.call >= since_call and known <= all_of_them.accounts
        return tuple(sorted(known)), whole

    def _told(self, oms: str) -> tuple[int, ...]:
        site = self.sites.get(oms)
        return site.accounts if site is not None else ()

    # --- lists and events

    def keep_list(self, call: Call, orders: tuple[Order, ...], unreadable: int, now: float) -> Listed:
        """An answered list. What events had said of its account before it was asked is settled by it."""
        account = call.scope.account
        assert isinstance(account, int)
        ids = frozenset(o.order_id for o in orders if o.order_id is not None)
        listed = Listed(call.number, call.session, call.asked_at, now, orders, ids, unreadable)
        before = self.listed.get((call.oms, account))
        if before is None or before.call < call.number:
            self.listed[call.oms, account] = listed
            self.sightings.listed(call.oms, account, before, listed)
        return listed

    def knows_order(self, oms: str, order: Order) -> bool:
        """The order stands in the account's latest list, or an event has shown it since."""
        if order.order_id is None:
            return False
        listed = self.listed.get((oms, order.account))
        return (oms, order.account, order.order_id) in self.sightings.working or (
            listed is not None and order.order_id in listed.ids
        )

    def as_listed(self, oms: str, order: Order) -> Order:
        """The order with what its account's latest list knew of it, where the order itself doesn't say it."""
        listed = self.listed.get((oms, order.account))
        if None not in (order.entered_by, order.instrument) or listed is None or order.order_id not in listed.ids:
            return order
        row = next(row for row in listed.orders if row.order_id == order.order_id)
        return replace(
            order, entered_by=order.entered_by or row.entered_by, instrument=order.instrument or row.instrument
        )

    # --- the budget of calls

    def may_call(self, oms: str, now: float, keep: float = 0.0) -> bool:
        """Whether a list may leave now. `keep`: the share of the burst that it must leave for others."""
        return self.budget.may_call(oms, now, keep)

    def call_again_at(self, oms: str, now: float, keep: float = 0.0) -> float:
        """When may_call will hold."""
        return self.budget.call_again_at(oms, now, keep)

    def calls_per_s(self, oms: str) -> float:
        """What is refilled each second: lists share it; cancels don't wait for it."""
        return self.budget.calls_per_s(oms)

"""The links to the configured OMSs, and the clock that goes with them: what the daemon and the direct trip share.

Apart from the daemon, so that `trip --direct` waits for nothing that it doesn't use.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.adapters.oms import Credentials, Door, KeyCredentials, OmsLink, PasswordCredentials
from killswitch.config.tables import KeySignIn
from killswitch.domain.messages import (
    Action,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    DropSession,
    ListAccounts,
    ListBlockTrades,
    ListInstruments,
    ListOpenOrders,
    ListPermissions,
    ListPositions,
    ListQuotes,
    ListSecondFactorCalls,
    ListUserAccounts,
    Lost,
    SessionUp,
    SubscribeAccount,
    SubscribePrice,
    Withdraw,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from killswitch.adapters.oms_calls import Call
    from killswitch.config.tables import Gateway, Oms
    from killswitch.domain.messages import Event

    Start: TypeAlias = Callable[[str, Coroutine[None, None, None]], asyncio.Task[None]]
    """Runs a job under a name."""


def now() -> float:
    """Monotonic seconds that count suspended time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Links:
    """A link to each gateway of each OMS, and those that are wanted no more.

    These serve until a link that is wanted is signed in: an OMS is never without a session for a change of ours.
    """

    def __init__(self, omses: Iterable[Oms], submit: Callable[[Event], None], wall: Callable[[], float]) -> None:
        self._submit, self._wall = submit, wall
        self._numbers = itertools.count(1)
        self._omses: dict[str, Oms] = {}
        self._doors: dict[str, Door] = {}
        self._links: dict[str, dict[str, OmsLink]] = {}
        """OMS -> address of a gateway -> the link to it."""
        self._retired: dict[str, list[OmsLink]] = {}
        self._tasks: dict[OmsLink, asyncio.Task[None]] = {}
        self._start: Start | None = None
        self.change(omses)

    def start(self, start: Start) -> None:
        """Run the links by this, from now on."""
        self._start = start
        for name, links in self._links.items():
            for link in links.values():
                self._run(name, link)

    def change(self, omses: Iterable[Oms]) -> None:
        """Go by these OMSs. A gateway that stays keeps its session, unless everything about the sign-in is new."""
        there = {oms.name: oms for oms in omses}
        for name in [name for name in self._omses if name not in there]:
            self._retire(name, self._links.pop(name))
            self._drop_retired(name)
            del self._omses[name], self._doors[name]
        for name, oms in there.items():
            held = self._omses.get(name)
            if held is None or _wire(held) != _wire(oms):
                self._retire(name, self._links.pop(name, {}))
                self._doors[name] = Door()
            self._omses[name] = oms
            self._go_by(oms, self._links.pop(name, {}))

    def _go_by(self, oms: Oms, before: dict[str, OmsLink]) -> None:
        """A link to each of its gateways: one that is there, or a new one."""
        links = self._links[oms.name] = {}
        for gateway in filter(None, (*oms.gateways, oms.http)):
            link = before.pop(gateway.url, None)
            links[gateway.url] = link or self._make(oms, gateway)
            if link is None:
                self._run(oms.name, links[gateway.url])
        self._retire(oms.name, before)
        if any(link.lists and link.session is not None for link in links.values()):
            self._drop_retired(oms.name)

    def own(self, action: Action) -> None:
        """Hand an OMS's action to the link whose session it is for."""
        match action:
            case CancelAllOrders():
                self._of(action.scope.oms, action.session, action)
            case CancelOrder() | ListOpenOrders() | ListUserAccounts() | ListPositions():
                self._of(action.oms, action.session, action)
            case ListPermissions() | ListSecondFactorCalls() | ListAccounts() | SubscribeAccount():
                self._of(action.oms, action.session, action)
            case ListInstruments() | SubscribePrice() | CancelQuote() | ListQuotes() | ListBlockTrades():
                self._of(action.oms, action.session, action)
            case Withdraw() | DropSession():
                for link in self._all(action.oms):
                    link.do(action)
            case _:
                raise TypeError(f"no OMS carries out {type(action).__name__}")

    def _all(self, oms: str) -> list[OmsLink]:
        return [*self._retired.get(oms, ()), *self._links.get(oms, {}).values()]

    def _of(self, oms: str, session: int, call: Call) -> None:
        links = self._all(oms)
        if not links:
            self._submit(Lost(wall=self._wall(), call=call.call, session=session, why="there is no such OMS"))
            return
        # What is for a session that is gone any link reports Lost.
        next((link for link in links if link.session == session), links[-1]).do(call)

    def _run(self, name: str, link: OmsLink) -> None:
        if self._start is not None:
            self._tasks[link] = self._start(f"oms {name}", link.run())

    def _retire(self, name: str, links: dict[str, OmsLink]) -> None:
        for link in links.values():
            link.retire()
            if link.session is None:
                self._stop(link)
            else:
                self._retired.setdefault(name, []).append(link)

    def _drop_retired(self, name: str) -> None:
        for link in self._retired.pop(name, ()):
            self._stop(link)

    def _stop(self, link: OmsLink) -> None:
        task = self._tasks.pop(link, None)
        if task is not None:
            task.cancel()

    def _hear(self, oms: str, event: Event) -> None:
        self._submit(event)
        if isinstance(event, SessionUp):
            self._drop_retired(oms)

    def _make(self, oms: Oms, gateway: Gateway) -> OmsLink:
        kind = OmsLink
        if gateway is oms.http:
            from killswitch.adapters.oms_http_link import HttpLink  # noqa: PLC0415  # its library takes a while

            kind = HttpLink
        return kind(
            oms=oms.name,
            oms_id=oms.oms_id,
            url=gateway.url,
            gateway=gateway.address,
            dialect=oms.dialect,
            credentials=credentials_of(oms),
            accounts=oms.accounts,
            submit=partial(self._hear, oms.name),
            wall=self._wall,
            new_session=lambda: next(self._numbers),
            door=self._doors[oms.name],
        )


def credentials_of(oms: Oms) -> Credentials:
    """Who signs in to this OMS, as the adapters want it."""
    sign_in = oms.sign_in
    if isinstance(sign_in, KeySignIn):
        return KeyCredentials(sign_in.user_id, sign_in.api_key, str(sign_in.secret))
    return PasswordCredentials(sign_in.username, str(sign_in.password))


def _wire(oms: Oms) -> tuple[object, ...]:
    """What a session was made with, beside its gateway: as whom, and whose events it subscribed to."""
    return oms.oms_id, oms.dialect, oms.sign_in, oms.accounts


OMS_ACTIONS: Final = (
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    ListOpenOrders,
    ListQuotes,
    ListBlockTrades,
    ListUserAccounts,
    ListPermissions,
    ListSecondFactorCalls,
    ListAccounts,
    SubscribeAccount,
    ListPositions,
    ListInstruments,
    SubscribePrice,
    Withdraw,
    DropSession,
)

"""The links to the configured OMSs, and the clock that goes with them: what the daemon and the direct trip share.

Apart from the daemon, so that `trip --direct` waits for nothing that it doesn't use.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.adapters.oms import Credentials, KeyCredentials, OmsLink, PasswordCredentials
from killswitch.config.tables import KeySignIn
from killswitch.domain.messages import (
    Action,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    DropSession,
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
    SubscribePrice,
    Withdraw,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from killswitch.adapters.oms_calls import Call
    from killswitch.config.tables import Oms
    from killswitch.domain.messages import Event

    Start: TypeAlias = Callable[[str, Coroutine[None, None, None]], asyncio.Task[None]]
    """Runs a job under a name."""


def now() -> float:
    """Monotonic seconds that count suspended time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Links:
    """One link per OMS, and those whose place another has taken: each serves until its successor is signed in."""

    def __init__(self, omses: Iterable[Oms], submit: Callable[[Event], None], wall: Callable[[], float]) -> None:
        self._submit, self._wall = submit, wall
        self._numbers = itertools.count(1)
        self._omses: dict[str, Oms] = {}
        self._links: dict[str, OmsLink] = {}
        self._retired: dict[str, list[OmsLink]] = {}
        self._tasks: dict[OmsLink, asyncio.Task[None]] = {}
        self._start: Start | None = None
        self.change(omses)

    def start(self, start: Start) -> None:
        """Run the links by this, from now on."""
        self._start = start
        for name in self._links:
            self._run(name)

    def change(self, omses: Iterable[Oms]) -> None:
        """Go by these OMSs. A link that has to sign in anew is made before the one that it replaces is let go."""
        there = {oms.name: oms for oms in omses}
        for name in [name for name in self._omses if name not in there]:
            self._retire(name)
            self._drop_retired(name)
            del self._omses[name]
        for name, oms in there.items():
            held = self._omses.get(name)
            self._omses[name] = oms
            if held is not None and _wire(held) == _wire(oms):
                continue
            if held is not None:
                self._retire(name)
            self._links[name] = self._make(oms)
            self._run(name)

    def own(self, action: Action) -> None:
        """Hand an OMS's action to the link whose session it is for."""
        match action:
            case CancelAllOrders():
                self._of(action.scope.oms, action.session, action)
            case CancelOrder() | ListOpenOrders() | ListUserAccounts() | ListPositions():
                self._of(action.oms, action.session, action)
            case ListPermissions() | ListSecondFactorCalls():
                self._of(action.oms, action.session, action)
            case ListInstruments() | SubscribePrice() | CancelQuote() | ListQuotes() | ListBlockTrades():
                self._of(action.oms, action.session, action)
            case Withdraw() | DropSession():
                for link in self._all(action.oms):
                    link.do(action)
            case _:
                raise TypeError(f"no OMS carries out {type(action).__name__}")

    def _all(self, oms: str) -> list[OmsLink]:
        return [*self._retired.get(oms, ()), *filter(None, [self._links.get(oms)])]

    def _of(self, oms: str, session: int, call: Call) -> None:
        links = self._all(oms)
        if not links:
            self._submit(Lost(wall=self._wall(), call=call.call, session=session, why="there is no such OMS"))
            return
        # The last one is today's link: what is for a session that is gone it reports Lost.
        next((link for link in links if link.session == session), links[-1]).do(call)

    def _run(self, name: str) -> None:
        link = self._links[name]
        if self._start is not None:
            self._tasks[link] = self._start(f"oms {name}", link.run())

    def _retire(self, name: str) -> None:
        link = self._links.pop(name)
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

    def _make(self, oms: Oms) -> OmsLink:
        gateway = oms.gateways[0]
        return OmsLink(
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
        )


def credentials_of(oms: Oms) -> Credentials:
    """Who signs in to this OMS, as the adapters want it."""
    sign_in = oms.sign_in
    if isinstance(sign_in, KeySignIn):
        return KeyCredentials(sign_in.user_id, sign_in.api_key, str(sign_in.secret))
    return PasswordCredentials(sign_in.username, str(sign_in.password))


def _wire(oms: Oms) -> tuple[object, ...]:
    """What a session was made with: where it is, as whom, and whose events it subscribed to."""
    return oms.oms_id, oms.gateways, oms.dialect, oms.sign_in, oms.accounts


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
    ListPositions,
    ListInstruments,
    SubscribePrice,
    Withdraw,
    DropSession,
)

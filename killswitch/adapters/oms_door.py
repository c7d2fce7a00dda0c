"""The door of an OMS: its gateways let the same user in, or refuse him, and refusals lock him.

So the links to one OMS sign in one after the other, and back off as one: two gateways must not double the
attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from killswitch.adapters.oms_waits import refused_wait_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TURN_S: Final = 2.0
"""A sign-in that isn't answered for so long doesn't keep the others waiting: it is no refusal so far."""
BEHIND_S: Final = 0.5
"""Whoever was refused last lets the others try first, by so much."""


class Door:
    """What the links to one OMS know together of one credential. They name themselves by their gateway.

    A gateway that let us in last time may be tried at any time; all others wait after a refusal, whoever's it was.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._known: set[str] = set()
        self._trusted: set[str] = set()
        self._refused_by: set[str] = set()
        self._refused_last = ""
        self._refusals = 0
        self._shut_until = float("-inf")  # the running loop's time

    def wait_s(self, gateway: str) -> float:
        """Seconds until this gateway may be tried; 0: now."""
        self._known.add(gateway)
        if gateway in self._trusted:
            return 0.0
        behind = BEHIND_S if gateway == self._refused_last and len(self._known) > 1 else 0.0
        return max(self._shut_until + behind - asyncio.get_running_loop().time(), 0.0)

    async def opens(self, gateway: str) -> None:
        """Wait until this gateway may be tried."""
        while (rest_s := self.wait_s(gateway)) > 0:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await changed.wait()

    @contextlib.asynccontextmanager
    async def turn(self, gateway: str) -> AsyncIterator[bool]:
        """For the time of one sign-in. Gives False where another one was refused meanwhile: don't."""
        mine = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TURN_S):
                mine = await self._turn.acquire()
        try:
            yield self.wait_s(gateway) == 0
        finally:
            if mine:
                self._turn.release()

    def let_in(self, gateway: str) -> None:
        """A session is up. Where this gateway had refused us, all of them may be tried again at once."""
        self._trusted.add(gateway)
        if gateway not in self._refused_by:
            return
        self._refused_by.clear()
        self._refused_last, self._refusals, self._shut_until = "", 0, float("-inf")
        self._changed.set()
        self._changed = asyncio.Event()

    def refused(self, gateway: str) -> float:
        """This gateway refused us. Seconds until any may be tried that hasn't let us in."""
        self._trusted.discard(gateway)
        self._refused_by.add(gateway)
        self._refused_last = gateway
        self._refusals += 1
        wait_s = refused_wait_s(self._refusals)
        self._shut_until = asyncio.get_running_loop().time() + wait_s
        return wait_s

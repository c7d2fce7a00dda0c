"""A bench with sessions at two gateways of the one OMS."""

from __future__ import annotations

from dataclasses import replace

from killswitch.domain.messages import Sent, SessionDown, SessionUp
from killswitch.domain.settings import FeedSpec
from tests.domain.bench import SETTINGS, SITE, Bench

FEED = FeedSpec(name="positions", kind="oms", stale_after_s=60.0, oms="prime")
SITES = (replace(SITE, gateways=("gw:1", "gw:2")),)
TWO = replace(SETTINGS, sites=SITES)
FED = replace(TWO, feeds=(FEED,))
A, B = 1, 2


class Paths(Bench):
    """A bench with a session at each of two gateways, A and B; both lead to the one exchange."""

    def __init__(self, settings=TWO) -> None:
        super().__init__(settings)
        self.silent: set[int] = set()
        self.up(A, "gw:1")
        self.up(B, "gw:2")

    def up(self, session: int, gateway: str) -> None:
        self.session = session
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway=gateway, session=session))

    def down(self, session: int, gateway: str) -> None:
        self.waiting = type(self.waiting)(a for a in self.waiting if a.session != session)
        self.tell(SessionDown(wall=self.wall, oms="prime", gateway=gateway, session=session, why="cut"))

    def step(self):
        """As in the bench, whichever session it is; `silent` ones take what is written and answer nothing."""
        if not self.waiting:
            return None
        self.session = self.waiting[0].session
        if self.session not in self.silent:
            return super().step()
        action = self.waiting.popleft()
        self.tell(Sent(wall=self.wall, call=action.call, session=action.session))
        return action

    def where(self, *kinds) -> set[int]:
        return {a.session for a in self.of(*kinds)}

    def standing(self):
        return self.switch.view(self.now).omses[0].sessions


def quiet(bench: Bench) -> None:
    while bench.step():
        pass

"""Trouble of its own making: what befalls gateways, clocks and our process at times that a seed chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.messages import ClockStepped
from tests.sim.link import HttpLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.gateway import Connection
    from tests.sim.link import Link
    from tests.sim.world import World

EVERY_S = 0.1
LONG_S = 30.0


class Trouble:
    """Once `begin` has been called, each fault has its chance every EVERY_S."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._kinds: dict[str, Callable[[], bool]] = {
            "disconnect": self._disconnect,
            "silent gateway": self._silence,
            "gateway switched": self._switch,
            "gateway upgraded": self._upgrade,
            "gateways away": self._go_away,
            "deaf gateway": self._deafen,
            "token expired": self._expire,
            "rate limit": self._limit,
            "second factor": self._second_factor,
            "clock stepped": self._step_clock,
            "frozen process": self._freeze,
            "frozen for 30 s": self._freeze_long,
        }

    def begin(self, until: float) -> None:
        for name in self._kinds:
            if self.world.faults.has(name):
                for n in range(1, int(until / EVERY_S)):
                    self.world.at(n * EVERY_S, lambda name=name: self._try(name))  # type: ignore[misc]

    def _try(self, name: str) -> None:
        """Counted only where it could do something."""
        faults = self.world.faults
        if faults.chance(name) and self._kinds[name]():
            faults.note(name)

    def end(self) -> None:
        """Nothing of it lasts into the calm."""
        for link in self.world.links:
            link.deaf_until = link.limited_until = link.strict_until = link.locked_until = link.away_until = 0.0
            held = link.connection
            if held is not None and (held.silent or held.expired):
                link.go_down("no answer", 0.1)

    def _link(self) -> Link:
        return self.world.rng.choice(self.world.links)

    def _for(self, least: float, most: float) -> float:
        return self.world.now + self.world.rng.uniform(least, most)

    def _disconnect(self) -> bool:
        link = self._link()
        stood = link.connection is not None
        link.go_down("connection reset", self.world.rng.uniform(0.02, 1.0))
        return stood

    def _silence(self) -> bool:
        """A half-open connection: nothing comes back, until our adapter notices."""
        link = self._link()
        held = link.connection
        if held is None or held.silent:
            return False
        held.silent = True
        self._ends(link, held, "no answer to a Ping", 0.5, 3.0)
        return True

    def _ends(self, link: Link, held: Connection, why: str, least: float, most: float) -> None:
        world = self.world
        back = world.rng.uniform(0.02, 0.5)
        world.at(self._for(least, most), lambda: link.go_down(why, back) if link.connection is held else None)

    def _switch(self) -> bool:
        """The session that does the work goes, in a sweep, while another one stands."""
        oms = self.world.rng.choice(sorted(self.world.exchanges))
        up = [
            link
            for link in self.world.links
            if link.exchange.oms == oms and link.connection is not None and not isinstance(link, HttpLink)
        ]
        sweeping = any(
            state != "confirmed" and self.world.judge.latched[trip].oms == oms
            for trip, state in self.world.judge.states.items()
        )
        if len(up) < 2 or not sweeping:  # one, and another
            return False
        oldest = min(up, key=lambda link: link.connection.session if link.connection else 0)
        oldest.go_down("its gateway is switched", self.world.rng.uniform(0.02, 0.5))
        return True

    def _upgrade(self) -> bool:
        """Another version answers at the next sign-in, on one gateway or on all; whether it tells is its own matter."""
        link = self._link()
        if link.configured is not None:
            return False
        age = self.world.rng.choice([age for age in ("v2", "v3", "v4") if age != link.age])
        beside = [other for other in self.world.links if other.exchange is link.exchange]
        for each in beside if self.world.rng.random() < 0.5 else [link]:
            each.upgrade(age)
        return True

    def _go_away(self) -> bool:
        """No gateway of an OMS can be reached for a while."""
        oms, until = self.world.rng.choice(sorted(self.world.exchanges)), self._for(0.3, 4.0)
        for link in self.world.links:
            if link.exchange.oms == oms and not isinstance(link, HttpLink):
                link.away_until = until
                link.go_down("connection refused", 0.1)
        return True

    def _deafen(self) -> bool:
        """It takes calls, and does nothing about them."""
        link = self._link()
        link.deaf_until = self._for(0.3, 3.0)
        return link.connection is not None

    def _expire(self) -> bool:
        """Every private call is refused, until the next sign-in: the server ends such a session some time later."""
        link = self._link()
        held = link.connection
        if held is None or held.expired:
            return False
        held.expired = True
        self._ends(link, held, "logged out", 0.3, 2.0)
        return True

    def _limit(self) -> bool:
        link = self._link()
        link.limited_until = self._for(0.2, 2.0)
        return link.connection is not None

    def _second_factor(self) -> bool:
        link = self._link()
        link.strict_until = self._for(0.2, 2.0)
        return link.connection is not None

    def _step_clock(self) -> bool:
        """Our wall clock is set an hour forward or back; our loop says so at its next beat."""
        world = self.world
        by = world.rng.choice((3600.0, -3600.0))
        world.stepped_s += by
        world.after(world.rng.uniform(0.0, 0.25), lambda: world.post(ClockStepped(wall=world.wall, by_s=by)))
        return True

    def _freeze(self) -> bool:
        return self.world.freeze(self.world.rng.uniform(0.2, 2.5))

    def _freeze_long(self) -> bool:
        """SIGSTOP for half a minute, once at most: everybody else goes on."""
        self.world.faults.rates.pop("frozen for 30 s")
        return self.world.freeze(LONG_S)

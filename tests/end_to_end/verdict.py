"""Whether what the daemon said of its trips was true, by the simulator's own table of orders."""

from __future__ import annotations

from tests.end_to_end.house import proven, until


class Verdict:
    """Looks on from the first letter; `good` at the end.

    A trip that is told as VERIFIED while the table holds an order of its scope is a lie; no test that uses this
    puts an order into a scope that is proven.
    """

    def __init__(self, house, **scope):
        self.house, self.scope = house, scope
        self.others = house.open() - house.open(**scope)
        self.lies = []
        house.letters.heard = self._heard

    def _heard(self, topic, said):
        if topic.startswith("killswitch/trip/") and isinstance(said, dict) and proven(said):
            left = self.house.open(**ids(said["scope"]))
            if left:
                self.lies.append((topic, sorted(left)))

    async def good(self, *names):
        """Every trip VERIFIED, true, latched; what was cancelled is the scope and nothing else."""
        house = self.house
        await house.confirmed(*names)

        async def stand():
            trips = {t["trip"]: t for t in (await house.state())["trips"]}
            return trips.keys() == set(names) and all(proven(t) for t in trips.values())

        await until(stand, "each is latched and proven, and nothing else is", shown=house.shown, every_s=0.05)
        assert not self.lies
        assert not house.open(**self.scope)
        assert house.open() == self.others
        assert "reset" not in house.letters.kinds()
        self.in_scope()

    def in_scope(self):
        """No cancel named more than the scope."""
        log, orders = self.house.sim.exchange.log, self.house.sim.exchange.orders
        for request in log.of("CancelAllOrders"):
            body = request.body
            named = {k: body[f"{k.title()}Id"] for k in ("account", "user", "instrument") if f"{k.title()}Id" in body}
            assert named.items() >= self.scope.items(), body
        for request in log.of("CancelOrder"):
            order = orders[request.body["OrderId"]]
            assert {k: getattr(order, k) for k in self.scope} == self.scope, request.body


def ids(scope):
    """A scope as it is told, as `House.open` takes it."""
    return {k: v for k, v in scope.items() if k in ("account", "user", "instrument") and v != "every"}

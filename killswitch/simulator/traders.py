"""Orders that enter by themselves: the trader who keeps placing and the late order.

Pure: it says when it next wants to place something and what; the exchange places it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.simulator.faults import LateOrder

if TYPE_CHECKING:
    from killswitch.simulator.faults import Faults, KeepPlacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an order is to enter; None where the exchange may choose. `fill`: it fills at once."""

    account: int | None
    user: int | None
    instrument: int | None
    fill: bool = False


@dataclass(slots=True)
class _Run:
    trader: KeepPlacing
    next_at: float
    until: float


class Traders:
    """Keeps the clock of each trader. Times are the exchange's, in seconds."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._runs: dict[int, _Run] = {}
        self._late: list[tuple[float, Placement]] = []
        self._cancelled: Placement | None = None

    def begin(self, now: float) -> None:
        """Start traders that were switched on since the last call and drop those that were switched off."""
        wanted = {id(trader): trader for trader in self._faults.traders()}
        self._runs = {key: run for key, run in self._runs.items() if key in wanted}
        for key, trader in wanted.items():
            if key not in self._runs:
                self._runs[key] = _Run(trader, now + 1 / trader.rate, now + trader.lasting_s)

    def cancelled_all(self, scope: Placement) -> None:
        """A CancelAllOrders was accepted; a late order waits until its cancels are done."""
        self._cancelled = scope

    def all_quiet(self, at: float) -> None:
        """No accepted cancel is left to carry out, since `at`."""
        scope, self._cancelled = self._cancelled, None
        if scope is None:
            return
        fault = self._faults.take(LateOrder)
        if fault is None:
            return
        place = Placement(
            account=fault.account or scope.account,
            user=fault.user or scope.user,
            instrument=fault.instrument or scope.instrument,
        )
        self._late.append((at + fault.delay_s, place))
        self._late.sort(key=lambda entry: entry[0])

    def due(self) -> float | None:
        """When the next order wants to enter."""
        times = [run.next_at for run in self._runs.values() if run.next_at <= run.until]
        times += [at for at, _ in self._late[:1]]
        return min(times, default=None)

    def unstarted(self) -> bool:
        """Whether `begin` has something to do."""
        return any(id(trader) not in self._runs for trader in self._faults.traders())

    def next(self) -> Placement:
        """The order that is due first; `due()` was not None."""
        at = self.due()
        if self._late and self._late[0][0] == at:
            return self._late.pop(0)[1]
        run = next(run for run in self._runs.values() if run.next_at == at)
        run.next_at += 1 / run.trader.rate
        trader = run.trader
        return Placement(account=trader.account, user=trader.user, instrument=trader.instrument, fill=trader.fill)

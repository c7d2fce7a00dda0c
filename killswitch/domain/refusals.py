"""Refusals: what an answer that says no means for the sweeps that rest on its call.

Not Authorized speaks of whose orders they are: a narrower call may be allowed. Any other refusal (Invalid Request,
Not Supported, a demand for a second factor) speaks of the call itself: then the other way of cancelling is tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.dialects import Dialect
from killswitch.domain.sweep import ANYBODY, Sweep, Whose

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Call
    from killswitch.domain.evidence import Evidence
    from killswitch.domain.messages import Answer
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Table

NOT_AUTHORIZED: Final = 20
INVALID_REQUEST: Final = 100


class Refusals:
    """Writes into the trips what was refused to them."""

    def __init__(self, book: Book, trips: Table[str, Trip], evidence: Evidence) -> None:
        self._book, self._trips, self._evidence = book, trips, evidence

    def refused(self, call: Call, answer: Answer, now: float) -> None:
        """A cancel was refused: the same call again is no use. Narrow it for each trip that rests on it."""
        for trip in self._evidence.latched(call.oms):
            if not call.scope.meets(trip.scope):
                continue
            sweep = trip.sweep
            if call.order_id is not None:
                sweep = self._single(sweep, call, answer)
            elif trip.scope.covers(call.scope):
                by_order = sweep.by_order or answer.code != NOT_AUTHORIZED
                sweep = replace(sweep, refused=sweep.refused | {call.scope}, by_order=by_order)
            # A refused cancel is carried by no session: whoever rested on it sends a call of its own.
            carried = sweep.carried - {(call.session, call.scope)}
            # The first one's time: another trip's refusals must not put this one's next try off for ever.
            refused_at = now if sweep.refused_at == float("-inf") else sweep.refused_at
            self._trips[trip.id] = replace(trip, sweep=replace(sweep, carried=carried, refused_at=refused_at))

    def _single(self, sweep: Sweep, call: Call, answer: Answer) -> Sweep:
        """The cancel of one order was refused: by its short form, for whose order it is, or for good."""
        if answer.code == INVALID_REQUEST and call.order_id and self._book.dialect(call.oms) is Dialect.V2:
            if not sweep.fully:
                return replace(sweep, fully=True)
            if not call.fully:
                return sweep  # of the batch that left before the first of it was refused
        whose = _whose(call) if answer.code == NOT_AUTHORIZED else ANYBODY
        return replace(sweep, singles_refused=sweep.singles_refused | {whose})

    def forget(self, oms: str) -> None:
        """What was refused on this OMS was said on a session that had run out: it says nothing."""
        for trip in self._evidence.latched(oms):
            sweep = replace(
                trip.sweep,
                refused=frozenset(),
                by_order=False,
                singles_refused=frozenset(),
                doubtful=frozenset(),
                refused_at=float("-inf"),
            )
            self._trips[trip.id] = replace(trip, sweep=sweep)

    def trusted(self, call: Call) -> None:
        """A single cancel was received: where such had been refused, the others of its kind may go as well."""
        if call.order_id is None:
            return
        for trip in self._evidence.latched(call.oms):
            if trip.sweep.doubtful and call.scope.meets(trip.scope):
                doubtful = trip.sweep.doubtful - {ANYBODY, _whose(call)}
                self._trips[trip.id] = replace(trip, sweep=replace(trip.sweep, doubtful=doubtful))


def _whose(call: Call) -> Whose:
    """Whose order a single cancel was for."""
    account, user = call.scope.account, call.scope.user
    return (account if isinstance(account, int) else 0, user if isinstance(user, int) else None)

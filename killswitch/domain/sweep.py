"""Sweep: cancel a scope, list it, cancel stragglers, until the lists prove it empty.

Values and judgements only: what a sweep knows, whether a list counts for it, and what a full round means.
Who acts on it, and when, is sweeper.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.scope import Holds, Scope, covering

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.book import Listed
    from killswitch.domain.messages import Order

SINGLES_MAX: Final = 20
"""More stragglers than this on one account are not cancelled one by one while a narrower call is left."""
Whose: TypeAlias = tuple[int, int | None]
"""Account, and the user who entered the order; None: nobody knows."""
ANYBODY: Final[Whose] = (0, None)
"""Among refused single cancels: the call itself was refused, whosever the order."""
FRUITLESS_MAX: Final = 2
"""Cancels without any effect, after which stragglers are cancelled one by one."""


@dataclass(frozen=True, slots=True)
class Found:
    """A scope's orders in one list. `maybe`: could be ours, but nobody can say so."""

    sure: tuple[Order, ...]
    maybe: tuple[Order, ...]
    unreadable: int

    @property
    def count(self) -> int:
        return len(self.sure) + len(self.maybe) + self.unreadable


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep knows of itself. Times are monotonic seconds.

    A list counts only if its call number is `mark` or above, if it was asked at `not_before` or later, and
    if its session carried the plan's cancels (`carried`: pairs of session and the cancel's scope; a plan
    that goes order by order needs none). `mark` moves to the next call number whenever a cancel that could
    touch the scope was written, and whenever a working order was sighted.
    """

    began_call: int
    mark: int
    not_before: float
    carried: frozenset[tuple[int, Scope]] = frozenset()
    refused: frozenset[Scope] = frozenset()
    by_order: bool = False  # CancelAllOrders itself was refused, whatever it names
    singles_refused: frozenset[Whose] = frozenset()  # whose orders can't go singly
    doubtful: frozenset[Whose] = frozenset()  # they couldn't before: one of each is tried at a time
    fully: bool = False  # single cancels name the account too: the short form was refused
    singles_at: float = float("-inf")  # stragglers are cancelled one by one again from here on
    sighted: int = 0  # the next call's number when a list showed an order last: older lists make no empty round
    refused_at: float = float("-inf")  # when the first of all that was refused in this sweep was
    ask_at: float = float("-inf")  # a list failed: what is missing is asked for from here on
    users_asked: int = 0  # the call that asks for the user's accounts
    users_settled: bool = False  # it was answered, one way or the other
    empties: int = 0
    rounds: int = 0
    previous: frozenset[str] | None = None  # orders in the last full round since the last cancel
    previous_count: int = 0
    fruitless: int = 0
    waits: int = 0  # rounds with orders in a row, for the waits between them
    round_ended_at: float | None = None

    def carried_by(self, session: int, plan: tuple[Scope, ...]) -> bool:
        """The session itself carried every cancel of the plan."""
        return all(
            (session, part) in self.carried or any((session, scope) in self.carried for scope in covering(part))
            for part in plan
        )

    def proving(self, live: Iterable[int], plan: tuple[Scope, ...]) -> frozenset[int]:
        """The live sessions whose lists can prove something: those that carried the plan."""
        return frozenset(session for session in live if self.carried_by(session, plan))

    def counts(self, listed: Listed, proving: frozenset[int]) -> bool:
        """Whether a list is evidence for the round under way."""
        return listed.call >= self.mark and listed.asked_at >= self.not_before and listed.session in proving

    def single_refused(self, account: int, user: int | None) -> bool:
        """Whether the cancel of a single order of theirs was refused."""
        return ANYBODY in self.singles_refused or (account, user) in self.singles_refused

    def doubted(self, account: int, user: int | None) -> Whose | None:
        """Why of such orders only one at a time is tried; None: there is no reason."""
        return next((whose for whose in (ANYBODY, (account, user)) if whose in self.doubtful), None)

    def touched(self, next_call: int, now: float) -> Sweep:
        """A cancel that could touch the scope was written, or an order in it was sighted: begin to count anew.

        Only what is asked from here on counts, on whichever session.
        """
        return replace(
            self,
            mark=max(self.mark, next_call),
            empties=0,
            not_before=min(self.not_before, now),
            ask_at=min(self.ask_at, now),
        )


def find(scope: Scope, orders: tuple[Order, ...], unreadable: int) -> Found:
    """The orders of a list that the scope holds, or may hold."""
    sure: list[Order] = []
    maybe: list[Order] = []
    for order in orders:
        match scope.holds(order):
            case Holds.YES:
                sure.append(order)
            case Holds.MAYBE:
                maybe.append(order)
            case Holds.NO:
                pass
    return Found(tuple(sure), tuple(maybe), unreadable)


class Next(Enum):
    """What a full round with orders asks for."""

    WAIT = "the number falls, or it is the first look: list again"
    CANCEL = "it doesn't fall: cancel again"
    SINGLES = "cancels have no effect or are refused: stragglers one by one"


def names(orders: Iterable[Order]) -> frozenset[str]:
    """What tells orders apart: the order's id, else the id that its owner gave it; nothing where there is neither."""
    return frozenset(
        str(o.order_id) if o.order_id is not None else f"client {o.client_order_id}"
        for o in orders
        if o.order_id is not None or o.client_order_id is not None
    )


def judge(sweep: Sweep, ids: frozenset[str], count: int, *, by_order: bool) -> tuple[Next, Sweep]:
    """What a full round that shows `count` orders (`ids`: those that can be named) means, and the sweep after it.

    Right after a cancel a list still shows everything, so two lists that were both asked for after it are
    compared: while the number falls, it works. `by_order`: no call takes all of them, so nothing is waited for.
    """
    if sweep.previous is None and not by_order:
        after = replace(sweep, previous=ids, previous_count=count)
        return Next.WAIT, after
    if sweep.previous is not None and count < sweep.previous_count:
        after = replace(sweep, previous=ids, previous_count=count, fruitless=0)
        return (Next.SINGLES, replace(after, waits=0)) if by_order else (Next.WAIT, after)
    stuck = sweep.previous is not None and sweep.previous <= ids
    fruitless = sweep.fruitless + 1 if stuck else 0
    after = replace(sweep, previous=ids if by_order else None, previous_count=count, fruitless=fruitless)
    if by_order or fruitless >= FRUITLESS_MAX:
        return Next.SINGLES, after
    return Next.CANCEL, after

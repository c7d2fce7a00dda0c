"""Scope: the orders that a trip covers.

A scope is OMS x account x user x instrument. Each part is one id or EVERY, and EVERY is always said: there
is no default, and None or 0 mean nothing here. The eight combinations are the eight rows of the vendor's
CancelAllOrders table ("Specifying this information... / Cancels all orders for...").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Order

ID_MAX: Final = 2**63 - 1
"""Ids are int64 on the wire; order ids above 2**31 have been seen live."""


class Every(Enum):
    """The one value that means "all of them"."""

    EVERY = "every"

    __hash__ = object.__hash__  # an enumeration's own is Python, and a sweep looks scopes up thousands of times


EVERY: Final = Every.EVERY
Part: TypeAlias = int | Every


class ScopeError(ValueError):
    """A scope that can't be: a sentence for the person who wrote it."""


class Holds(Enum):
    """Whether a scope holds an order. MAYBE: the order doesn't say who entered it, or can't be read.

    MAYBE counts as in scope for proof and as out of scope for cancelling it by its id: proof must not
    overlook it, and a cancel must not take somebody else's order.
    """

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


def _check(part: str, value: object) -> None:
    if value is EVERY:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= ID_MAX:
        raise ScopeError(f"{part} must be an id above 0 or every")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """OMS (by its configured name) x account x user x instrument; each part an id in 1..2**63-1 or EVERY.

    Raises ScopeError for anything else, so that no 0, None, bool, float or text can widen a cancel.
    """

    oms: str
    account: Part
    user: Part
    instrument: Part

    def __post_init__(self) -> None:
        if not self.oms:
            raise ScopeError("oms must name an OMS")
        _check("account", self.account)
        _check("user", self.user)
        _check("instrument", self.instrument)

    @property
    def whole(self) -> bool:
        """Neither an account nor a user is named: the vendor asks for a special permission for it."""
        return self.account is EVERY and self.user is EVERY

    def covers(self, other: Scope) -> bool:
        """Every order that `other` could hold is held by this scope."""
        # Written out, and so is `meets`: each event compares the scope of every latched trip.
        return (
            self.oms == other.oms
            and (self.account is EVERY or self.account == other.account)
            and (self.user is EVERY or self.user == other.user)
            and (self.instrument is EVERY or self.instrument == other.instrument)
        )

    def meets(self, other: Scope) -> bool:
        """Some order could be in both."""
        return (
            self.oms == other.oms
            and (self.account is EVERY or other.account is EVERY or self.account == other.account)
            and (self.user is EVERY or other.user is EVERY or self.user == other.user)
            and (self.instrument is EVERY or other.instrument is EVERY or self.instrument == other.instrument)
        )

    def holds(self, order: Order) -> Holds:
        """Whether this scope holds an order of its OMS; the caller has compared the OMS."""
        sure = True
        for part, value in (
            (self.account, order.account),
            (self.user, order.entered_by),
            (self.instrument, order.instrument),
        ):
            if part is EVERY or part == value:
                continue
            if value is not None:
                return Holds.NO
            sure = False
        return Holds.YES if sure else Holds.MAYBE

    def in_words(self) -> str:
        """Such as "prime: account 14, instrument 25, all users"."""
        account = "all accounts" if self.account is EVERY else f"account {self.account}"
        user = "all users" if self.user is EVERY else f"user {self.user}"
        instrument = "all instruments" if self.instrument is EVERY else f"instrument {self.instrument}"
        named = [p for p in (account, user, instrument) if not p.startswith("all ")]
        every = [p for p in (account, user, instrument) if p.startswith("all ")]
        return f"{self.oms}: {', '.join(named + every)}"


def outermost(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """The scopes that no other of them covers, each once: their union is the union of all."""
    distinct = dict.fromkeys(scopes)
    return tuple(s for s in distinct if not any(o != s and o in distinct for o in covering(s)))


@lru_cache(maxsize=10_000)
def covering(scope: Scope) -> tuple[Scope, ...]:
    """All scopes that cover this one, eight at most, itself the first: looked up where many would be compared."""
    accounts, users, instruments = (
        dict.fromkeys((part, EVERY)) for part in (scope.account, scope.user, scope.instrument)
    )
    return tuple(
        Scope(oms=scope.oms, account=account, user=user, instrument=instrument)
        for account in accounts
        for user in users
        for instrument in instruments
    )

"""What servers of different ages can be told in one CancelAllOrders, and how the rest of a scope is covered.

A server ignores a key that it doesn't know, and then cancels more than was asked: an operator's call with a user
id is one for the whole OMS where UserId means nothing. So only an id that the dialect is known to honour may
leave, and what can't be said is cancelled order by order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from killswitch.domain.scope import EVERY, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Dialect(Enum):
    """The age of a server. A session's, found at its sign-in or said by a person."""

    V2 = "v2"
    V3 = "v3"
    V4 = "v4"

    __hash__ = object.__hash__  # an enumeration's own is Python, and each plan looks in the table below


POOREST: Final = Dialect.V3
"""What a server is taken for that nobody could tell of: it honours the account and nothing else."""

HONOURS: Final[Mapping[Dialect, frozenset[str]]] = {
    # "Specifying this information..." (CancelAllOrders, the 2.23 document): any of the three.
    Dialect.V2: frozenset({"account", "user", "instrument"}),
    # The 3.3 document: UserId and InstrumentId "eliminated". 3.5 has a misspelt instrument in one table: not known.
    Dialect.V3: frozenset({"account"}),
    # The 4.x documents: no user; account and instrument.
    Dialect.V4: frozenset({"account", "instrument"}),
}

_VERSION: Final = re.compile(r"\s*[vV]?([0-9]{1,4})(?:\.[0-9]{1,9}){1,5}\s*", re.ASCII)


def dialect_of(version: str) -> Dialect:
    """The dialect of what GetOMSVersion says, such as "4.3.65.1063"; POOREST for whatever isn't surely one."""
    found = _VERSION.fullmatch(version)
    major = 0 if found is None else int(found[1])
    return {2: Dialect.V2, 4: Dialect.V4}.get(major, POOREST)


def ignored_by(dialect: Dialect, version: str) -> tuple[str, ...]:
    """The ids on which calls in that dialect may rest and which a server of this version isn't known to heed."""
    return tuple(sorted(HONOURS[dialect] - HONOURS[dialect_of(version)]))


def poorest(dialects: Iterable[Dialect]) -> Dialect:
    """The one whose calls each of these understands: of any two, one honours all that the other does."""
    return min(dialects, key=lambda dialect: len(HONOURS[dialect]), default=POOREST)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a scope is covered: the calls, and the accounts whose orders in scope are cancelled one by one.

    `lists`: the accounts to look at, for the one by one and for the proof.
    """

    calls: tuple[Scope, ...]
    by_order: tuple[int, ...]
    lists: tuple[int, ...]


def can_say(dialect: Dialect, scope: Scope, *, whole_oms: bool) -> bool:
    """Whether one CancelAllOrders takes this scope's orders and no other.

    A call without an account and a user is one for everybody, and wants `whole_oms`.
    """
    named = {
        part
        for part, value in (("account", scope.account), ("user", scope.user), ("instrument", scope.instrument))
        if value is not EVERY
    }
    return named <= HONOURS[dialect] and (whole_oms or not scope.whole)


def in_words(dialect: Dialect | None) -> str:
    """For people: what one call can say, and what goes order by order. None: it is found at each sign-in."""
    if dialect is None:
        others = "; ".join(in_words(known) for known in Dialect if known is not POOREST)
        return f"found at each sign-in. Until a server tells its version: {in_words(POOREST)}. Then that, or {others}"
    named = ("account", "user", "instrument")
    said = [part for part in named if part in HONOURS[dialect]]
    rest = [part for part in named if part not in HONOURS[dialect]]
    one_by_one = f"; a scope that names {' or '.join(rest)} is cancelled order by order" if rest else ""
    return f"{dialect.value}, which is told {', '.join(said)}{one_by_one}"


def narrowest(
    dialect: Dialect, scope: Scope, account: int, instrument: int | None, *, refused: frozenset[Scope] = frozenset()
) -> Scope | None:
    """The narrowest call inside `scope` that takes an order of it, resting there; None: none can be said.

    `instrument`: None where it isn't known. `refused`: calls that are no use.
    """
    on_account = replace(scope, account=account)
    tried = (on_account,) if instrument is None else (replace(on_account, instrument=instrument), on_account)
    return next((c for c in tried if can_say(dialect, c, whole_oms=False) and c not in refused), None)


def plan(
    dialect: Dialect,
    scope: Scope,
    accounts: tuple[int, ...],
    *,
    whole_oms: bool,
    refused: frozenset[Scope] = frozenset(),
    by_order: bool = False,
) -> Plan:
    """One call for the scope where it can be said; else one per account; else order by order.

    `accounts`: those that a scope without an account may have orders on, as far as they are known. `refused`: calls
    that the server has refused for good; they are not planned again but covered by what is narrower. `by_order`: it
    refused the call itself, so that no form of it is worth a try.
    """
    if scope.account is not EVERY:
        accounts = (scope.account,)  # whatever else is known of the OMS
    if by_order:
        return Plan((), accounts, accounts)
    if can_say(dialect, scope, whole_oms=whole_oms) and scope not in refused:
        return Plan((scope,), (), accounts)
    calls: list[Scope] = []
    singly: list[int] = []
    for account in accounts:
        call = replace(scope, account=account)
        if can_say(dialect, call, whole_oms=False) and call not in refused:
            calls.append(call)
        else:
            singly.append(account)
    return Plan(tuple(calls), tuple(singly), accounts)

"""CancelAllOrders' table, server side: "Specifying this information... / Cancels all orders for...".

Eight rows, keyed by which of UserId, AccountId and InstrumentId are given, in the order of the vendor's
columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from killswitch.simulator.orders import Order

    Matches = Callable[[Order, int | None, int | None, int | None], bool]
    """(order, UserId, AccountId, InstrumentId) -> whether the row takes the order."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one row takes. An order is a user's when that user entered it."""

    words: str
    matches: Matches


GIVEN, ABSENT = True, False

ROWS: Final[Mapping[tuple[bool, bool, bool], Row]] = {
    (GIVEN, GIVEN, GIVEN): Row(
        "one account belonging to one user for one instrument",
        lambda o, u, a, i: o.entered_by == u and o.account == a and o.instrument == i,
    ),
    (GIVEN, GIVEN, ABSENT): Row(
        "one account belonging to one user for all instruments",
        lambda o, u, a, _: o.entered_by == u and o.account == a,
    ),
    (GIVEN, ABSENT, GIVEN): Row(
        "all accounts belonging to one user for one instrument",
        lambda o, u, _, i: o.entered_by == u and o.instrument == i,
    ),
    (GIVEN, ABSENT, ABSENT): Row(
        "all accounts belonging to one user for all instruments",
        lambda o, u, _, __: o.entered_by == u,
    ),
    (ABSENT, GIVEN, GIVEN): Row(
        "all users of one account for one instrument",
        lambda o, _, a, i: o.account == a and o.instrument == i,
    ),
    (ABSENT, GIVEN, ABSENT): Row(
        "all users of one account for all instruments",
        lambda o, _, a, __: o.account == a,
    ),
    (ABSENT, ABSENT, GIVEN): Row(
        "all accounts of all users for one instrument",
        lambda o, _, __, i: o.instrument == i,
    ),
    (ABSENT, ABSENT, ABSENT): Row(
        "all accounts of all users for all instruments",
        lambda *_: True,
    ),
}


def row_for(*, user: int | None, account: int | None, instrument: int | None) -> Row:
    """The row for these ids; None is absent."""
    return ROWS[(user is not None, account is not None, instrument is not None)]

"""Users of the simulated OMS and what they may do.

"User and account permissions govern cancellation actions." Several users may have access to one account.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

TRADING: Final = "Trading"
"""Orders and cancels on the accounts that the user is associated with."""
OPERATOR: Final = "Operator"
"""The venue's operator: any account, any user's order."""
READ_ONLY: Final = "AccountReadOnly"
"""Looking at associated accounts, nothing else."""
MARKET_MAKER: Final = "MarketMaker"
"""Quotes, on the accounts that the user is associated with."""
WHOLE_OMS: Final = "CancelEveryOrder"
"""The "special permission" that CancelAllOrders wants when neither UserId nor AccountId is given."""


@dataclass(slots=True, kw_only=True)
class User:
    """One user. `two_factor` is the code that a login by password asks for, "" for none; keys bypass it."""

    user_id: int
    name: str
    accounts: frozenset[int]
    permissions: frozenset[str]
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    api_secret: str = field(default="", repr=False)
    two_factor: str = field(default="", repr=False)
    failed_logins: int = 0
    locked: bool = False

    @property
    def operator(self) -> bool:
        return OPERATOR in self.permissions

    def may_trade(self, account: int) -> bool:
        return self.operator or (TRADING in self.permissions and account in self.accounts)

    def may_look(self, account: int) -> bool:
        return self.may_trade(account) or (READ_ONLY in self.permissions and account in self.accounts)

    def may_quote(self, account: int) -> bool:
        return self.operator or (MARKET_MAKER in self.permissions and account in self.accounts)

    def may_cancel_order(self, account: int, entered_by: int, *, association_is_enough: bool = False) -> bool:
        """Only a venue operator can cancel orders for another user or account ("CancelOrder").

        To newer servers being associated with the account is enough.
        """
        return self.operator or (self.may_trade(account) and (association_is_enough or entered_by == self.user_id))

    def may_cancel_all(self, *, user: int | None, account: int | None, whole_is_special: bool = True) -> bool:
        """Whether CancelAllOrders with these ids is allowed.

        Neither: the special permission, or with newer servers the operator's. An account: whoever trades on it,
        whichever of its users is named, since all users together are allowed there too. A user alone: that
        user, or the operator.
        """
        if account is not None:
            return self.may_trade(account)
        if user is not None:
            return self.operator or (TRADING in self.permissions and user == self.user_id)
        return WHOLE_OMS in self.permissions if whole_is_special else self.operator

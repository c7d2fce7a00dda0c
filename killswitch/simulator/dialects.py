"""How servers of different ages read the same request: v2, v3 and v4. Pure.

What a dialect doesn't know it ignores, without a word. That is what makes a body of one dialect dangerous on
another: where UserId is an unknown key, CancelAllOrders with an OMS and a user is one for the whole OMS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One age of the servers.

    `honours`: the keys of CancelAllOrders beside OMSId that are read. `version`: what GetOMSVersion says in
    `detail`, "" where the call doesn't exist. `any_case`: keys of requests may be spelt in any case.
    """

    name: str
    version: str
    honours: frozenset[str]
    any_case: bool
    whole_is_special: bool
    """Without account and user CancelAllOrders wants the special permission; else being an operator does."""
    three_keys: bool
    """CancelOrder wants AccountId and OrderId both, and knows no client order id."""
    association_is_enough: bool
    """CancelOrder takes another user's order on an account of one's own; else only the operator may."""
    lists_accounts: bool
    """GetAccounts exists."""
    hides_quotes: bool
    """GetOpenOrders leaves quotes and block trades out, and CancelAllOrders doesn't take them."""
    short_events: bool
    """OrderStateEvent has fourteen fields and doesn't say who entered the order."""
    camel_sign_in: bool
    """The answer to a sign-in is in camelCase and holds no SessionToken."""
    subscribed: str
    """The key that answers SubscribeAccountEvents."""
    names_accounts: bool
    """Order rows hold an AccountName."""
    no_price: str
    """How an order's row says that there is no such price."""


_V2: Final = Dialect(
    name="v2",
    version="",
    honours=frozenset({"AccountId", "UserId", "InstrumentId"}),
    any_case=False,
    whole_is_special=True,
    three_keys=False,
    association_is_enough=False,
    lists_accounts=False,
    hides_quotes=False,
    short_events=False,
    camel_sign_in=False,
    subscribed="Subscribe",
    names_accounts=False,
    no_price="9223372036.854775807",
)
_V3: Final = Dialect(
    name="v3",
    version="3.5.20.14",
    honours=frozenset({"AccountId"}),
    any_case=True,
    whole_is_special=False,
    three_keys=True,
    association_is_enough=True,
    lists_accounts=True,
    hides_quotes=False,
    short_events=True,
    camel_sign_in=True,
    subscribed="Subscribe",
    names_accounts=True,
    no_price="9223372036.854775807",
)
_V4: Final = Dialect(
    name="v4",
    version="4.3.65.1063",
    honours=frozenset({"AccountId", "InstrumentId"}),
    any_case=True,
    whole_is_special=False,
    three_keys=True,
    association_is_enough=True,
    lists_accounts=True,
    hides_quotes=True,
    short_events=False,
    camel_sign_in=False,
    subscribed="Subscribed",
    names_accounts=True,
    no_price="79228162514264337593543950335",
)
DIALECTS: Final[Mapping[str, Dialect]] = {dialect.name: dialect for dialect in (_V2, _V3, _V4)}


class AnyCase(dict[str, object]):
    """A request's body whose keys are found in any case."""

    def __init__(self, body: Mapping[str, object]) -> None:
        super().__init__({key.lower(): value for key, value in body.items()})

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(key.lower())


def camel(reply: Mapping[str, object]) -> dict[str, object]:
    """An answer with its keys in camelCase, as version 3.5 prints the one to a sign-in."""
    return {_lower_first(key): camel(v) if isinstance(v, dict) else v for key, v in reply.items()}


def _lower_first(key: str) -> str:
    return "omsId" if key == "OMSId" else key[:1].lower() + key[1:]

"""The links to the configured OMSs, and the clock that goes with them: what the daemon and the direct trip share.

Apart from the daemon, so that `trip --direct` waits for nothing that it doesn't use.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

from killswitch.adapters.oms import Credentials, KeyCredentials, OmsLink, PasswordCredentials
from killswitch.config.tables import KeySignIn
from killswitch.domain.messages import (
    Action,
    CancelAllOrders,
    CancelOrder,
    DropSession,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    SubscribePrice,
    Withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from killswitch.config.tables import Oms
    from killswitch.domain.messages import Event


def now() -> float:
    """Monotonic seconds that count suspended time too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def links_of(omses: Iterable[Oms], submit: Callable[[Event], None], wall: Callable[[], float]) -> dict[str, OmsLink]:
    """One link per OMS, by its name."""
    numbers = itertools.count(1)
    links = {}
    for oms in omses:
        gateway = oms.gateways[0]
        sign_in = oms.sign_in
        credentials: Credentials
        if isinstance(sign_in, KeySignIn):
            credentials = KeyCredentials(sign_in.user_id, sign_in.api_key, str(sign_in.secret))
        else:
            credentials = PasswordCredentials(sign_in.username, str(sign_in.password))
        links[oms.name] = OmsLink(
            oms=oms.name,
            oms_id=oms.oms_id,
            url=gateway.url,
            gateway=gateway.address,
            credentials=credentials,
            accounts=oms.accounts,
            submit=submit,
            wall=wall,
            new_session=lambda: next(numbers),
        )
    return links


def oms_owner(links: Mapping[str, OmsLink]) -> Callable[[Action], None]:
    """Hands an OMS's actions to its link."""

    def own(action: Action) -> None:
        match action:
            case CancelAllOrders():
                links[action.scope.oms].do(action)
            case CancelOrder() | Withdraw() | DropSession():
                links[action.oms].do(action)
            case ListOpenOrders() | ListUserAccounts() | ListPositions() | ListInstruments() | SubscribePrice():
                links[action.oms].do(action)
            case _:
                raise TypeError(f"no OMS carries out {type(action).__name__}")

    return own


OMS_ACTIONS: Final = (
    CancelAllOrders,
    CancelOrder,
    ListOpenOrders,
    ListUserAccounts,
    ListPositions,
    ListInstruments,
    SubscribePrice,
    Withdraw,
    DropSession,
)

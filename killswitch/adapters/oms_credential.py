"""The two questions about our credential as requests of the gateway's, and what it says to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.domain.messages import Answer, ListPermissions, ListSecondFactorCalls, NamesTold
from killswitch.wire.alphapoint_credential import (
    Unknown,
    get_second_factor_calls,
    get_user_permissions,
    read_permissions,
    read_second_factor_calls,
)
from killswitch.wire.alphapoint_replies import no_list

if TYPE_CHECKING:
    from killswitch.wire.alphapoint import Request
    from killswitch.wire.frame import Frame


def question(call: ListPermissions | ListSecondFactorCalls) -> Request:
    """Raises ValueError for a user that is no id."""
    return get_user_permissions(call.user) if isinstance(call, ListPermissions) else get_second_factor_calls()


def names_told(
    call: ListPermissions | ListSecondFactorCalls, frame: Frame, session: int, wall: float
) -> NamesTold | Answer:
    """The names; the generic answer where there are none to be read, which never means that there are none."""
    found = read_permissions(frame) if isinstance(call, ListPermissions) else read_second_factor_calls(frame)
    if isinstance(found, Unknown):
        return replace(no_list(frame), text=found.why)
    return NamesTold(wall=wall, call=call.call, session=session, names=found)

"""All accounts of an OMS, page by page: GetAccounts, which servers from version 3 on have, for operators.

No document prints its rows; account infos, whose shape is known, hold an AccountId.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from killswitch.wire.alphapoint import ID_MAX, Request
from killswitch.wire.alphapoint_fields import Fields, as_id, load
from killswitch.wire.alphapoint_replies import no_list
from killswitch.wire.frame import Frame, FrameType, ProtocolError

if TYPE_CHECKING:
    from killswitch.domain.messages import Answer


@dataclass(frozen=True, slots=True)
class Page:
    """The accounts of one answer, each once, in its order. `rows`: how many it has, those that can't be read too."""

    accounts: tuple[int, ...]
    rows: int
    unreadable: int


def get_accounts(oms_id: int, start: int, limit: int) -> Request:
    """Answered by at most `limit` accounts, from place `start` on, counted from 0. Raises ValueError."""
    if isinstance(oms_id, bool) or not 0 < oms_id <= ID_MAX or start < 0 or limit < 1:
        raise ValueError("OMSId must be an id above 0, StartIndex 0 or more and Limit 1 or more")
    return Request("GetAccounts", msgspec.json.encode({"OMSId": oms_id, "StartIndex": start, "Limit": limit}).decode())


def read_accounts(frame: Frame) -> Page | Answer:
    """GetAccounts: rows with an AccountId, or bare ids."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return no_list(frame)
    if frame.m != FrameType.REPLY or not isinstance(body, list):
        return no_list(frame)
    found = [account for account in map(_account, body) if account is not None]
    return Page(tuple(dict.fromkeys(found)), len(body), len(body) - len(found))


def _account(row: Any) -> int | None:
    return as_id(Fields(row).get("accountid") if isinstance(row, dict) else row)

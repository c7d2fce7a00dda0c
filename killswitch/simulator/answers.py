"""The generic object that answers most calls, and the error codes in it.

Codes and texts as in the vendor's "Order-handling calls"; 106 and 107 come from later tables and are there
for faults only. 909 answers the second of two equal subscriptions and stands in no table.
"""

from __future__ import annotations

import json
from typing import Final

TEXTS: Final = {
    20: "Not Authorized",
    100: "Invalid Request",
    101: "Operation Failed",
    102: "Server Error",
    104: "Resource Not Found",
    106: "Operation Not Supported",
    107: "Operation In Process",
    909: "Already Subscribed.",
}

RECEIVED: Final = '{"result":true,"errormsg":"","errorcode":0,"detail":""}'
"""The call was received. It doesn't say that anything was cancelled ("Response", CancelAllOrders)."""


class Refused(Exception):  # noqa: N818 - it is an answer, not an error
    """A request that is answered with an error code; nothing was done."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"{code} {detail}".rstrip())
        self.code = code
        self.detail = detail


def refusal(code: int, detail: str = "") -> str:
    """The generic object with `result` false, as JSON text."""
    return json.dumps(
        {
            "result": False,
            "errormsg": TEXTS.get(code, "Unknown Error"),
            "errorcode": code,
            "detail": detail or None,
        }
    )


def both_sides(bid: str, ask: str) -> str:
    """The answer to a call about a quote: a generic object for each side."""
    return f'{{"BidResult":{bid},"AskResult":{ask}}}'


def wants_code() -> str:
    """The answer to a call that the venue wants a second factor for, and that came without."""
    text = "This endpoint requires 2FACode along with the payload"
    return json.dumps({"result": False, "errormsg": text, "errorcode": 100, "detail": None})

"""The AlphaPoint gateway, in its dialects: requests, and which reply belongs to which of them.

The authority for the two cancels is the vendor's page "Order-handling calls"; the rest follows the
vendor's API 2.23 document. What replies and events mean is read in the rooms alphapoint_replies,
alphapoint_market and alphapoint_events. No I/O and no clock.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

import msgspec

from killswitch.domain.dialects import Dialect, can_say
from killswitch.domain.scope import EVERY
from killswitch.wire.frame import Frame, FrameType, decode_frame, encode_frame

if TYPE_CHECKING:
    from killswitch.domain.scope import Scope

ID_MAX: Final = 2**63 - 1
Tag = TypeVar("Tag")


# --- requests ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A call by its name and its JSON. The payload stays out of the repr: a sign-in's holds secrets."""

    name: str
    payload: str = field(repr=False)


def _request(name: str, body: dict[str, int | str]) -> Request:
    return Request(name, msgspec.json.encode(body).decode())


def _id(part: str, value: object) -> int:
    """An id that may go on the wire. 0 is a wildcard to newer servers, so it never leaves here."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= ID_MAX:
        raise ValueError(f"{part} must be an id above 0")
    return value


def sign_in_with_key(api_key: str, secret: str, user_id: str, nonce: str) -> Request:
    """AuthenticateUser with an API key: it needs no second factor.

    The signature is the lower-case hex of HMAC-SHA256 keyed with the secret, over nonce, user id and key
    without separators. UserId and Nonce are strings since 3.3; the clients that are in use send strings.
    """
    text = f"{nonce}{user_id}{api_key}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return _request(
        "AuthenticateUser",
        {"APIKey": api_key, "Signature": signature, "UserId": user_id, "Nonce": nonce},
    )


def sign_in_with_password(username: str, password: str) -> Request:
    """AuthenticateUser with a user name; it may be answered by a demand for a second factor."""
    return _request("AuthenticateUser", {"UserName": username, "Password": password})


def ping() -> Request:
    """Answered {"msg":"PONG"}."""
    return Request("Ping", "{}")


def cancel_all_orders(oms_id: int, scope: Scope, *, dialect: Dialect = Dialect.V2) -> Request:
    """One row of the CancelAllOrders table. Raises ValueError for one that this dialect would read as a wider one.

    An X in the table is a key in the body, and a part that is EVERY is no key at all: never 0 and never
    null, which newer servers read as "all of them" whatever else the body says.
    """
    if not can_say(dialect, scope, whole_oms=True):
        raise ValueError(f"{dialect.value} would cancel more than {scope.in_words()}")
    body: dict[str, int | str] = {"OMSId": _id("OMSId", oms_id)}
    for key, part in (
        ("AccountId", scope.account),
        ("UserId", scope.user),
        ("InstrumentId", scope.instrument),
    ):
        if part is not EVERY:
            body[key] = _id(key, part)
    return _request("CancelAllOrders", body)


def cancel_order(
    oms_id: int,
    account: int | None,
    order_id: int | None,
    client_order_id: int | None,
    *,
    dialect: Dialect = Dialect.V2,
    fully: bool = False,
) -> Request:
    """CancelOrder in the form that says it all: by order id, "unique across an OMS", where it is known.

    To v3 and v4 always with the account and the order id, which they both want; to v2 else by account and client
    order id. `fully`: to v2 with all that is known, too.

    Raises ValueError for anything less: "The OMS is unable to identify the order using only the OMS ID
    and the Client Order ID" (CancelOrder, Request).
    """
    body: dict[str, int | str] = {"OMSId": _id("OMSId", oms_id)}
    if dialect is not Dialect.V2:
        if order_id is None or account is None:
            raise ValueError("this dialect names an order by its OrderId and its AccountId together")
        body |= {"OrderId": _id("OrderId", order_id), "AccountId": _id("AccountId", account)}
    elif order_id is not None:
        body["OrderId"] = _id("OrderId", order_id)
        if fully and account is not None:
            body["AccountId"] = _id("AccountId", account)
            if client_order_id is not None:
                body["ClientOrderId"] = _id("ClientOrderId", client_order_id)
    elif client_order_id is not None and account is not None:
        body["AccountId"] = _id("AccountId", account)
        body["ClientOrderId"] = _id("ClientOrderId", client_order_id)
    else:
        raise ValueError("an order is named by its OrderId, or by AccountId and ClientOrderId together")
    return _request("CancelOrder", body)


def get_open_orders(oms_id: int, account: int) -> Request:
    """Answered by an array of orders; of one account only, there is no wider form."""
    return _request("GetOpenOrders", {"OMSId": _id("OMSId", oms_id), "AccountId": _id("AccountId", account)})


def get_order_status(oms_id: int, account: int, order_id: int) -> Request:
    """Answered by one order, or 104 when it isn't known."""
    return _request(
        "GetOrderStatus",
        {
            "OMSId": _id("OMSId", oms_id),
            "AccountId": _id("AccountId", account),
            "OrderId": _id("OrderId", order_id),
        },
    )


def get_user_accounts(oms_id: int, user: int) -> Request:
    """Answered by an array of account ids."""
    return _request("GetUserAccounts", {"OMSId": _id("OMSId", oms_id), "UserId": _id("UserId", user)})


def get_account_positions(oms_id: int, account: int) -> Request:
    """Answered by an array of positions, one row a product."""
    return _request("GetAccountPositions", {"OMSId": _id("OMSId", oms_id), "AccountId": _id("AccountId", account)})


def get_instruments(oms_id: int, *, inactive: bool = False, dialect: Dialect = Dialect.V2) -> Request:
    """Answered by an array of instruments. v4 tells only the active ones, unless it is asked for both."""
    body: dict[str, int | str] = {"OMSId": _id("OMSId", oms_id)}
    if inactive and dialect is Dialect.V4:
        body["InstrumentState"] = "both"
    return _request("GetInstruments", body)


def subscribe_level1(oms_id: int, instrument: int) -> Request:
    """Best prices of one instrument, until the session ends. Answered by the prices as they are now."""
    return _request("SubscribeLevel1", {"OMSId": _id("OMSId", oms_id), "InstrumentId": _id("InstrumentId", instrument)})


def subscribe_account_events(oms_id: int, account: int) -> Request:
    """One account a call, no snapshot. Answered {"Subscribe": true}, by newer ones {"Subscribed": true}."""
    return _request("SubscribeAccountEvents", {"OMSId": _id("OMSId", oms_id), "AccountId": _id("AccountId", account)})


# --- correlation -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply(Generic[Tag]):
    """The answer to the request that was asked with `tag`."""

    tag: Tag
    frame: Frame = field(repr=False)


@dataclass(frozen=True, slots=True)
class EventFrame:
    """Something the server tells by itself."""

    frame: Frame = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame that answers nothing that was asked: late, unknown or of a type only clients send."""

    why: str


Heard: TypeAlias = Reply[Tag] | EventFrame | Ignored


class Conversation(Generic[Tag]):
    """The requests of one session that have no answer yet.

    Numbers are even, from 2 on, as the vendor advises. An event's number is the server's own counter and
    runs through the same even numbers, so a number alone says nothing: an answer is m 1 or 5, and the same
    i, and the same n.
    """

    def __init__(self) -> None:
        self._next = 2
        self._asked: dict[int, tuple[str, Tag]] = {}

    def ask(self, request: Request, tag: Tag) -> bytes:
        """The bytes of this request's frame; from here on it is unanswered."""
        number = self._next
        self._next += 2
        self._asked[number] = (request.name, tag)
        return encode_frame(FrameType.REQUEST, number, request.name, request.payload)

    def hear(self, data: bytes) -> Heard[Tag]:
        """What a frame is to us. Raises ProtocolError for what is no frame; nothing changes then."""
        frame = decode_frame(data)
        match FrameType(frame.m):
            case FrameType.EVENT:
                return EventFrame(frame)
            case FrameType.REPLY | FrameType.ERROR:
                asked = self._asked.get(frame.i)
                if asked is None:
                    return Ignored("an answer to nothing that waits for one")
                name, tag = asked
                if name != frame.n:
                    return Ignored("an answer with another call's name")
                del self._asked[frame.i]
                return Reply(tag, frame)
            case FrameType.REQUEST | FrameType.SUBSCRIBE | FrameType.UNSUBSCRIBE:
                return Ignored("a frame that only clients send")

    def pending(self) -> tuple[Tag, ...]:
        """The tags of all that is unanswered, in the order of asking."""
        return tuple(tag for _, tag in self._asked.values())

"""What a reply of the AlphaPoint gateway says, however it is spelt.

Every reader takes a frame and gives a value; what can't be read is told as such (an UNCLEAR answer, a row
counted as unreadable, None in a field) and never taken for good news.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from killswitch.domain.messages import Answer, AnswerKind, Order, PositionRow
from killswitch.wire.alphapoint_fields import (
    ID_MAX,
    Fields,
    as_bool,
    as_decimal,
    as_id,
    as_int,
    as_positive,
    as_quantity,
    as_text,
    exactly,
    load,
)
from killswitch.wire.frame import Frame, FrameType, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

Row = TypeVar("Row")

DOCUMENTED: Final = {
    # CancelAllOrders, Response: 20, 100, 101, 102, 104; the 3.3 tables add 106, the v4 ones 107.
    20: ("not authorized", AnswerKind.REFUSED),
    100: ("invalid request", AnswerKind.REFUSED),
    101: ("operation failed", AnswerKind.UNCLEAR),
    102: ("server error", AnswerKind.UNCLEAR),
    104: ("resource not found", AnswerKind.ABSENT),
    106: ("operation not supported", AnswerKind.REFUSED),
    107: ("operation in process", AnswerKind.UNCLEAR),
}
TOO_MANY_CODE: Final = 429
"""In no table of the vendor's; what HTTP calls it."""
_LIMITED: Final = re.compile(r"too[ _-]?many[ _-]?(requests|calls)|rate[ _-]?limit|throttl", re.IGNORECASE)
_CODE_OF_TEXT: Final = {text: code for code, (text, _) in DOCUMENTED.items()}

ENDED: Final = {2: "Rejected", 3: "Canceled", 4: "Expired", 5: "FullyExecuted"}
"""OrderState: 0 Unknown and 1 Working are the others. The documents also write "Fully Executed"."""
_ENDED_BY_NAME: Final = {name.lower(): name for name in ENDED.values()}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The session may call. `user`: whom the server takes us for, where it says so."""

    user: int | None


@dataclass(frozen=True, slots=True)
class NotSignedIn:
    """The server said no. `passing`: it speaks of itself (102, 107), not of our credentials."""

    why: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """An array as it was read; `unreadable` rows couldn't be told apart."""

    rows: tuple[Row, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """GetOrderStatus: the order, and its terminal state; "" while it works or its state can't be read."""

    order: Order
    ended: str


# --- the generic answer ------------------------------------------------------------------------------------


def read_answer(frame: Frame) -> Answer:
    """The generic answer: result, errormsg, errorcode, detail. Never raises.

    RECEIVED only where result is true and no error stands beside it. A frame of type 5 carries bare text on
    some errors, and is never a success.
    """
    try:
        body = load(frame.o)
    except ProtocolError:
        return _without_code(frame.o)
    if isinstance(body, str):
        return _without_code(body)
    if not isinstance(body, dict):
        return Answer(AnswerKind.UNCLEAR, "other", text="no generic answer")
    return _generic(Fields(body), frame.m)


def answer_within(body: object, frame: Frame) -> Answer:
    """A generic answer that stands within another one; some versions print it there as text of its own."""
    if isinstance(body, str):
        try:
            body = load(body)
        except ProtocolError:
            return _without_code(str(body))
    if not isinstance(body, dict):
        return Answer(AnswerKind.UNCLEAR, "other", text="no generic answer")
    return _generic(Fields(body), frame.m)


def _without_code(text: str) -> Answer:
    line = as_text(text)
    if _too_many(text):
        return Answer(AnswerKind.UNCLEAR, "other", text=line, limited=True)
    kind = AnswerKind.REFUSED if _wants_second_factor(text) else AnswerKind.UNCLEAR
    return Answer(kind, "other", text=line)


def _wants_second_factor(text: str) -> bool:
    # "This endpoint requires 2FACode along with the payload": an operator can demand it per call.
    return "2fa" in text[:10_000].lower()


def _too_many(text: str) -> bool:
    """The limit of calls was met. Over HTTP it is bare text; over WebSocket no document says what it looks like."""
    return _LIMITED.search(text[:10_000]) is not None


def _generic(fields: Fields, kind_of_frame: int) -> Answer:
    message, detail = as_text(fields.get("errormsg")), as_text(fields.get("detail"))
    text = " ".join(t for t in (message, detail) if t)
    result = as_bool(fields.get("result"))
    raw_code = fields.get("errorcode")
    code = 0 if raw_code is None else as_int(raw_code)
    if code == 0:
        # Some answers carry the documented text without its number.
        code = _CODE_OF_TEXT.get(message.lower().rstrip("."), 0)
    label = str(code) if code in DOCUMENTED else "other"
    if code == TOO_MANY_CODE or (not result and _too_many(text)):
        return Answer(AnswerKind.UNCLEAR, "other", code or 0, text, limited=True)
    if as_bool(fields.get("requires2fa")) or _wants_second_factor(text):
        return Answer(AnswerKind.REFUSED, label, code or 0, text or "a second factor is demanded")
    if code is not None and code in DOCUMENTED:
        return Answer(DOCUMENTED[code][1], label, code, text)
    if result and code == 0 and kind_of_frame == FrameType.REPLY:
        return Answer(AnswerKind.RECEIVED, "ok", 0, text)
    return Answer(AnswerKind.UNCLEAR, "other", code or 0, text)


def no_list(frame: Frame) -> Answer:
    """The answer to a list that came without an array: even a `result: true` shows nothing."""
    answer = read_answer(frame)
    if answer.kind is AnswerKind.RECEIVED:
        return Answer(AnswerKind.UNCLEAR, "other", 0, "no array")
    return answer


# --- signing in --------------------------------------------------------------------------------------------


def read_sign_in(frame: Frame) -> SignedIn | NotSignedIn:
    """The answer to AuthenticateUser. Never raises: what can't be read is a refusal too, so that an
    unknown way of saying no can't make a loop lock the user.

    With a second factor pending the answer already says Authenticated, without a session that could call.
    """
    answer = read_answer(frame)
    try:
        body = load(frame.o)
    except ProtocolError:
        body = None
    if not isinstance(body, dict):
        return NotSignedIn(answer.text or "the answer to the sign-in can't be read")
    fields = Fields(body)
    user = fields.get("user")
    inner = Fields(user if isinstance(user, dict) else {})
    said = as_text(fields.get("errormsg"))
    if _flagged(fields.get("locked")):
        return NotSignedIn(f"the user is locked; only an administrator can unlock it. {said}".strip())
    if _flagged(fields.get("requires2fa")):
        return NotSignedIn("a second factor is demanded; an API key needs none")
    has_session = bool(as_text(fields.get("sessiontoken"))) or isinstance(user, dict)
    if frame.m == FrameType.REPLY and as_bool(fields.get("authenticated")) and has_session:
        return SignedIn(as_id(inner.get("userid")) or as_id(fields.get("userid")))
    return NotSignedIn(answer.text or "not authenticated", passing=answer.code in {102, 107})


def _flagged(value: object) -> bool:
    """Set, or so odd that it can't be called unset."""
    if value is None or value == "":
        return False
    number = as_int(value)
    return as_bool(value) is not False and number != 0


def read_subscribed(frame: Frame) -> Answer:
    """The answer to SubscribeAccountEvents: {"Subscribe": true} or, newer, {"Subscribed": true}."""
    try:
        body = load(frame.o)
    except ProtocolError:
        body = None
    if isinstance(body, dict) and frame.m == FrameType.REPLY:
        said = as_bool(Fields(body).get("subscribed", "subscribe"))
        if said is not None:
            kind, label = (AnswerKind.RECEIVED, "ok") if said else (AnswerKind.REFUSED, "other")
            return Answer(kind, label)
    answer = read_answer(frame)
    if answer.kind is AnswerKind.RECEIVED:
        return Answer(AnswerKind.UNCLEAR, "other", 0, "an answer that doesn't say whether it is subscribed")
    return answer


# --- orders ------------------------------------------------------------------------------------------------


NUMBER_MAX: Final = 512
"""Bytes of a number: more than the digits that any of ours may have."""


class _FullRow(msgspec.Struct, gc=False):
    """The fields of an order that count, as most servers spell them.

    All are required: a row that lacks one sends the whole reply down the tolerant way, which knows other
    spellings.
    """

    OrderId: int
    Account: int
    Instrument: int
    EnteredBy: int
    ClientOrderId: int
    OrderState: str
    Quantity: msgspec.Raw  # typed they would take what our own readers don't: "1_000", "NaN"
    Price: msgspec.Raw


# A list of 20,000 orders is 22 MB: typed decoding of eight fields takes a fraction of what a dict a row does.
_full_rows = msgspec.json.Decoder(list[_FullRow])
_number = msgspec.json.Decoder(float_hook=exactly)


# The orders of a long list have few quantities and prices between them, and an exact number is slow to read.
@lru_cache(maxsize=65_536)
def _quantity(text: bytes) -> Decimal | None:
    return as_quantity(_value(text))


@lru_cache(maxsize=65_536)
def _price(text: bytes) -> Decimal | None:
    return as_positive(_value(text))


def _value(text: bytes) -> object:
    """What stands where a number belongs; None for what is too long to be one, so that no memory is spent on it."""
    if len(text) > NUMBER_MAX:
        return None
    try:
        return _number.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


def read_open_orders(frame: Frame, account: int) -> Rows[Order] | Answer:
    """GetOpenOrders of `account`: the orders that may still work.

    A row that says readably that its order has ended is skipped; one without a state counts as working,
    one without an account rests on the account that was asked for. No array: the generic answer.
    """
    if frame.m != FrameType.REPLY:
        return no_list(frame)
    try:
        full = _full_rows.decode(frame.o)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return read_rows(frame, lambda fields: _listed(fields, account))
    return Rows(
        tuple(
            Order(
                account=row.Account if 0 < row.Account <= ID_MAX else account,
                order_id=row.OrderId if 0 < row.OrderId <= ID_MAX else None,
                instrument=row.Instrument if 0 < row.Instrument <= ID_MAX else None,
                # 0 means that nobody knows who entered it; seen on live orders.
                entered_by=row.EnteredBy if 0 < row.EnteredBy <= ID_MAX else None,
                client_order_id=row.ClientOrderId if 0 < row.ClientOrderId <= ID_MAX else None,
                quantity=_quantity(bytes(row.Quantity)[: NUMBER_MAX + 1]),
                price=_price(bytes(row.Price)[: NUMBER_MAX + 1]),
            )
            for row in full
            if row.OrderState == "Working" or not read_ended(row.OrderState)
        )
    )


def read_order_status(frame: Frame, account: int) -> OrderStatus | Answer:
    """GetOrderStatus: one order; some versions print it in an array of one."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return no_list(frame)
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if frame.m != FrameType.REPLY or not isinstance(body, dict):
        return no_list(frame)
    fields = Fields(body)
    order = read_order(fields, account)
    if order is None or order.order_id is None:
        return no_list(frame)
    return OrderStatus(order, read_ended(fields.get("orderstate")))


def read_ended(value: object) -> str:
    """The terminal state, as the vendor names it; "" for Working, Unknown and anything unreadable."""
    number = as_int(value)
    if number is not None:
        return ENDED.get(number, "")
    if isinstance(value, str):
        return _ENDED_BY_NAME.get(value.lower().replace(" ", ""), "")
    return ""


def read_order(fields: Fields, account: int | None) -> Order | None:
    """An order; `account` where the row names none. None where no id at all can be read.

    Orders say Account and Instrument; the events about refusals say AccountId and InstrumentId.
    """
    found = as_id(fields.get("account", "accountid"))
    order_id = as_id(fields.get("orderid"))
    instrument = as_id(fields.get("instrument", "instrumentid"))
    entered_by = as_id(fields.get("enteredby"))
    client_order_id = as_id(fields.get("clientorderid", "clordid", "clorderid"))
    nothing = (found, order_id, instrument, entered_by, client_order_id) == (None,) * 5
    where = found if found is not None else account
    if nothing or where is None:
        return None
    quantity, price = as_quantity(fields.get("quantity")), as_positive(fields.get("price"))
    return Order(where, order_id, instrument, entered_by, client_order_id, quantity, price)


def _listed(fields: Fields, account: int) -> Order | bool:
    """An order; True for one that has ended; False for a row that can't be read."""
    if read_ended(fields.get("orderstate")):
        return True
    order = read_order(fields, account)
    return False if order is None else order


# --- other lists -------------------------------------------------------------------------------------------


def read_user_accounts(frame: Frame) -> tuple[int, ...] | Answer:
    """GetUserAccounts: account ids. One that can't be read spoils the list: it must not look complete."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return no_list(frame)
    if frame.m != FrameType.REPLY or not isinstance(body, list):
        return no_list(frame)
    found = [account for account in map(as_id, body) if account is not None]
    if len(found) != len(body):
        return Answer(AnswerKind.UNCLEAR, "other", 0, "an account id that can't be read")
    return tuple(dict.fromkeys(found))


def read_positions(frame: Frame, account: int) -> Rows[PositionRow] | Answer:
    """GetAccountPositions of `account`: one row a product, amounts exact."""
    return read_rows(frame, lambda fields: read_position(fields, account) or False)


def read_position(fields: Fields, account: int | None) -> PositionRow | None:
    """A position; `account` where the row names none. None unless product, amount and hold can be read."""
    named = fields.get("accountid", "account")
    where = account if named is None else as_id(named)
    product = as_text(fields.get("productsymbol"))
    amount, hold = as_decimal(fields.get("amount")), as_decimal(fields.get("hold"))
    if where is None or not product or amount is None or hold is None:
        return None
    return PositionRow(where, product, amount, hold)


def read_rows(frame: Frame, read: Callable[[Fields], Row | bool]) -> Rows[Row] | Answer:
    """`read` gives a row, True for one to skip, False for one that can't be read."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return no_list(frame)
    if frame.m != FrameType.REPLY or not isinstance(body, list):
        return no_list(frame)
    rows: list[Row] = []
    unreadable = 0
    item: Any
    for item in body:
        found = read(Fields(item)) if isinstance(item, dict) else False
        if found is False:
            unreadable += 1
        elif found is not True:
            rows.append(found)
    return Rows(tuple(rows), unreadable)

"""The simulated OMS over HTTP, without its socket: a request in, what to do about it out. Pure.

`/AP/<Function>` by GET with a query or by POST with a JSON object, over the same exchange as the WebSocket face.
Signing in is by headers, and every call after it names its session by the header APToken. An unknown path and a
private call without a session are answered alike, 404 with the bare text NOT FOUND; business errors are a 200.
Nothing is told over HTTP by itself: subscriptions are the WebSocket's.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.simulator.answers import RECEIVED, Refused, refusal
from killswitch.simulator.calls import LISTS, answer, check_oms, read_body, spelt
from killswitch.simulator.dialects import camel
from killswitch.simulator.faults import (
    CloseOn,
    Deaf,
    Error,
    HttpLag,
    HttpTokenGone,
    HttpTooMany,
    NoAnswer,
    SlowLists,
    UnknownCall,
)
from killswitch.simulator.market import instrument_rows
from killswitch.simulator.orders import OrderState
from killswitch.simulator.session import for_the_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.sign_in import Admission, Door
    from killswitch.simulator.users import User

PATH: Final = "/AP/"
NOT_FOUND: Final = "NOT FOUND"
TOO_MANY: Final = "TOO MANY REQUESTS"
TOKEN_LASTS_S: Final = 3600.0
"""After the last call with it."""
NO_SESSION: Final = 0
"""Stands in the log where a WebSocket session's number would."""
_SIGN_INS: Final = frozenset({"Authenticate", "AuthenticateUser"})
_SIGNED_BY: Final = ("APIKey", "Signature", "UserId", "Nonce")
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request. The names in `headers` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """An answer after `delay_s`; `silent`: none ever; `cut`: the connection is dropped instead."""

    text: str = ""
    status: int = 200
    delay_s: float = 0.0
    silent: bool = False
    cut: bool = False


_NOT_FOUND: Final = Reaction(text=NOT_FOUND, status=404)


class HttpCalls:
    """Who is signed in over HTTP, and what each call answers."""

    def __init__(self, exchange: Exchange, door: Door) -> None:
        self._exchange = exchange
        self._door = door
        self._tokens: dict[str, tuple[User, float]] = {}
        self._pending: dict[str, User] = {}

    @property
    def sessions(self) -> int:
        """Tokens that hold."""
        return len(self._tokens)

    def forget(self) -> None:
        """Every token is gone, as after a restart of the server."""
        self._tokens.clear()
        self._pending.clear()

    def receive(self, asked: Asked, now: float) -> Reaction:
        """Carry out one request."""
        name = asked.path.removeprefix(PATH)
        if not asked.path.startswith(PATH) or not name or asked.method not in ("GET", "POST"):
            return _NOT_FOUND
        text = asked.body if asked.method == "POST" else _as_body(asked.query)
        faults = self._exchange.faults
        user = self._user(asked, now)
        known = None if user is None else user.user_id
        self._exchange.log.note(now, NO_SESSION, known, name, for_the_log(text or "{}"))
        if faults.take(Deaf, over="http"):
            return Reaction(silent=True)
        closing, mute = faults.take(CloseOn, name, over="http"), faults.take(NoAnswer, name, over="http")
        if closing is not None and not closing.executed:
            return Reaction(cut=True)
        if closing is None and mute is not None and not mute.executed:
            return Reaction(silent=True)
        reaction = self._carry_out(name, text or "{}", asked, user, now)
        if closing is not None:
            return Reaction(cut=True)
        if mute is not None:
            return Reaction(silent=True)
        slow = faults.take(SlowLists, over="http") if name in LISTS else None
        return replace(reaction, delay_s=faults.latency_s(over="http") + (slow.delay_s if slow else 0.0))

    # --- sessions ------------------------------------------------------------------------------------------

    def _user(self, asked: Asked, now: float) -> User | None:
        """Whose session the request names; each call with a token makes it last on."""
        token = asked.headers.get("aptoken", "")
        held = self._tokens.get(token)
        if held is None:
            return None
        if now - held[1] > TOKEN_LASTS_S or self._exchange.faults.take(HttpTokenGone, over="http"):
            del self._tokens[token]
            return None
        self._tokens[token] = (held[0], now)
        return held[0]

    def _sign_in(self, asked: Asked, now: float) -> str:
        return self._admitted(self._door.authenticate(_credentials(asked.headers)), now)

    def _second_factor(self, asked: Asked, text: str, now: float) -> str:
        pending = self._pending.pop(asked.headers.get("pending2fatoken", ""), None)
        return self._admitted(self._door.second_factor(pending, read_body(text)), now)

    def _admitted(self, admission: Admission, now: float) -> str:
        reply = json.loads(admission.reply)
        if admission.user is not None:
            self._tokens = {t: held for t, held in self._tokens.items() if now - held[1] <= TOKEN_LASTS_S}
            self._tokens[reply["SessionToken"]] = (admission.user, now)
        if admission.pending is not None:
            self._pending[reply["TwoFAToken"]] = admission.pending
        return json.dumps(camel(reply)) if self._exchange.dialect.camel_sign_in else admission.reply

    # --- calls ---------------------------------------------------------------------------------------------

    def _carry_out(self, name: str, text: str, asked: Asked, user: User | None, now: float) -> Reaction:
        faults = self._exchange.faults
        many = faults.take(HttpTooMany, name, over="http")
        if many is not None:
            return Reaction(text=TOO_MANY, status=many.status)
        if faults.take(UnknownCall, name):
            return _NOT_FOUND
        try:
            public = self._public(name, text, asked, now)
        except Refused as error:
            return Reaction(text=refusal(error.code, error.detail))
        if public is not None:
            return Reaction(text=public)
        if user is None:
            return _NOT_FOUND
        if name == "LogOut":
            self._tokens.pop(asked.headers.get("aptoken", ""), None)
            return Reaction(text=RECEIVED)
        payload = answer(self._exchange, user, name, text, now)
        if payload is None:
            return _NOT_FOUND
        lag = faults.take(HttpLag, over="http") if name == "GetOpenOrders" and payload.startswith("[") else None
        return Reaction(text=payload if lag is None else self._as_it_was(text, now - lag.delay_s))

    def _public(self, name: str, text: str, asked: Asked, now: float) -> str | None:
        """The answer to a call that needs no session, None where it is none of them."""
        exchange = self._exchange
        known = name in {*_SIGN_INS, "Authenticate2FA", "GetInstruments", "Ping"}
        if not known and (name != "GetOMSVersion" or not exchange.version):
            return answer(exchange, None, name, text, now) if name == "GetValidate2FARequiredEndpoints" else None
        fault = exchange.faults.take(Error, name)
        if fault is not None and not fault.executed:
            return refusal(fault.code)
        if name in _SIGN_INS:
            reply = self._sign_in(asked, now)
        elif name == "Authenticate2FA":
            reply = self._second_factor(asked, text, now)
        elif name == "GetInstruments":
            check_oms(exchange, spelt(exchange, read_body(text)))
            reply = instrument_rows(exchange.oms_id, exchange.instruments, short=exchange.short_rows)
        elif name == "Ping":
            reply = '{"msg":"PONG"}'
        else:
            reply = json.dumps({"result": True, "errormsg": None, "errorcode": 0, "detail": exchange.version})
        return reply if fault is None else refusal(fault.code)

    def _as_it_was(self, text: str, then: float) -> str:
        """The account's open orders as a replica shows them that stands at `then`."""
        account = spelt(self._exchange, read_body(text)).get("AccountId")
        then_ms = self._exchange.wall_at_zero_ms + then * 1000
        rows = []
        for order in self._exchange.orders.values():
            worked = order.received_ms <= then_ms and (order.open or order.updated_ms > then_ms)
            if order.account != account or not worked:
                continue
            left = order.quantity - order.executed
            shown = order if order.open else replace(order, state=OrderState.Working, remaining=left, row="")
            rows.append(shown.short() if self._exchange.short_rows else shown.full())
        return f"[{','.join(rows)}]"


def _as_body(query: Mapping[str, str]) -> str:
    """A query as the object that it stands for: whole numbers are numbers."""
    return json.dumps({key: int(value) if _WHOLE.fullmatch(value) else value for key, value in query.items()})


def _credentials(headers: Mapping[str, str]) -> Mapping[str, object]:
    """The sign-in's headers as the object that the door reads: the four of an API key, or Basic."""
    if "apikey" in headers:
        return {key: headers[key.lower()] for key in _SIGNED_BY if key.lower() in headers}
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return {}
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeError):
        return {}
    return {"UserName": name, "Password": password}

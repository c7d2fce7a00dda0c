"""One connection without its socket: a frame in, what to do about it out. Pure."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.simulator.answers import RECEIVED, Refused, refusal
from killswitch.simulator.calls import LISTS, answer, check_oms, needed, read_body, spelt
from killswitch.simulator.dialects import camel
from killswitch.simulator.faults import CloseOn, Deaf, Error, NoAnswer, OwnNumbers, SlowLists, UnknownCall
from killswitch.simulator.market import instrument_rows
from killswitch.simulator.sign_in import SECRET_KEYS
from killswitch.simulator.users import OPERATOR, TRADING
from killswitch.wire.frame import FrameType, ProtocolError, decode_frame, encode_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.simulator.events import Event
    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.faults import RateLimit
    from killswitch.simulator.sign_in import Admission, Door
    from killswitch.simulator.users import User

UNKNOWN_FUNCTION: Final = "Endpoint Not Found"
"""Bare text, not JSON, in a frame of type 5."""
PUBLIC: Final = frozenset({"AuthenticateUser", "Authenticate2FA", "Ping", "GetOMSVersion", "GetInstruments"})
"""Calls that want no session, nor keep one alive."""
TOO_MANY: Final = "TOO MANY REQUESTS"
"""Bare text as well; seen over HTTP."""
_LOGGED_TEXT: Final = 1_000
"""Characters kept of a payload that is no object."""
_ASKING: Final = frozenset({FrameType.REQUEST, FrameType.SUBSCRIBE, FrameType.UNSUBSCRIBE})
_OWN_NUMBERS_FROM: Final = 2**40 + 1
_SECRET: Final = frozenset(key.lower() for key in SECRET_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """A frame to send after `delay_s`, or nothing; `cut` is to drop the socket at once instead."""

    frame: bytes | None = None
    delay_s: float = 0.0
    cut: bool = False


_NOTHING: Final = Reaction()


class Session:
    """Who is signed in on one connection, and what it subscribed to: accounts, and instruments' prices."""

    def __init__(self, number: int, exchange: Exchange, door: Door) -> None:
        self.number = number
        self.user: User | None = None
        self.subscribed: set[int] = set()
        self.prices: set[int] = set()
        self._exchange = exchange
        self._door = door
        self._pending: User | None = None
        self._event_number = 0
        self._last_request = 0
        self._private_calls = 0
        self._signed_in_at: float | None = None  # as far as a call of its own has shown
        self._called: deque[float] = deque()
        """When calls were taken that count against a limit."""

    def receive(self, data: str | bytes, now: float) -> Reaction:
        """Carry out one frame. What isn't a request's frame is ignored without a word."""
        try:
            frame = decode_frame(data)
        except ProtocolError:
            return _NOTHING
        if frame.m not in _ASKING:
            return _NOTHING
        faults, name = self._exchange.faults, frame.n
        self._last_request = frame.i
        user = None if self.user is None else self.user.user_id
        self._exchange.log.note(now, self.number, user, name, for_the_log(frame.o))
        if faults.take(Deaf):
            return _NOTHING
        limit = faults.limit()
        if limit is not None and name != "AuthenticateUser" and not self._within(limit, now):
            faults.injected["RateLimit"] += 1
            return Reaction(frame=encode_frame(FrameType(limit.frame), frame.i, name, TOO_MANY))
        if self.user is not None and name not in PUBLIC:
            self._signed_in_at = now if self._signed_in_at is None else self._signed_in_at
            self._private_calls += 1
            if faults.expires(self._private_calls, now - self._signed_in_at):
                self._log_out({})
        closing, silent = faults.take(CloseOn, name), faults.take(NoAnswer, name)
        if closing is not None and not closing.executed:
            return Reaction(cut=True)
        if closing is None and silent is not None and not silent.executed:
            return _NOTHING
        payload = self._carry_out(name, frame.o, now)
        if closing is not None:
            return Reaction(cut=True)
        if silent is not None:
            return _NOTHING
        slow = faults.take(SlowLists) if name in LISTS else None
        kind = FrameType.REPLY if payload is not None else FrameType.ERROR
        return Reaction(
            frame=encode_frame(kind, frame.i, name, UNKNOWN_FUNCTION if payload is None else payload),
            delay_s=faults.latency_s() + (slow.delay_s if slow else 0.0),
        )

    def _within(self, limit: RateLimit, now: float) -> bool:
        """Whether one more call is within the limit; it then counts."""
        while self._called and self._called[0] <= now - limit.per_s:
            self._called.popleft()
        if len(self._called) >= limit.calls:
            return False
        self._called.append(now)
        return True

    def wants(self, event: Event) -> bool:
        """Whether this connection is told of the event."""
        if event.instrument is not None:
            return event.instrument in self.prices
        if event.account is None:
            return self.user is not None and self.user.user_id == event.user
        return event.account in self.subscribed

    def event_frame(self, event: Event) -> bytes:
        """The event under the server's own number, which overlaps the client's even numbers.

        The counter steps by two and is never behind the last request, so that an event carries the number of a
        request that may still wait for its answer, and later ones those of requests to come. Live counters
        overlap in the same way, only less often.
        """
        if self._exchange.faults.on(OwnNumbers):
            self._event_number = max(self._event_number + 2, _OWN_NUMBERS_FROM)
        else:
            self._event_number = max(self._event_number + 2, self._last_request)
            if self._event_number >= _OWN_NUMBERS_FROM:
                self._event_number = 2
        return encode_frame(FrameType.EVENT, self._event_number, event.name, event.payload)

    def _carry_out(self, name: str, text: str, now: float) -> str | None:
        """The reply's payload, None for a function that doesn't exist."""
        if self._exchange.faults.take(UnknownCall, name):
            return None
        handler = {
            "Ping": self._ping,
            "GetOMSVersion": self._get_version if self._exchange.version else None,
            "AuthenticateUser": self._authenticate,
            "Authenticate2FA": self._second_factor,
            "LogOut": self._log_out,
            "SubscribeAccountEvents": self._subscribe,
            "GetInstruments": self._get_instruments,
            "SubscribeLevel1": self._subscribe_prices,
            "UnsubscribeLevel1": self._unsubscribe_prices,
        }.get(name)
        if handler is None:
            return answer(self._exchange, self.user, name, text, now)
        fault = self._exchange.faults.take(Error, name)
        if fault is not None and not fault.executed:
            return refusal(fault.code)
        try:
            payload = handler(spelt(self._exchange, read_body(text)))
        except Refused as error:
            return refusal(error.code, error.detail)
        return payload if fault is None else refusal(fault.code)

    def _ping(self, _: Mapping[str, object]) -> str:
        return '{"msg":"PONG"}'

    def _get_version(self, _: Mapping[str, object]) -> str:
        """Public. The generic answer, with the version in its detail."""
        return json.dumps({"result": True, "errormsg": None, "errorcode": 0, "detail": self._exchange.version})

    def _authenticate(self, body: Mapping[str, object]) -> str:
        admission = self._door.authenticate(body)
        self.user, self._pending = admission.user or self.user, admission.pending
        return self._spelt(admission)

    def _spelt(self, admission: Admission) -> str:
        if not self._exchange.dialect.camel_sign_in:
            return admission.reply
        reply = camel(json.loads(admission.reply))
        del reply["sessionToken"]
        return json.dumps(reply)

    def _second_factor(self, body: Mapping[str, object]) -> str:
        admission = self._door.second_factor(self._pending, body)
        self.user = admission.user or self.user
        return self._spelt(admission)

    def _log_out(self, _: Mapping[str, object]) -> str:
        self.user = self._pending = None
        self.subscribed.clear()
        self.prices.clear()
        return RECEIVED

    def _subscribe(self, body: Mapping[str, object]) -> str:
        """False for an account that isn't one's own, unless one is the operator."""
        if self.user is None:
            raise Refused(20)
        check_oms(self._exchange, body)
        account = needed(body, "AccountId")
        allowed = self.user.may_look(account) and account in self._exchange.accounts
        if allowed:
            self.subscribed.add(account)
        return json.dumps({self._exchange.dialect.subscribed: allowed})

    def _get_instruments(self, body: Mapping[str, object]) -> str:
        """Public: it needs no sign-in."""
        check_oms(self._exchange, body)
        exchange = self._exchange
        return instrument_rows(exchange.oms_id, exchange.instruments, short=exchange.short_rows)

    def _subscribe_prices(self, body: Mapping[str, object]) -> str:
        """Answered by the prices as they are now; the second of two equal subscriptions is refused."""
        instrument = self._instrument(body)
        if instrument in self.prices:
            raise Refused(909)
        self.prices.add(instrument)
        return self._exchange.market.level1(instrument)

    def _unsubscribe_prices(self, body: Mapping[str, object]) -> str:
        instrument = self._instrument(body)
        if instrument not in self.prices:
            raise Refused(104)
        self.prices.discard(instrument)
        return RECEIVED

    def _instrument(self, body: Mapping[str, object]) -> int:
        """By its id or its symbol, for whoever may trade somewhere: the vendor asks for Operator or Trading."""
        if self.user is None or not {OPERATOR, TRADING} & self.user.permissions:
            raise Refused(20)
        check_oms(self._exchange, body)
        symbol = body.get("Symbol")
        if isinstance(symbol, str) and not body.get("InstrumentId"):
            found = [i for i, held in self._exchange.instruments.items() if held.symbol == symbol]
        else:
            found = [i for i in self._exchange.instruments if i == needed(body, "InstrumentId")]
        if not found:
            raise Refused(104, "Instrument not found.")
        return found[0]


def for_the_log(text: str) -> Mapping[str, object] | str:
    """A request's payload as the log keeps it: without secrets."""
    try:
        body = read_body(text)
    except Refused:
        # What can't be read may hold a secret all the same.
        return "" if any(key in text.lower() for key in _SECRET) else text[:_LOGGED_TEXT]
    return {key: "hidden" if key.lower() in _SECRET else value for key, value in body.items()}

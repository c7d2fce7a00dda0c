"""What can be made to go wrong, switched on and off while the simulator runs.

A fault is a small value; `Faults` holds those that are on. As text (`--fault`) a fault is
`NAME=VALUE[,KEY=VALUE...]`, such as `no_answer=2,executed=no`, `error=102,times=3`, `late_order=0.5`,
`close_on=CancelAllOrders,times=1`, `keep_placing=5,account=14,lasting_s=10`. A count may be `always`. What strikes
connections strikes both faces, WebSocket and HTTP, unless it says `over=ws` or `over=http`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_CANCEL_ALL: Final = "CancelAllOrders"


class FaultError(ValueError):
    """A fault that can't be: a sentence for the person who wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """The call gets no answer; `executed` says whether it was carried out all the same."""

    times: int | None = None
    call: str = _CANCEL_ALL
    executed: bool = True
    over: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """The call is answered "received", and then nothing happens."""

    times: int | None = None
    call: str = _CANCEL_ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """CancelAllOrders is answered "received", then comes a CancelAllOrdersRejectEvent and nothing else."""

    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The call is answered with an error code; `executed` as codes like 107 do it.

    `naming`: only where the body names exactly these ids beside the OMS, such as AccountId+InstrumentId, or none.
    """

    code: int
    times: int | None = None
    call: str = _CANCEL_ALL
    executed: bool = False
    naming: str = ""

    def hits(self, ids: frozenset[str]) -> bool:
        """Whether it strikes a call whose body names these ids."""
        wanted = frozenset(() if self.naming == "none" else self.naming.split("+"))
        return not self.naming or wanted == ids


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOn:
    """The socket is cut when the call comes in: before it is carried out, or after and before the answer."""

    call: str
    times: int | None = None
    executed: bool = False
    over: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownCall:
    """The server doesn't have the call: bare text in a frame of type 5, as older versions do it."""

    call: str
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """So many orders (the youngest) of each CancelAllOrders stay."""

    orders: int
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPlacing:
    """A trader who places `rate` orders a second for `lasting_s` seconds, cancels or not.

    With `fill` they are market orders: each fills at once, at the last price.
    """

    rate: float
    account: int | None = None
    user: int | None = None
    instrument: int | None = None
    lasting_s: float = 10.0
    fill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LateOrder:
    """An order that enters `delay_s` after a CancelAllOrders has ended its last order.

    Unless said otherwise it goes into the account, user and instrument that the cancel named.
    """

    delay_s: float
    times: int | None = 1
    account: int | None = None
    user: int | None = None
    instrument: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPage:
    """GetAccounts answers with the first `rows` of its page only."""

    rows: int
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Every answer leaves so much later; what was asked is carried out at once."""

    delay_s: float
    over: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLists:
    """Every list leaves so much later, showing the orders as they were when it was asked for."""

    delay_s: float
    times: int | None = None
    over: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaf:
    """Half open: connections are taken, nothing is carried out or answered and no event leaves.

    `times` counts requests.
    """

    times: int | None = None
    over: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """So many calls within any `per_s` seconds a session, sign-ins aside; the others get bare text and nothing else.

    `frame`: the type of the frame that it comes in, 5 or 1. No document says which it is.
    """

    calls: int
    per_s: float = 60.0
    frame: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExpires:
    """A session's token runs out after so many private calls, or `after_s` seconds; its socket lives on.

    Every private call is Not Authorized from then on, and no event is told any more. `times` counts sessions.
    """

    calls: int | None = None
    after_s: float | None = None
    times: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNumbers:
    """Events are numbered so that no number is ever a request's: the one way in which this is kinder."""

    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLag:
    """A list of open orders over HTTP comes from a replica that is so many seconds behind."""

    delay_s: float
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTokenGone:
    """The session's token is forgotten as a call over HTTP comes in with it, which is then not carried out."""

    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTooMany:
    """A call over HTTP is answered with the bare text TOO MANY REQUESTS, and not carried out."""

    times: int | None = None
    call: str = _CANCEL_ALL
    status: int = 200


Fault: TypeAlias = (
    NoAnswer
    | Lie
    | Reject
    | Error
    | CloseOn
    | UnknownCall
    | Stragglers
    | CutPage
    | KeepPlacing
    | LateOrder
    | Latency
    | SlowLists
    | Deaf
    | OwnNumbers
    | RateLimit
    | TokenExpires
    | HttpLag
    | HttpTokenGone
    | HttpTooMany
)
_F = TypeVar(
    "_F",
    NoAnswer,
    Lie,
    Reject,
    Error,
    CloseOn,
    UnknownCall,
    Stragglers,
    CutPage,
    LateOrder,
    SlowLists,
    Deaf,
    OwnNumbers,
    HttpLag,
    HttpTokenGone,
    HttpTooMany,
)

# The name on the command line, the fault, and the field that stands right after the name.
_BY_NAME: Final[dict[str, tuple[type[Fault], str]]] = {
    "no_answer": (NoAnswer, "times"),
    "lie": (Lie, "times"),
    "reject": (Reject, "times"),
    "error": (Error, "code"),
    "close_on": (CloseOn, "call"),
    "unknown_call": (UnknownCall, "call"),
    "stragglers": (Stragglers, "orders"),
    "cut_page": (CutPage, "rows"),
    "keep_placing": (KeepPlacing, "rate"),
    "late_order": (LateOrder, "delay_s"),
    "latency": (Latency, "delay_s"),
    "slow_lists": (SlowLists, "delay_s"),
    "deaf": (Deaf, "times"),
    "own_numbers": (OwnNumbers, "times"),
    "rate_limit": (RateLimit, "calls"),
    "token_expires_after": (TokenExpires, "calls"),
    "http_lag": (HttpLag, "delay_s"),
    "http_token_gone": (HttpTokenGone, "times"),
    "http_too_many": (HttpTooMany, "times"),
}
NAMES: Final = tuple(_BY_NAME)
_FACES: Final = ("ws", "http")


def parse_fault(text: str) -> Fault:
    """One fault from `NAME=VALUE[,KEY=VALUE...]`. Raises FaultError."""
    first, *rest = text.strip().split(",")
    name, _, value = first.partition("=")
    if name not in _BY_NAME:
        raise FaultError(f"no fault is called {name!r}; there are {', '.join(NAMES)}")
    kind, main = _BY_NAME[name]
    given = {main: value}
    for part in rest:
        key, _, value = part.strip().partition("=")
        given[key] = value
    known = {f.name: f for f in fields(kind)}
    for key in given:
        if key not in known:
            raise FaultError(f"{name} has no {key!r}; it has {', '.join(known)}")
    values = {key: _value(name, key, str(known[key].type), raw.strip()) for key, raw in given.items()}
    missing = [f.name for f in known.values() if f.default is MISSING and f.name not in values]
    assert not missing, missing  # the only fields without a default are the main ones
    return kind(**values)  # type: ignore[arg-type]


def _value(name: str, key: str, kind: str, raw: str) -> object:
    """`raw` as the field's type, which `from __future__ import annotations` keeps as text."""
    wrong = FaultError(f"{name}: {key} can't be {raw!r}")
    if not raw:
        raise wrong
    if key == "over" and raw not in _FACES:
        raise FaultError(f"{name}: over is ws or http")
    if kind == "str":
        return raw
    if kind == "bool":
        if raw not in ("yes", "no"):
            raise FaultError(f"{name}: {key} is yes or no")
        return raw == "yes"
    if "None" in kind and raw == "always":
        return None
    try:
        number = float(raw) if "float" in kind else int(raw)
    except ValueError:
        raise wrong from None
    if not math.isfinite(number) or number < 0 or (key == "rate" and number == 0):
        raise wrong
    return number


def _always(_: frozenset[str]) -> bool:
    return True


class Faults:
    """The faults that are on. `injected` counts how often each has struck, by class name."""

    def __init__(self) -> None:
        self._on: list[tuple[Fault, list[int | None]]] = []
        self.injected: Counter[str] = Counter()
        self.changed: Callable[[], None] = lambda: None
        """Called after each change; the gateway wakes on it."""

    def inject(self, fault: Fault | str) -> Fault:
        """Switch a fault on, given as a value or as text; it joins those of its kind that are on."""
        value = parse_fault(fault) if isinstance(fault, str) else fault
        self._on.append((value, [getattr(value, "times", None)]))
        self.changed()
        return value

    def clear(self, *kinds: type[Fault]) -> None:
        """Switch off every fault of these kinds, or every fault."""
        self._on = [entry for entry in self._on if kinds and not isinstance(entry[0], kinds)]
        self.changed()

    def take(self, kind: type[_F], call: str = "", *, over: str = "ws", ids: frozenset[str] = frozenset()) -> _F | None:
        """The first fault of this kind that hits the call on this face, using up one of its times.

        `ids`: what the call's body names beside the OMS.
        """
        for fault, left in self._on:
            if not isinstance(fault, kind) or getattr(fault, "call", call) != call or left[0] == 0:
                continue
            if not _strikes(fault, over) or not getattr(fault, "hits", _always)(ids):
                continue
            if left[0] is not None:
                left[0] -= 1
            self.injected[kind.__name__] += 1
            return fault
        return None

    def on(self, kind: type[Fault], *, over: str = "ws") -> bool:
        """Whether a fault of this kind would strike on this face."""
        return any(isinstance(fault, kind) and left[0] != 0 and _strikes(fault, over) for fault, left in self._on)

    def latency_s(self, *, over: str = "ws") -> float:
        return sum(fault.delay_s for fault, _ in self._on if isinstance(fault, Latency) and _strikes(fault, over))

    def expires(self, calls: int, seconds: float) -> bool:
        """Whether a token runs out after so many private calls and so long; uses up one of the times."""
        for fault, left in self._on:
            if not isinstance(fault, TokenExpires) or left[0] == 0:
                continue
            by_calls = fault.calls is not None and calls > fault.calls
            if by_calls or (fault.after_s is not None and seconds > fault.after_s):
                left[0] = None if left[0] is None else left[0] - 1
                self.injected["TokenExpires"] += 1
                return True
        return False

    def limit(self) -> RateLimit | None:
        """The limit of calls that is on."""
        return next((fault for fault, _ in self._on if isinstance(fault, RateLimit)), None)

    def traders(self) -> list[KeepPlacing]:
        """The traders who keep placing, whether they have started or not."""
        return [fault for fault, _ in self._on if isinstance(fault, KeepPlacing)]


def _strikes(fault: Fault, over: str) -> bool:
    return getattr(fault, "over", "") in ("", over)

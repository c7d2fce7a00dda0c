"""Every event in and every action out: the vocabulary of the house on one page.

Events are facts that an adapter observed; each carries `wall` (seconds since 1970, UTC), stamped once by the
adapter, for journals and people only. Decisions use the monotonic `now` that `handle` is given. Actions are
orders to the adapters, decided and complete: an adapter has no choice left. Records are what the journal
keeps. All are frozen values.

A `call` is the core's own number of a request, ever growing; the adapter maps it to the wire's `i`. A
`session` is one connection that is signed in; its number is never used again, by no gateway and no OMS.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.domain.dialects import Dialect
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import Settings

Via: TypeAlias = Literal["mqtt", "http", "signal", "direct"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
"""(name, text) pairs, sorted by name; ids as plain decimal text."""
Number: TypeAlias = Decimal | float


# --- values ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """A working order as a list's row or an event showed it. None: missing or unreadable there.

    `entered_by` is None for EnteredBy 0 too: nobody knows who entered it. `quantity` is what is left of it, in
    units of the instrument's base product; `price` its limit, in the quote product: None for 0, as market and
    stop orders have it.
    """

    account: int
    order_id: int | None
    instrument: int | None
    entered_by: int | None
    client_order_id: int | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None


class AnswerKind(Enum):
    """What an answer to a call means for us (design: What must hold 3)."""

    RECEIVED = "received"  # result true: the call was received; nothing is proven
    REFUSED = "refused"  # 20, 100, 106, a demand for 2FA: the same call again is no use
    ABSENT = "absent"  # 104: it may mean "nothing there"; look
    UNCLEAR = "unclear"  # 101, 102, 107, a code nobody knows, no JSON: ask again and look


@dataclass(frozen=True, slots=True)
class Answer:
    """The generic answer. `label` is for metrics: ok, a documented code as text, or other.

    `limited`: there were too many calls; it is UNCLEAR, and says nothing of what was asked.
    """

    kind: AnswerKind
    label: str
    code: int = 0
    text: str = ""
    limited: bool = False


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One row of GetAccountPositions or one AccountPositionEvent."""

    account: int
    product: str
    amount: Decimal
    hold: Decimal


@dataclass(frozen=True, slots=True)
class InstrumentRow:
    """One row of GetInstruments: an order of it trades `base` (Product1Symbol) against `quote` (Product2Symbol)."""

    instrument: int
    symbol: str
    base: str
    quote: str


# --- events: the OMS ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact. `wall`: seconds since 1970, UTC, stamped by the adapter."""

    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time went on. Too early, too late or twice is harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp(Event):
    """Signed in, account events subscribed. A new session proves nothing yet.

    `dialect`: what its calls are said in, as found at the sign-in. None: as its OMS is configured. `user`: whom the
    gateway takes us for, else as whom we signed in; None: nobody says.
    """

    oms: str
    gateway: str
    session: int
    dialect: Dialect | None = None
    user: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpUp(Event):
    """Signed in over HTTP. What goes over this session is cancels alone: it lists nothing and tells of nothing.

    `gateway`: host:port and the path, which tells it from a gateway on the same host. `dialect` as of SessionUp.
    """

    oms: str
    gateway: str
    session: int
    dialect: Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDown(Event):
    """That session is over; each of its calls was Lost before."""

    oms: str
    gateway: str
    session: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDown(Event):
    """The connection is gone; what was unsent or unanswered on it was reported Lost first, call by call."""

    oms: str
    gateway: str
    session: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRefused(Event):
    """The other side said no to our credentials: not a lost link. `why` holds no secret."""

    oms: str
    gateway: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFailed(Event):
    """No session came of an attempt to connect: a sentence with the reason."""

    oms: str
    gateway: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Event):
    """The frame of this call is written. Only now does a cancel count as the last one."""

    call: int
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """The generic answer to a call: any answer to a cancel, an error in answer to a list."""

    call: int
    session: int
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrders(Event):
    """A list of open orders. `unreadable` rows can't be told apart: each counts as in scope."""

    call: int
    session: int
    account: int
    orders: tuple[Order, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside(Event):
    """An answer that tells of what rests beside orders. It is for proofs: no rule reads it."""

    call: int
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuotes(Beside):
    """The answer to ListQuotes: the sides that stand, bid before ask. `unreadable`: sides that may stand."""

    account: int
    instrument: int
    orders: tuple[Order, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBlockTrades(Beside):
    """The answer to ListBlockTrades: reports that are open. `unreadable` rows as in OpenOrders."""

    account: int
    orders: tuple[Order, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsFound(Event):
    """The answer to ListUserAccounts: the accounts of that user."""

    call: int
    session: int
    accounts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesTold(Event):
    """The answer to ListPermissions or to ListSecondFactorCalls."""

    call: int
    session: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsListed(Event):
    """The answer to ListAccounts: a page of the OMS's accounts. `rows`: how many it had, those unreadable too."""

    call: int
    session: int
    accounts: tuple[int, ...]
    rows: int
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentsFound(Beside):
    """The answer to ListInstruments with `inactive`: ids. `unreadable` rows may be more of them."""

    instruments: tuple[int, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions(Event):
    """The answer to ListPositions."""

    call: int
    session: int
    account: int
    rows: tuple[PositionRow, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments(Event):
    """The answer to ListInstruments. `unreadable` rows lack an id or a product: nothing is known of them."""

    call: int
    session: int
    rows: tuple[InstrumentRow, ...]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Event):
    """Nothing will be heard of this call: dropped unsent, or its session went. Nobody repeats it unasked."""

    call: int
    session: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWorking(Event):
    """An order event said Working: new, partly filled, modified."""

    oms: str
    session: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEnded(Event):
    """An order event with a terminal state (Canceled, FullyExecuted, Rejected, Expired)."""

    oms: str
    session: int
    order: Order
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRejected(Event):
    """CancelAllOrdersRejectEvent or CancelOrderRejectEvent: look again, soon."""

    oms: str
    session: int
    account: int
    order_id: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSeen(Event):
    """An AccountPositionEvent. `merged`: so many of its account and product were merged into it."""

    oms: str
    session: int
    row: PositionRow
    merged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSeen(Event):
    """The best prices of an instrument: a Level1UpdateEvent, or the answer to SubscribePrice.

    Prices are in the quote product for one unit of the base product. None: there is none (0 and the vendor's
    sentinels say so), or it can't be read; a price is never 0. `call`: the SubscribePrice that it answers.
    `merged`: so many of its instrument were merged into it.
    """

    oms: str
    session: int
    instrument: int
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    call: int | None = None
    merged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeSeen(Event):
    """An OrderTradeEvent. None: missing or unreadable there; `user` is None in dialects that name nobody.

    `trade_id` tells a repeat. `quantity` is in units of the base product, `price` in the quote product.
    """

    oms: str
    session: int
    account: int
    instrument: int | None
    user: int | None
    trade_id: int | None
    order_id: int | None
    quantity: Decimal | None
    price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected(Event):
    """A NewOrderRejectEvent: an order that never worked. The documented event names neither instrument nor user.

    An OrderStateEvent with the state Rejected is an OrderEnded; a server may send both for one order.
    """

    oms: str
    session: int
    account: int
    instrument: int | None
    user: int | None
    order_id: int | None
    client_order_id: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Event):
    """A Ping was answered on this session: what it subscribed to is alive."""

    oms: str
    session: int


# --- events: feeds and rules -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """Readings of one series that were merged into the next one, since too many waited (domain/backlog.py).

    `count`: how many arrived; `total`: their sum. Not among them, because they are no arrivals: `older` ones, whose
    source time was before that of the reading before them, and those that `repeated` it, time and value.
    """

    count: int
    total: Decimal
    older: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Event):
    """One observed number.

    `lag_s`: arrival minus source time, measured at arrival (0 where the source has no time). `fresh` is
    False for a retained message without source time: its value counts, its age doesn't restart.
    `retained`: a broker kept it, and gives it to whoever subscribes: no sign of life, whatever its time.
    `source_at`: the source's own time (seconds since 1970) where it gave one: for order and duplicates only.
    `merged`: what came between the reading before it and this one, and can't be seen one by one any more.
    """

    feed: str
    name: str
    labels: Labels
    value: Number
    lag_s: float = 0.0
    fresh: bool = True
    retained: bool = False
    source_at: float | None = None
    merged: Merged | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadReading(Event):
    """A payload that is no reading: NaN, text, a missing path, a label that lacks. Never a value.

    `labels` as far as they could be read; None where nothing could. `merged`: so many like it came before it.
    """

    feed: str
    name: str
    labels: Labels | None
    reason: str
    merged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Event):
    """A message of a feed that gives no reading: a sign of life, unless a broker kept it.

    `merged`: so many like it came before it.
    """

    feed: str
    retained: bool = False
    merged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedUp(Event):
    """Our link to the feed's source stands and is subscribed."""

    feed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedDown(Event):
    """Our link to the feed's source is gone."""

    feed: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Event):
    """Of a recording only: from here on this session shows a list of an account, or the prices of an instrument.

    What it showed are readings of their own.
    """

    session: int
    what: Literal["positions", "orders", "prices"]
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestsOn(Event):
    """Of a recording only: from here on an OMS's reading is as old as the prices of these instruments.

    `instruments`: ids as text, sorted. `lacks`: why it can't be told; "" where it can. `known_s_ago`: then when it was
    known last; None: nobody says.
    """

    oms: str
    name: str
    labels: Labels
    instruments: tuple[str, ...]
    lacks: str
    known_s_ago: float | None = None


# --- events: people ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TripRequested(Event):
    """A trip command, well formed. `digest`: SHA-256 of its content, to tell a repeat from a reuse of the id.

    `token` is the adapter's own handle for acknowledging the delivery; opaque here.
    """

    id: str
    scope: Scope
    by: str
    reason: str
    issued_at: float | None
    digest: str
    via: Via
    token: object = None
    retained: bool = False  # the broker replays it at each connect: it counts once


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetRequested(Event):
    """A reset command, well formed."""

    id: str
    trip: str
    by: str
    reason: str
    issued_at: float
    override: bool
    digest: str
    via: Via
    token: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonPressed(Event):
    """A panic topic's payload matched. A button has no id: every delivery presses."""

    button: str
    scope: Scope
    via: Via
    token: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused(Event):
    """Something that is no command. `id` where a valid one could be read: then it gets a receipt.

    `command`: trip, reset or panic. `noise` marks what isn't worth an announcement of its own (a payload on
    a panic topic that matches no button, or is empty or retained).
    """

    command: str
    id: str | None
    reason: str
    via: Via
    token: object = None
    noise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EverythingTripped(Event):
    """SIGUSR1: trip every configured scope."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRequested(Event):
    """A preview: list the scope once. It never trips and never cancels."""

    scope: Scope
    token: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped(Event):
    """Our wall clock was set: `by_s` further than the monotonic clock went on, or back. `wall` is the new time."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconfigured(Event):
    """The configuration was read again and is sound; whether it may stand is decided now.

    `refusals`: why it may not, of what the core knows nothing (a journal, an address). `replaced`: feeds that read
    from elsewhere, or otherwise, though their settings are equal here. `changed`: what else differs, in words.
    `token`: what is ready to be used, the adapter's own.
    """

    settings: Settings
    by: str
    refusals: tuple[str, ...] = ()
    replaced: frozenset[str] = frozenset()
    changed: tuple[str, ...] = ()
    token: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed(Event):
    """The configuration was read again and can't be used: every mistake, with its place and without its input."""

    mistakes: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStood(Event):
    """Our own loop stood still. Until it is `over` what arrived meanwhile is handled, and nothing is judged late."""

    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Event):
    """SIGTERM: no new rounds of anything but what is latched."""


# --- events: the journal and the broker --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Journalled(Event):
    """Every record up to and including number `n` is on disk."""

    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFailed(Event):
    """A write failed; the adapter keeps the records and tries again for as long as it takes."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUp(Event):
    """The command topics are subscribed. `window`: deliveries the broker allows unacknowledged."""

    broker: str
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerDown(Event):
    """The command client's link is gone. Deliveries on it that are unacknowledged will come again."""

    broker: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedTripFound(Event):
    """The broker still holds `trip/{trip}` of this daemon. `scope` None: its payload can't be read."""

    trip: str
    scope: Scope | None
    by: str
    cause: str
    shadow: bool = False


# --- actions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CancelAllOrders:
    """One native call for `scope`, on `session`."""

    call: int
    session: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """One order. By OMSId + OrderId; without an order id by OMSId + AccountId + ClientOrderId.

    `fully`: all that names it, though its order id would do, for a server that refused it by that alone.
    """

    call: int
    session: int
    oms: str
    account: int
    order_id: int | None
    client_order_id: int | None
    fully: bool = False


@dataclass(frozen=True, slots=True)
class ListOpenOrders:
    """GetOpenOrders of one account."""

    call: int
    session: int
    oms: str
    account: int


@dataclass(frozen=True, slots=True)
class CancelQuote:
    """Both sides of one quote, by their ids."""

    call: int
    session: int
    oms: str
    account: int
    instrument: int
    bid: int
    ask: int


@dataclass(frozen=True, slots=True)
class ListQuotes:
    """GetOpenQuotes of one account and one instrument: the call has no wider form. Answered by OpenQuotes."""

    call: int
    session: int
    oms: str
    account: int
    instrument: int


@dataclass(frozen=True, slots=True)
class ListBlockTrades:
    """GetOpenTradeReports of one account. Answered by OpenBlockTrades."""

    call: int
    session: int
    oms: str
    account: int


@dataclass(frozen=True, slots=True)
class ListUserAccounts:
    """GetUserAccounts of one user."""

    call: int
    session: int
    oms: str
    user: int


@dataclass(frozen=True, slots=True)
class ListAccounts:
    """GetAccounts: at most `limit` accounts of the OMS, from place `start` on, counted from 0."""

    call: int
    session: int
    oms: str
    start: int
    limit: int


@dataclass(frozen=True, slots=True)
class SubscribeAccount:
    """SubscribeAccountEvents of one account, for the life of the session. Answered by Answered."""

    call: int
    session: int
    oms: str
    account: int


@dataclass(frozen=True, slots=True)
class ListPermissions:
    """GetUserPermissions of our own user. Answered by NamesTold."""

    call: int
    session: int
    oms: str
    user: int


@dataclass(frozen=True, slots=True)
class ListSecondFactorCalls:
    """GetValidate2FARequiredEndpoints: the calls that want a second factor. Answered by NamesTold."""

    call: int
    session: int
    oms: str


@dataclass(frozen=True, slots=True)
class ListPositions:
    """GetAccountPositions of one account."""

    call: int
    session: int
    oms: str
    account: int


@dataclass(frozen=True, slots=True)
class ListInstruments:
    """GetInstruments of the OMS, answered by Instruments; with `inactive` all of them, switched off or not, answered
    by InstrumentsFound, which rules don't see.
    """

    call: int
    session: int
    oms: str
    inactive: bool = False


@dataclass(frozen=True, slots=True)
class SubscribePrice:
    """SubscribeLevel1 of one instrument, for the life of the session.

    Answered by a PriceSeen with this call, or by Answered: 909 (already subscribed) with the label 909, which
    is fine, since the first subscription goes on; any other refusal with its own.
    """

    call: int
    session: int
    oms: str
    instrument: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Drop these calls if they aren't written yet; each is then reported Lost."""

    oms: str
    calls: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropSession:
    """Close this connection and make a new one: it no longer answers what matters."""

    oms: str
    session: int
    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """Journal number `n` (ever growing, without gaps). `urgent`: write it, unsynced, in this very pass."""

    n: int
    wall: float
    body: RecordBody
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """Readings of a window that leave it together: from `began` on they came, and they leave a window after `at`.

    `count` and `total` of them; of a drawdown's values the highest, which something lower replaced at `at`. The
    last slice of a drawdown's window is the value that held when it was told. Times are `now`'s seconds.
    """

    began: float
    at: float
    count: int
    total: Decimal


@dataclass(frozen=True, slots=True)
class KeptWindow:
    """What a rule's window over one series held. No slices: forget it.

    `definition`: the rule as far as the window's content hangs on it. `since`: from when on it has been watched.
    """

    rule: str
    definition: str
    feed: str
    reading: str
    labels: Labels
    since: float
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep these windows for a restart, in the place of what was kept of them before, all or none of them.

    Times in them are seconds of a clock that showed `clock_s` when the wall clock showed `wall`.
    """

    wall: float
    clock_s: float
    windows: tuple[KeptWindow, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a command. `token` is the one that came with it. `durable` False: not yet on disk.

    `shadow`: what was accepted cancels nothing. Of a reset: `outcome` is its trip's ("": it has none yet), `remaining`
    what stands in its way, in words.
    """

    id: str
    via: Via
    token: object
    accepted: bool
    reason: str
    trip: str | None
    durable: bool = True
    shadow: bool = False
    outcome: str = ""
    remaining: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the broker that this delivery need not come again (PUBACK)."""

    token: object


@dataclass(frozen=True, slots=True)
class AnnounceTrip:
    """Publish the retained `trip/{id}`."""

    trip: TripView


@dataclass(frozen=True, slots=True)
class ClearTrip:
    """Clear the retained `trip/{id}`."""

    trip: str


@dataclass(frozen=True, slots=True)
class AnnounceState:
    """Publish the retained `state`, and this replica's view: the trips with it, shadow ones too.

    `shadow`: the whole daemon is in shadow.
    """

    state: str
    trips: tuple[TripView, ...]
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class AnnounceEvent:
    """Publish on `event`. `kind` is one word of a closed list; `text` a sentence for people.

    `durable` False: what it tells is not yet on disk.
    """

    kind: str
    text: str
    wall: float
    trip: str | None = None
    detail: Mapping[str, object] | None = None
    shadow: bool = False
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Preview:
    """The answer to LookRequested: the orders that a trip of the scope would cancel.

    `why`: why some accounts were not even asked for; "" where all were.
    """

    token: object
    orders: tuple[Order, ...]
    unreadable: int
    accounts_looked_at: tuple[int, ...]
    accounts_failed: tuple[int, ...]
    complete: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class CauseView:
    """One line per rule and series, or per command: first, last, worst and how often."""

    text: str
    rule: str  # "" for a command
    kind: str  # the rule's kind, or command, panic, http, signal, retained
    labels: Labels
    first_wall: float
    last_wall: float
    count: int
    last: str = ""
    worst: str = ""


@dataclass(frozen=True, slots=True)
class WouldCancel:
    """What a shadow trip's one look at its scope found: what a live trip would have cancelled.

    `accounts` hold orders, and of `unseen` accounts no list was had. `by_account`: (account, how many);
    `order_ids`, `accounts_unseen`: ascending, and of each of the three the first only: the journal has all.
    `complete` False: there may be accounts that nobody told us of. `swept_by`: latched live trips whose scope meets
    this one, which may have cancelled before the look.
    """

    orders: int
    accounts: int
    by_account: tuple[tuple[int, int], ...]
    order_ids: tuple[int, ...]
    unreadable: int
    unseen: int
    accounts_unseen: tuple[int, ...]
    complete: bool
    swept_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remaining:
    """What stands between a live trip and VERIFIED, as its newest lists show it.

    `orders`: the first of those in scope; `more_orders`: how many there are beyond them. `unreadable`: rows that may
    be orders of the scope. `unseen`: (account, why) of those without a list, the first of them, and `more_unseen`
    beyond. `complete` False: there may be accounts that nobody told us of.
    """

    orders: tuple[Order, ...]
    more_orders: int
    unreadable: int
    unseen: tuple[tuple[int, str], ...]
    more_unseen: int
    complete: bool


@dataclass(frozen=True, slots=True)
class TripView:
    """What the outside sees of a trip. `would_cancel`: of a shadow trip only, None until it has looked.

    `remaining`: of a live trip that isn't confirmed. `why`: why it is escalated; "" while it isn't.

    `causes`: the first hundred at most; `more_causes`: how many there are beyond them. The journal has each.
    """

    trip: str
    state: str
    scope: Scope
    causes: tuple[CauseView, ...]
    by: str
    tripped_wall: float
    calls: int
    orders_left: int | None
    outcome: str | None
    covers: str
    verified_wall: float | None
    accounts_looked_at: tuple[int, ...]
    accounts_unseen: tuple[int, ...]
    drill: bool = False
    shadow: bool = False
    would_cancel: WouldCancel | None = None
    more_causes: int = 0
    remaining: Remaining | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ChangeOver:
    """The new configuration stands. What it names is used from now on, what it doesn't name any more is let go."""

    token: object


Action: TypeAlias = (
    CancelAllOrders
    | CancelOrder
    | CancelQuote
    | ListOpenOrders
    | ListQuotes
    | ListBlockTrades
    | ListUserAccounts
    | ListPermissions
    | ListSecondFactorCalls
    | ListAccounts
    | SubscribeAccount
    | ListPositions
    | ListInstruments
    | SubscribePrice
    | Withdraw
    | DropSession
    | Record
    | Keep
    | Receipt
    | Acknowledge
    | AnnounceTrip
    | ClearTrip
    | AnnounceState
    | AnnounceEvent
    | Preview
    | ChangeOver
)


# --- records: what the journal keeps -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon began; `config` is the configuration's fingerprint."""

    daemon: str
    version: str
    config: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was changed while it ran. Fingerprints before and after; what differs, such as `rule "btc"`."""

    daemon: str
    before: str
    config: str
    by: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon ended in order; `left` says what was not confirmed, and what remains of it."""

    daemon: str
    left: str


@dataclass(frozen=True, slots=True)
class Tripped:
    """A scope is latched. `command_id` and `digest` are empty for a rule's trip."""

    trip: str
    scope: Scope
    cause: CauseView
    by: str
    command_id: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class CauseAdded:
    """A latched trip gained a cause, or was pressed again."""

    trip: str
    cause: CauseView


@dataclass(frozen=True, slots=True)
class Moved:
    """A trip changed its state. `input` is the table's word; `why` a sentence.

    `orders` remain and `unseen` accounts could not be looked at: the first hundred of each, as it knew them then.
    """

    trip: str
    source: str
    input: str
    target: str
    why: str
    orders_left: int | None = None
    outcome: str | None = None
    orders: tuple[int, ...] = ()
    unseen: tuple[int, ...] = ()
    covers: str = "orders"  # what the outcome speaks of


@dataclass(frozen=True, slots=True)
class Called:
    """A cancel or a list left, or what came of it. `what`: sent, an answer's label, timeout or lost."""

    call: int
    name: str
    oms: str
    session: int
    what: str
    target: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """A list of a latched account. `orders`: all ids in a sweep's first and last list, else None (a hash)."""

    call: int
    oms: str
    session: int
    account: int
    count: int
    digest: str
    orders: tuple[int, ...] | None
    unreadable: int = 0
    name: str = "GetOpenOrders"  # the call


@dataclass(frozen=True, slots=True)
class Commanded:
    """A command that was answered, and how: the fold keeps its id for good."""

    id: str
    command: str
    digest: str
    accepted: bool
    reason: str
    trip: str | None
    by: str


@dataclass(frozen=True, slots=True)
class WasReset:
    """A person ended a trip. `unanswered`: cancels on dead sessions that may still execute.

    `outcome`: the trip's then, and `verified_wall` when it was proven last.
    """

    trip: str
    by: str
    reason: str
    command_id: str
    digest: str
    unanswered: tuple[int, ...] = ()
    outcome: str = ""
    verified_wall: float | None = None


@dataclass(frozen=True, slots=True)
class ShadowTripped:
    """A shadow trip began: nothing is latched and nothing is cancelled. A kind of its own, so that no fold, of no
    version, takes it for a latch.
    """

    trip: str
    scope: Scope
    cause: CauseView
    by: str
    command_id: str = ""
    digest: str = ""
    shadow: bool = True


@dataclass(frozen=True, slots=True)
class ShadowCause:
    """A shadow trip gained a cause, or was pressed again."""

    trip: str
    cause: CauseView
    shadow: bool = True


@dataclass(frozen=True, slots=True)
class ShadowFound:
    """What a shadow trip would have cancelled. `orders`: (account, all ids), of each account that was listed.

    `unnamed`: orders without an id. `accounts_unseen`: no list was had of them.
    """

    trip: str
    orders: tuple[tuple[int, tuple[int, ...]], ...]
    unnamed: int
    unreadable: int
    accounts_unseen: tuple[int, ...]
    complete: bool
    swept_by: tuple[str, ...] = ()
    shadow: bool = True


@dataclass(frozen=True, slots=True)
class ShadowEnded:
    """A person ended a shadow trip."""

    trip: str
    by: str
    reason: str
    command_id: str
    digest: str
    shadow: bool = True


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event made `handle` raise; nothing changed."""

    event: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """Orders that appeared in a latched scope after it was confirmed: late arrivals, each named once.

    `users`: who entered each of them; None: nobody knows.
    """

    trip: str
    oms: str
    account: int
    orders: tuple[int, ...]
    users: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """Anything else worth keeping: an escalation, a late arrival, a refusal, a warning. `rule`: whose warning."""

    kind: str
    text: str
    trip: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class HeartArmed:
    """A dead-man heard its first beat of this feed: the fold keeps it armed for good."""

    rule: str
    feed: str


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A server took more than it was asked to: the fold keeps it, and its OMS is told an account and nothing else."""

    oms: str
    why: str


RecordBody: TypeAlias = (
    Started
    | Reloaded
    | Stopped
    | Tripped
    | CauseAdded
    | Moved
    | Called
    | Looked
    | Commanded
    | WasReset
    | SetAside
    | Arrived
    | Noted
    | ShadowTripped
    | ShadowCause
    | ShadowFound
    | ShadowEnded
    | HeartArmed
    | Narrowed
)


@dataclass(frozen=True, slots=True)
class LatchedTrip:
    """A trip that the journal says is still latched."""

    trip: str
    scope: Scope
    causes: tuple[CauseView, ...]
    by: str
    tripped_wall: float
    command_id: str = ""


@dataclass(frozen=True, slots=True)
class UsedCommand:
    """A command id that was answered before."""

    id: str
    digest: str
    accepted: bool
    reason: str
    trip: str | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What the journal's fold found. `fresh`: there was no journal, a new one was made.

    `last_wall`: the time of the last record. `kept`: the windows that were kept, each with the clocks of then; `wall`:
    when they were read.
    """

    trips: tuple[LatchedTrip, ...] = ()
    commands: tuple[UsedCommand, ...] = ()
    ended: frozenset[str] = frozenset()  # trips that were reset, and all shadow trips: the start ended them
    next_n: int = 1
    serial: int = 0  # how many trips there ever were, for new ids
    fresh: bool = False
    warnings: tuple[str, ...] = ()
    last_wall: float = 0.0
    kept: tuple[Keep, ...] = ()
    wall: float = 0.0
    hearts: tuple[tuple[str, str], ...] = ()  # (rule, feed) of each dead-man that was armed by a beat
    narrowed: tuple[tuple[str, str], ...] = ()  # (OMS, why) of each that took more than it was asked to

"""The world that the simulator starts with.

Unless told otherwise: OMS 1; accounts 14, 15 and 16; instruments 25 (BTCUSD) and 26 (ETHUSD); users 37 and
40, both trading on all accounts; and user 1, the venue's operator, associated with no account, who may cancel
the whole OMS. Each user has an API key and a password, made anew at each start unless given. Positions are 0
and no order is open.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import cycle, product
from typing import Final

from killswitch.simulator.dialects import DIALECTS
from killswitch.simulator.exchange import Exchange
from killswitch.simulator.faults import Fault, Faults
from killswitch.simulator.orders import Side
from killswitch.simulator.positions import Instrument
from killswitch.simulator.quotes import deal_out
from killswitch.simulator.users import MARKET_MAKER, OPERATOR, TRADING, WHOLE_OMS, User

OPERATOR_ID: Final = 1
_FIRST_ACCOUNT: Final = 14
_TRADERS: Final = (37, 40)
_USD: Final = 2
_BASES: Final = ((1, "BTC", 50_000), (3, "ETH", 2_500))


class WorldError(ValueError):
    """Options that make no world: a sentence for the person who wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """What `simulate` is told. Port 0 takes any free one; `cancel_rate` is in orders a second."""

    host: str = "127.0.0.1"
    port: int = 0
    more_gateways: tuple[tuple[str, int], ...] = ()  # host and port of each; they lead to the same exchange
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    """Where its HTTP face listens; None: it has none."""
    accounts: int | tuple[int, ...] = (14, 15, 16)
    """Ids, or how many, counted from 14."""
    users: int | tuple[int, ...] = _TRADERS
    """The traders on every account: ids, or how many: 37, 40, 41, 42..."""
    instruments: tuple[int, ...] = (25, 26)
    orders: int = 0
    """Open orders at the start, dealt out over accounts, users and instruments in turn."""
    quotes: int = 0
    """Open quotes at the start, dealt out likewise; each is a bid and an ask. The traders may quote then."""
    block_trades: int = 0
    """Open reports of block trades at the start."""
    spares_quotes: bool | None = None
    """CancelAllOrders leaves quotes and block trades alone; None: as servers of the dialect do."""
    api_user: int = OPERATOR_ID
    """Whose key `api_key` and `api_secret` are."""
    api_key: str = field(default="", repr=False)
    api_secret: str = field(default="", repr=False)
    faults: tuple[Fault | str, ...] = ()
    cancel_rate: float | None = None
    cancel_latency_s: float = 0.0
    failed_logins: int = 5
    """After so many in a row a user is locked."""
    dialect: str = "v2"
    """v2, v3 or v4."""
    version: str | None = None
    """What GetOMSVersion says; "": the server has no such call; None: as servers of the dialect do."""
    nameless_every: int = 0
    """Each so many-th order, beginning with the first, is shown as entered by user 0 with no name; 0: none is."""
    short_rows: bool = False
    """Open orders as servers before 3.3 write them."""
    short_events: bool = False
    """OrderStateEvent with the fourteen fields of the older documents, without EnteredBy."""
    first_order_id: int | None = None
    permissions: tuple[str, ...] | None = None
    """What the API key's user may do, instead of what goes with it."""
    two_factor_calls: tuple[str, ...] = ()
    """Calls that want a second factor with them, and are refused without."""
    clock_off_s: float | None = 0.0
    """By how much the date in the opening handshake is ahead; None: it tells none."""


def build(options: SimulatorOptions, *, now: float = 0.0, wall_at_zero_ms: int = 0) -> Exchange:
    """The exchange of these options. Raises WorldError, and FaultError for a fault that can't be read."""
    accounts, traders = _accounts(options.accounts), _traders(options.users)
    _check(options, accounts, traders)
    faults = Faults()
    first_id = {} if options.first_order_id is None else {"first_order_id": options.first_order_id}
    exchange = Exchange(
        cancel_rate=options.cancel_rate,
        cancel_latency_s=options.cancel_latency_s,
        wall_at_zero_ms=wall_at_zero_ms,
        short_rows=options.short_rows,
        short_events=options.short_events,
        two_factor_calls=options.two_factor_calls,
        faults=faults,
        dialect=DIALECTS[options.dialect],
        version=options.version,
        nameless_every=options.nameless_every,
        spares_quotes=options.spares_quotes,
        **first_id,
    )
    for account in accounts:
        exchange.add_account(account)
    for number, instrument in enumerate(options.instruments):
        exchange.add_instrument(_instrument(instrument, number))
    _add_user(exchange, options, OPERATOR_ID, frozenset(), frozenset({OPERATOR, TRADING, WHOLE_OMS}))
    for trader in traders:
        may = frozenset({TRADING, MARKET_MAKER} if options.quotes else {TRADING})
        _add_user(exchange, options, trader, frozenset(accounts), may)
    places = cycle(product(accounts, traders, options.instruments))
    for number, (account, user, instrument) in zip(range(options.orders), places, strict=False):
        side = Side.Sell if number % 2 else Side.Buy
        exchange.place(account=account, user=user, instrument=instrument, side=side, now=now)
    deal_out(exchange, accounts, traders, now=now, quotes=options.quotes, block_trades=options.block_trades)
    exchange.take_events()
    for fault in options.faults:
        faults.inject(fault)
    return exchange


def _accounts(given: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(_FIRST_ACCOUNT, _FIRST_ACCOUNT + given)) if isinstance(given, int) else given


def _traders(given: int | tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(given, int):
        return given
    return (*_TRADERS, *range(_TRADERS[-1] + 1, _TRADERS[-1] + 1 + given))[:given]


def _check(options: SimulatorOptions, accounts: tuple[int, ...], traders: tuple[int, ...]) -> None:
    if options.dialect not in DIALECTS:
        raise WorldError(f"{options.dialect!r} is no dialect: v2, v3 or v4")
    if options.short_rows and options.dialect != "v2":
        raise WorldError("only servers before 3.3 write short rows: dialect v2")
    for words, ids in (("account", accounts), ("user", traders), ("instrument", options.instruments)):
        if not ids:
            raise WorldError(f"there must be at least one {words}")
        if len(set(ids)) != len(ids) or min(ids) < 1:
            raise WorldError(f"{words} ids must differ and be above 0")
    if OPERATOR_ID in traders:
        raise WorldError(f"user {OPERATOR_ID} is the operator")
    if options.api_user not in (OPERATOR_ID, *traders):
        raise WorldError(f"the API key's user {options.api_user} is none of the users")
    if bool(options.api_key) != bool(options.api_secret):
        raise WorldError("an API key and its secret are given together or not at all")
    if options.cancel_rate is not None and options.cancel_rate <= 0:
        raise WorldError("the rate of cancels must be above 0")
    if options.nameless_every < 0:
        raise WorldError("every how many-th order has no name can't be below 0")
    if options.quotes < 0 or options.block_trades < 0:
        raise WorldError("quotes and block trades can't be below 0")
    if options.orders < 0 or options.cancel_latency_s < 0 or options.failed_logins < 1:
        raise WorldError("orders and latency can't be below 0, and a login may fail at least once")


def _instrument(instrument: int, number: int) -> Instrument:
    base, symbol, price = _BASES[number] if number < len(_BASES) else (number + 2, f"C{number + 2}", 10)
    return Instrument(
        instrument_id=instrument,
        symbol=f"{symbol}USD",
        base=base,
        base_symbol=symbol,
        quote=_USD,
        quote_symbol="USD",
        price=Decimal(price),
    )


def _add_user(
    exchange: Exchange, options: SimulatorOptions, user: int, accounts: frozenset[int], may: frozenset[str]
) -> None:
    given = user == options.api_user
    exchange.add_user(
        User(
            user_id=user,
            name="operator" if user == OPERATOR_ID else f"trader{user}",
            accounts=accounts,
            permissions=frozenset(options.permissions) if given and options.permissions is not None else may,
            password=secrets.token_urlsafe(16),
            api_key=(given and options.api_key) or secrets.token_hex(16),
            api_secret=(given and options.api_secret) or secrets.token_hex(32),
        )
    )

"""The link to a gateway, on real sockets, against a bare WebSocket server that can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import socket
import time
from decimal import Decimal

import pytest

from killswitch.adapters.oms import KeyCredentials, OmsLink, PasswordCredentials, Patience
from killswitch.adapters.oms_waits import link_wait_s, refused_wait_s
from killswitch.adapters.websocket import Connection
from killswitch.domain.dialects import POOREST, Dialect
from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    CancelRejected,
    DropSession,
    Heard,
    InstrumentRow,
    Instruments,
    LinkFailed,
    ListAccounts,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    Lost,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceSeen,
    SessionDown,
    SessionUp,
    SignInRefused,
    SubscribeAccount,
    SubscribePrice,
    TradeSeen,
    Withdraw,
)
from killswitch.domain.scope import EVERY, Scope
from tests.adapters.bare_gateway import RECEIVED, BareGateway

KEY = KeyCredentials(37, "the-api-key", "the-api-secret")
PASSWORD = PasswordCredentials("desk", "hunter2hunter2")
QUICK = Patience(sign_in_s=1.0, subscribed_s=1.0, ping_after_s=0.2, dead_after_s=0.8, beat_s=0.05, heard_every_s=0.1)
DESK = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)


class Desk:
    """A running link and all that it told."""

    def __init__(self, url, *, credentials=KEY, accounts=(14,), patience=None, dialect=Dialect.V2):
        self.told = []
        self._changed = asyncio.Event()
        sessions = itertools.count(100)
        self.link = OmsLink(
            oms="prime",
            oms_id=1,
            url=url,
            gateway="127.0.0.1:8087",
            dialect=dialect,
            credentials=credentials,
            accounts=accounts,
            submit=self._submit,
            wall=lambda: 1_700_000_000.0,
            new_session=lambda: next(sessions),
            patience=patience,
        )

    async def __aenter__(self):
        self._task = asyncio.create_task(self.link.run())
        return self

    async def __aexit__(self, *_):
        assert not self._task.done(), self._task
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(self._task, 5)

    def _submit(self, event):
        self.told.append(event)
        self._changed.set()

    def of(self, *kinds):
        return [event for event in self.told if isinstance(event, kinds)]

    async def until(self, true, seconds=10):
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def up(self, times=1):
        await self.until(lambda: len(self.of(SessionUp)) >= times)
        return self.of(SessionUp)[-1].session

    async def answered(self, call):
        def found():
            return [e for e in self.of(Answered, OpenOrders, AccountsFound, Positions, Lost) if e.call == call]

        await self.until(found)
        return found()[0]

    def about(self, call):
        """The names of the facts about one call, in order."""
        return [type(e).__name__ for e in self.told if getattr(e, "call", None) == call]


def order_row(order_id, **more):
    return {
        "OrderId": order_id,
        "Account": 14,
        "Instrument": 25,
        "EnteredBy": 37,
        "ClientOrderId": 0,
        "OrderState": "Working",
        **more,
    }


# --- signing in, and calls ---------------------------------------------------------------------------------


async def test_a_link_signs_in_awaits_the_answer_subscribes_each_account_and_is_up():
    async with BareGateway() as gateway, Desk(gateway.url, accounts=(14, 15)) as desk:
        session = await desk.up()
        names = [(n, o if n != "AuthenticateUser" else "") for n, o, _ in gateway.frames]
        assert names == [
            ("AuthenticateUser", ""),
            ("GetOMSVersion", "{}"),
            ("SubscribeAccountEvents", '{"OMSId":1,"AccountId":14}'),
            ("SubscribeAccountEvents", '{"OMSId":1,"AccountId":15}'),
        ]
        sign_in = json.loads(gateway.bodies("AuthenticateUser")[0])
        assert sign_in["APIKey"] == "the-api-key"
        assert sign_in["UserId"] == "37"
        assert len(sign_in["Signature"]) == 64
        assert desk.told == [
            SessionUp(
                wall=1_700_000_000.0,
                oms="prime",
                gateway="127.0.0.1:8087",
                session=session,
                dialect=Dialect.V2,
                user=37,
            )
        ]


async def test_nothing_is_subscribed_before_the_sign_in_is_answered():
    async def hold(peer, i, o):
        await asyncio.sleep(0.2)
        assert [n for n, _, _ in peer.frames] == ["AuthenticateUser"]
        await peer.send(1, i, "AuthenticateUser", '{"Authenticated":true,"User":{"UserId":37}}')

    async with BareGateway(AuthenticateUser=hold) as gateway, Desk(gateway.url) as desk:
        await desk.up()
        assert len(gateway.bodies("SubscribeAccountEvents")) == 1


@pytest.mark.parametrize("version", ["3.5.1", "4.3.65.1063", "10.0"])
async def test_a_server_that_may_ignore_ids_of_a_cancel_is_refused(version):
    said = json.dumps({"result": True, "errormsg": None, "errorcode": 0, "detail": version})
    async with BareGateway(GetOMSVersion=said) as gateway, Desk(gateway.url) as desk:
        await desk.until(lambda: desk.of(SignInRefused))
        refusal = desk.of(SignInRefused)[0]
        assert f"it says that it is version {version}, which the configuration calls v2" in refusal.why
        assert "user" in refusal.why
        assert not [told for told in desk.told if isinstance(told, SessionUp)]


@pytest.mark.parametrize(
    ("version", "dialect", "said"),
    [
        ("2.23.1", Dialect.V2, (True, True)),
        ("3.5.1", Dialect.V3, (False, False)),
        ("4.3.65.1063", Dialect.V4, (True, False)),
        ("10.0", POOREST, (False, False)),
    ],
)
async def test_a_server_that_isnt_named_a_dialect_is_spoken_to_as_its_version_says(version, dialect, said):
    answer = json.dumps({"result": True, "errorcode": 0, "detail": version})
    async with BareGateway(GetOMSVersion=answer) as gateway, Desk(gateway.url, dialect=None) as desk:
        session = await desk.up()
        assert desk.of(SessionUp)[0].dialect is dialect
        desk.link.do(CancelAllOrders(1, session, Scope(oms="prime", account=14, user=EVERY, instrument=25)))
        desk.link.do(CancelAllOrders(2, session, Scope(oms="prime", account=14, user=37, instrument=EVERY)))
        told = [type(await desk.answered(call)).__name__ for call in (1, 2)]
        assert told == ["Answered" if one else "Lost" for one in said]
        bodies = [json.loads(body) for body in gateway.bodies("CancelAllOrders")]
        assert len(bodies) == sum(said)


def version(text):
    return json.dumps({"result": True, "errorcode": 0, "detail": text})


async def test_a_server_that_is_upgraded_behind_a_session_that_lasts_is_signed_in_to_anew():
    patience = Patience(version_every_s=0.05)
    answers = {"GetOMSVersion": version("2.23.1")}
    async with BareGateway(**answers) as gateway, Desk(gateway.url, dialect=None, patience=patience) as desk:
        await desk.up()
        await gateway.until(lambda: len(gateway.bodies("GetOMSVersion")) > 3)
        assert [up.dialect for up in desk.of(SessionUp)] == [Dialect.V2]
        gateway.answers["GetOMSVersion"] = version("4.3.65.1063")
        await desk.up(times=2)
        assert [up.dialect for up in desk.of(SessionUp)] == [Dialect.V2, Dialect.V4]
        (down,) = desk.of(SessionDown)
        assert down.why == "it says now that it is version 4.3.65.1063, and is spoken to as v2"
        gateway.answers["GetOMSVersion"] = version("2.23.1")  # what it heeds beside is used from the next sign-in on
        asked = len(gateway.bodies("GetOMSVersion"))
        await gateway.until(lambda: len(gateway.bodies("GetOMSVersion")) > asked + 3)
        assert len(desk.of(SessionUp)) == 2


async def test_a_server_that_doesnt_answer_what_it_is_isnt_asked_for_ever():
    async def silent(_peer, _i, _o):
        await asyncio.sleep(0)

    patience = Patience(version_s=0.02, version_every_s=0.02)
    async with BareGateway(GetOMSVersion=silent) as gateway, Desk(gateway.url, patience=patience) as desk:
        await desk.up()
        await gateway.until(lambda: len(gateway.bodies("GetOMSVersion")) == 2)
        await asyncio.sleep(0.3)
        assert len(gateway.bodies("GetOMSVersion")) == 2
        assert len(desk.of(SessionUp)) == 1


@pytest.mark.parametrize("answer", ['{"result":true,"detail":"?"}', '{"result":false,"errorcode":20}', "2", None])
async def test_a_server_that_tells_no_version_is_the_poorest(answer):
    async def silent(_peer, _i, _o):
        await asyncio.sleep(0)

    async with BareGateway(GetOMSVersion=answer or silent) as gateway, Desk(gateway.url, dialect=None) as desk:
        await desk.up()
        assert desk.of(SessionUp)[0].dialect is POOREST


async def test_a_version_that_comes_too_late_widens_nothing():
    asked = []

    async def hold(peer, i, _o):
        asked.append((peer, i))

    patience = Patience(version_s=0.05)
    async with BareGateway(GetOMSVersion=hold) as gateway, Desk(gateway.url, dialect=None, patience=patience) as desk:
        session = await desk.up()
        ((peer, i),) = asked
        await peer.send(1, i, "GetOMSVersion", '{"result":true,"errorcode":0,"detail":"2.23.1"}')
        desk.link.do(CancelAllOrders(2, session, Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)))
        assert isinstance(await desk.answered(2), Answered)  # so what was sent before it was read
        desk.link.do(CancelAllOrders(1, session, Scope(oms="prime", account=14, user=37, instrument=EVERY)))
        assert isinstance(await desk.answered(1), Lost)
        assert len(gateway.bodies("CancelAllOrders")) == 1


@pytest.mark.parametrize(
    "answer", ['{"result":true,"errorcode":0,"detail":"2.23.1"}', '{"result":true,"detail":"?"}', None]
)
async def test_a_server_of_the_dialect_s_age_or_of_unknown_age_is_what_the_configuration_says(answer):
    async def silent(_peer, _i, _o):
        await asyncio.sleep(0)

    async with BareGateway(GetOMSVersion=answer or silent) as gateway, Desk(gateway.url) as desk:
        await desk.up()
        assert not [told for told in desk.told if isinstance(told, SignInRefused)]


async def test_the_eight_rows_arrive_at_a_gateway_as_the_vendor_prints_them():
    rows = [
        (14, 37, 25, '{"OMSId":1,"AccountId":14,"UserId":37,"InstrumentId":25}'),
        (14, 37, EVERY, '{"OMSId":1,"AccountId":14,"UserId":37}'),
        (EVERY, 37, 25, '{"OMSId":1,"UserId":37,"InstrumentId":25}'),
        (EVERY, 37, EVERY, '{"OMSId":1,"UserId":37}'),
        (14, EVERY, 25, '{"OMSId":1,"AccountId":14,"InstrumentId":25}'),
        (14, EVERY, EVERY, '{"OMSId":1,"AccountId":14}'),
        (EVERY, EVERY, 25, '{"OMSId":1,"InstrumentId":25}'),
        (EVERY, EVERY, EVERY, '{"OMSId":1}'),
    ]
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        for call, (account, user, instrument, _) in enumerate(rows):
            scope = Scope(oms="prime", account=account, user=user, instrument=instrument)
            desk.link.do(CancelAllOrders(call, session, scope))
        await desk.until(lambda: len(desk.of(Answered)) == 8)
        assert gateway.bodies("CancelAllOrders") == [body for *_, body in rows]
        for call in range(8):
            assert desk.about(call) == ["Sent", "Answered"]


async def test_every_kind_of_call_is_answered_in_its_own_kind():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        gateway.answers["GetOpenOrders"] = json.dumps([order_row(5), "rubbish"])
        gateway.answers["GetAccountPositions"] = '[{"AccountId":14,"ProductSymbol":"BTC","Amount":1,"Hold":0}]'
        session = await desk.up()
        desk.link.do(CancelOrder(1, session, "prime", 14, 5, None))
        desk.link.do(CancelOrder(2, session, "prime", 14, None, 7))
        desk.link.do(ListOpenOrders(3, session, "prime", 14))
        desk.link.do(ListUserAccounts(4, session, "prime", 37))
        desk.link.do(ListPositions(5, session, "prime", 14))
        assert (await desk.answered(1)).answer.kind is AnswerKind.RECEIVED
        assert gateway.bodies("CancelOrder") == [
            '{"OMSId":1,"OrderId":5}',
            '{"OMSId":1,"AccountId":14,"ClientOrderId":7}',
        ]
        orders = await desk.answered(3)
        assert isinstance(orders, OpenOrders)
        assert (orders.account, [o.order_id for o in orders.orders], orders.unreadable) == (14, [5], 1)
        assert (await desk.answered(4)).accounts == (14, 15)
        assert [row.product for row in (await desk.answered(5)).rows] == ["BTC"]


async def test_accounts_are_listed_a_page_at_a_time_and_their_events_subscribed_to():
    page = '[{"OMSID":1,"AccountId":14},{"AccountId":"15"},{"AccountName":"nobody"}]'
    async with BareGateway(GetAccounts=page) as gateway, Desk(gateway.url, accounts=()) as desk:
        session = await desk.up()
        assert gateway.bodies("SubscribeAccountEvents") == []
        desk.link.do(ListAccounts(1, session, "prime", 0, 500))
        desk.link.do(SubscribeAccount(2, session, "prime", 14))
        await desk.until(lambda: desk.of(AccountsListed))
        (listed,) = desk.of(AccountsListed)
        assert (listed.call, listed.accounts, listed.rows, listed.unreadable) == (1, (14, 15), 3, 1)
        assert gateway.bodies("GetAccounts") == ['{"OMSId":1,"StartIndex":0,"Limit":500}']
        subscribed = await desk.answered(2)
        assert isinstance(subscribed, Answered)
        assert subscribed.answer.kind is AnswerKind.RECEIVED
        assert gateway.bodies("SubscribeAccountEvents") == ['{"OMSId":1,"AccountId":14}']


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"GetAccounts": '{"result":false,"errormsg":"Not Authorized","errorcode":20}'}, AnswerKind.REFUSED),
        ({"GetAccounts": '[{"AccountId":14}'}, AnswerKind.UNCLEAR),
        ({"SubscribeAccountEvents": '{"Subscribed":false}'}, AnswerKind.REFUSED),
        ({"SubscribeAccountEvents": '{"result":true,"errorcode":0}'}, AnswerKind.UNCLEAR),
    ],
)
async def test_a_list_of_accounts_or_a_subscription_that_fails_is_a_generic_answer(answers, kind):
    async with BareGateway(**answers) as gateway, Desk(gateway.url, accounts=()) as desk:
        session = await desk.up()
        if "GetAccounts" in answers:
            desk.link.do(ListAccounts(1, session, "prime", 0, 500))
        else:
            desk.link.do(SubscribeAccount(1, session, "prime", 14))
        assert (await desk.answered(1)).answer.kind is kind


BTCUSD = {"InstrumentId": 25, "Symbol": "BTCUSD", "Product1Symbol": "BTC", "Product2Symbol": "USD"}
LEVEL1 = '{"OMSId":1,"InstrumentId":25,"BestBid":49999.5,"BestOffer":"50000.5","LastTradedPx":0}'


def prices(desk):
    return [(e.instrument, e.bid, e.ask, e.last, e.call) for e in desk.of(PriceSeen)]


async def test_instruments_and_prices_are_asked_for_and_answered_in_their_own_kind():
    rows = json.dumps([BTCUSD, {}])
    async with BareGateway(GetInstruments=rows, SubscribeLevel1=LEVEL1) as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(ListInstruments(1, session, "prime"))
        desk.link.do(SubscribePrice(2, session, "prime", 25))
        await desk.until(lambda: desk.of(Instruments) and desk.of(PriceSeen))
        assert gateway.bodies("GetInstruments") == ['{"OMSId":1}']
        assert gateway.bodies("SubscribeLevel1") == ['{"OMSId":1,"InstrumentId":25}']
        (listed,) = desk.of(Instruments)
        assert (listed.call, listed.session, listed.unreadable) == (1, session, 1)
        assert listed.rows == (InstrumentRow(25, "BTCUSD", "BTC", "USD"),)
        assert prices(desk) == [(25, Decimal("49999.5"), Decimal("50000.5"), None, 2)]
        assert desk.about(1) == ["Sent", "Instruments"]
        assert desk.about(2) == ["Sent", "PriceSeen"]


async def test_a_list_of_a_venue_with_thousands_of_instruments_passes():
    rows = [{**BTCUSD, "InstrumentId": n, "Venue": "x" * 600} for n in range(1, 6001)]
    async with BareGateway(GetInstruments=json.dumps(rows)) as gateway, Desk(gateway.url) as desk:
        desk.link.do(ListInstruments(1, await desk.up(), "prime"))
        await desk.until(lambda: desk.of(Instruments))
        (listed,) = desk.of(Instruments)
        assert [row.instrument for row in listed.rows] == list(range(1, 6001))
        assert not desk.of(SessionDown)


@pytest.mark.parametrize(
    ("code", "kind"), [(909, AnswerKind.RECEIVED), (20, AnswerKind.REFUSED), (104, AnswerKind.ABSENT)]
)
async def test_a_subscription_that_was_there_already_is_fine_and_a_refused_one_is_told(code, kind):
    refused = json.dumps({"result": False, "errormsg": "no", "errorcode": code, "detail": None})
    async with BareGateway(SubscribeLevel1=refused) as gateway, Desk(gateway.url) as desk:
        desk.link.do(SubscribePrice(1, await desk.up(), "prime", 25))
        answer = (await desk.answered(1)).answer
        assert (answer.kind, answer.label) == (kind, str(code))


async def test_a_price_event_with_the_subscriptions_number_answers_nothing():
    async def collide(peer, i, o):
        await peer.send(3, i, "SubscribeLevel1", LEVEL1)
        await peer.send(3, i, "Level1UpdateEvent", LEVEL1.replace("49999.5", "1"))
        await peer.send(1, i, "Level1UpdateEvent", LEVEL1.replace("49999.5", "2"))
        await peer.send(1, i, "SubscribeLevel1", LEVEL1)

    async with BareGateway(SubscribeLevel1=collide) as gateway, Desk(gateway.url) as desk:
        desk.link.do(SubscribePrice(1, await desk.up(), "prime", 25))
        await desk.until(lambda: len(desk.of(PriceSeen)) == 2)
        ask = Decimal("50000.5")
        assert prices(desk) == [(25, Decimal(1), ask, None, None), (25, Decimal("49999.5"), ask, None, 1)]


async def test_what_hangs_when_the_link_breaks_is_lost_instruments_and_prices_too():
    async with BareGateway(GetInstruments=None, SubscribeLevel1=None) as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(ListInstruments(1, session, "prime"))
        desk.link.do(SubscribePrice(2, session, "prime", 25))
        await gateway.until(lambda: gateway.bodies("SubscribeLevel1"))
        gateway.peers[0].abort()
        await desk.until(lambda: desk.of(SessionDown))
        assert {e.call for e in desk.of(Lost)} == {1, 2}


async def test_a_refused_list_is_a_generic_answer():
    refused = '{"result":false,"errormsg":"Not Authorized","errorcode":20,"detail":null}'
    async with BareGateway(GetOpenOrders=refused) as gateway, Desk(gateway.url) as desk:
        desk.link.do(ListOpenOrders(1, await desk.up(), "prime", 14))
        answer = (await desk.answered(1)).answer
        assert (answer.kind, answer.label) == (AnswerKind.REFUSED, "20")


async def test_an_event_with_a_requests_number_answers_nothing():
    async def collide(peer, i, o):
        for n in ("GetOpenOrders", "OrderStateEvent", "AccountPositionEvent"):
            await peer.send(3, i, n, "[]")
        await peer.send(1, i, "CancelAllOrders", RECEIVED)
        await peer.send(1, i + 2, "GetOpenOrders", "[]")
        await peer.send(3, i, "OrderStateEvent", json.dumps(order_row(9)))
        await peer.send(1, i, "GetOpenOrders", json.dumps([order_row(5)]))

    async with BareGateway(GetOpenOrders=collide) as gateway, Desk(gateway.url) as desk:
        desk.link.do(ListOpenOrders(1, await desk.up(), "prime", 14))
        orders = await desk.answered(1)
        assert [order.order_id for order in orders.orders] == [5]
        assert desk.about(1) == ["Sent", "OpenOrders"]
        assert [event.order.order_id for event in desk.of(OrderWorking)] == [9]


async def test_events_become_facts_of_this_session():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        peer = gateway.peers[0]
        await peer.send(3, 4, "OrderStateEvent", json.dumps(order_row(5)))
        await peer.send(3, 6, "OrderStateEvent", json.dumps(order_row(5, OrderState="Canceled")))
        await peer.send(3, 6, "OrderStateEvent", "unreadable")
        await peer.send(3, 4, "AccountPositionEvent", '{"AccountId":14,"ProductSymbol":"BTC","Amount":1.5,"Hold":0}')
        await peer.send(3, 8, "NobodyKnowsThisEvent", "x")
        await peer.send_bytes(peer.text(b"no frame at all"))
        await peer.send_bytes(peer.text(b"\xff\xfe", opcode=2))
        await peer.send(3, 6, "Leve1UpdateEvent", LEVEL1)
        await peer.send(3, 6, "Level1UpdateEvent", '{"BestBid":1}')
        await peer.send(3, 4, "OrderTradeEvent", '{"AccountId":14,"TradeId":7,"Quantity":1,"Price":"x"}')
        await peer.send(3, 2, "NewOrderRejectEvent", '{"AccountId":14,"ClientOrderId":7,"RejectReason":"no"}')
        await peer.send(3, 8, "CancelOrderRejectEvent", '{"AccountId":14,"OrderId":5,"RejectReason":"x"}')
        await desk.until(lambda: desk.of(CancelRejected))
        kinds = [OrderWorking, OrderEnded, PositionSeen, PriceSeen, TradeSeen, OrderRejected, CancelRejected]
        facts = desk.of(*kinds)
        assert [type(fact) for fact in facts] == kinds
        assert {(fact.oms, fact.session) for fact in facts} == {("prime", session)}
        assert not desk.of(SessionDown)


async def test_sent_is_told_before_the_answer_however_fast_it_comes():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        for call in range(300):
            desk.link.do(CancelOrder(call, session, "prime", 14, call + 1, None))
        await desk.until(lambda: len(desk.of(Answered)) == 300)
        assert all(desk.about(call) == ["Sent", "Answered"] for call in range(300))
        assert gateway.bodies("CancelOrder") == [f'{{"OMSId":1,"OrderId":{n + 1}}}' for n in range(300)]


async def test_sent_is_told_before_the_answer_when_the_writer_is_told_late(monkeypatch):
    at_once = Connection.send

    async def send(self, *args, **kwargs):
        await at_once(self, *args, **kwargs)
        await asyncio.sleep(0.1)

    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        monkeypatch.setattr(Connection, "send", send)
        desk.link.do(CancelAllOrders(1, session, DESK))
        desk.link.do(ListOpenOrders(2, session, "prime", 14))
        await desk.answered(2)
        await asyncio.sleep(0.15)
        assert desk.about(1) == ["Sent", "Answered"]
        assert desk.about(2) == ["Sent", "OpenOrders"]


async def test_a_cancel_overtakes_lists_that_are_not_yet_written():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        for call in range(50):
            desk.link.do(ListOpenOrders(call, session, "prime", 14))
        desk.link.do(CancelAllOrders(50, session, DESK))
        await desk.until(lambda: len(desk.of(OpenOrders)) == 50)
        names = [n for n, _, _ in gateway.frames]
        assert names.index("CancelAllOrders") < names.index("GetOpenOrders")


async def test_withdrawn_calls_are_lost_and_never_written():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        for call in range(4):
            desk.link.do(CancelOrder(call, session, "prime", 14, call + 1, None))
        desk.link.do(Withdraw("prime", (1, 2, 77)))
        desk.link.do(Withdraw("another", (3,)))
        await desk.answered(3)
        assert desk.about(1) == desk.about(2) == ["Lost"]
        assert gateway.bodies("CancelOrder") == ['{"OMSId":1,"OrderId":1}', '{"OMSId":1,"OrderId":4}']
        desk.link.do(Withdraw("prime", (0, 3)))
        assert desk.about(0) == ["Sent", "Answered"]


async def test_what_can_not_be_said_or_is_for_another_oms_is_lost_and_never_written():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(CancelOrder(1, session, "prime", 14, None, None))
        desk.link.do(CancelAllOrders(2, session, Scope(oms="other", account=14, user=EVERY, instrument=EVERY)))
        desk.link.do(ListOpenOrders(3, session, "prime", 14))
        await desk.answered(3)
        assert desk.about(1) == desk.about(2) == ["Lost"]
        assert not gateway.bodies("CancelOrder")
        assert not gateway.bodies("CancelAllOrders")


# --- the end of a session ----------------------------------------------------------------------------------


async def test_when_the_link_breaks_each_open_call_is_lost_and_then_the_session_is_down():
    async def cut(peer, i, o):
        if "15" in o:
            peer.abort()

    async with BareGateway(GetOpenOrders=cut) as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(CancelAllOrders(1, session, DESK))
        await desk.answered(1)
        desk.link.do(ListOpenOrders(2, session, "prime", 14))
        desk.link.do(ListOpenOrders(3, session, "prime", 15))
        desk.link.do(ListOpenOrders(4, session, "prime", 16))
        await desk.until(lambda: desk.of(SessionDown))
        ends = [e for e in desk.told if isinstance(e, Lost | SessionDown)]
        assert [getattr(e, "call", "down") for e in ends] == [2, 3, 4, "down"]
        assert {e.session for e in ends} == {session}
        assert await desk.up(2) != session


async def test_nothing_is_carried_over_to_the_next_session():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        old = await desk.up()
        # Queue in one turn of the loop, so that nothing is written before the link is cut.
        for call in range(20):
            desk.link.do(CancelOrder(call, old, "prime", 14, call + 1, None))
        desk.link.do(DropSession("prime", old, "a test"))
        desk.link.do(CancelOrder(20, old, "prime", 14, 21, None))
        assert desk.about(20) == ["Lost"]
        new = await desk.up(2)
        desk.link.do(CancelAllOrders(21, old, DESK))
        assert desk.about(21) == ["Lost"]
        desk.link.do(CancelAllOrders(22, new, DESK))
        await desk.answered(22)
        assert {e.call for e in desk.of(Lost)} == set(range(22))
        assert [n for n, _, _ in gateway.peers[1].frames].count("CancelOrder") == 0
        assert desk.of(SessionDown)[0].why == "a test"


async def test_a_call_before_there_is_a_session_is_lost_at_once():
    async with BareGateway(AuthenticateUser=None) as gateway, Desk(gateway.url) as desk:
        desk.link.do(CancelAllOrders(1, 100, DESK))
        assert desk.about(1) == ["Lost"]
        await gateway.until(lambda: gateway.bodies("AuthenticateUser"))
        desk.link.do(CancelAllOrders(2, 100, DESK))
        assert desk.about(2) == ["Lost"]


async def test_dropping_another_session_than_the_present_one_does_nothing():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(DropSession("prime", session - 1, "old"))
        desk.link.do(ListOpenOrders(1, session, "prime", 14))
        assert isinstance(await desk.answered(1), OpenOrders)


async def test_a_logout_event_ends_the_session():
    async with BareGateway() as gateway, Desk(gateway.url) as desk:
        await desk.up()
        await gateway.peers[0].send(3, 2, "LogoutEvent", "{}")
        await desk.until(lambda: desk.of(SessionDown))
        await desk.up(2)


async def test_a_closed_task_closes_the_session_and_reports_its_open_calls():
    async with BareGateway(GetOpenOrders=None) as gateway:
        async with Desk(gateway.url) as desk:
            desk.link.do(ListOpenOrders(1, await desk.up(), "prime", 14))
            await gateway.until(lambda: gateway.bodies("GetOpenOrders"))
        assert desk.about(1) == ["Sent", "Lost"]
        assert isinstance(desk.told[-1], SessionDown)
        await asyncio.wait_for(gateway.peers[0].closed.wait(), 5)


# --- liveness ----------------------------------------------------------------------------------------------


async def test_a_quiet_session_is_kept_alive_by_pings_and_each_answer_is_told():
    async with BareGateway() as gateway, Desk(gateway.url, patience=QUICK) as desk:
        session = await desk.up()
        await desk.until(lambda: len(desk.of(Heard)) >= 6)
        assert len(gateway.bodies("Ping")) >= 3
        assert {heard.session for heard in desk.of(Heard)} == {session}
        assert not desk.of(SessionDown)


async def test_a_half_open_link_is_dropped_and_made_anew():
    async with BareGateway(Ping=None) as gateway, Desk(gateway.url, patience=QUICK) as desk:
        session = await desk.up()
        gateway.answers["CancelAllOrders"] = None
        desk.link.do(CancelAllOrders(1, session, DESK))
        await desk.until(lambda: desk.of(SessionDown))
        assert "half-open" in desk.of(SessionDown)[0].why
        assert desk.about(1) == ["Sent", "Lost"]
        await desk.up(2)


async def test_a_process_that_stood_still_does_not_take_it_for_the_gateways_silence():
    async with BareGateway() as gateway, Desk(gateway.url, patience=QUICK) as desk:
        await desk.up()
        for _ in range(3):
            time.sleep(1.0)
            await asyncio.sleep(0.3)
        assert not desk.of(SessionDown)


async def test_a_lost_ping_does_not_make_the_next_silence_deadly():
    lost = []

    async def lose_one(peer, i, o):
        if lost:
            await peer.send(1, i, "Ping", "{}")
        else:
            lost.append(i)
            await peer.send(3, 2, "Level1UpdateEvent", "{}")

    async with BareGateway(Ping=lose_one) as gateway, Desk(gateway.url, patience=QUICK) as desk:
        await desk.up()
        await gateway.until(lambda: len(gateway.bodies("Ping")) >= 4)
        assert not desk.of(SessionDown)


@pytest.mark.parametrize("answers_pings", [False, True])
async def test_a_gateway_that_only_tells_and_answers_nothing_is_left(answers_pings):
    """Bytes come all the time, so it isn't half-open; one lost answer alone is no reason to leave."""
    patience = Patience(ping_after_s=0.2, dead_after_s=5, beat_s=0.05, answer_s=1.0)
    pong = '{"msg":"PONG"}' if answers_pings else None
    async with (
        BareGateway(GetOpenOrders=None, Ping=pong) as gateway,
        Desk(gateway.url, patience=patience) as desk,
    ):
        desk.link.do(ListOpenOrders(1, await desk.up(), "prime", 14))
        for _ in range(60):
            await gateway.peers[0].send(3, 2, "Level1UpdateEvent", "{}")
            await asyncio.sleep(0.05)
        if answers_pings:
            assert not desk.of(SessionDown)
            assert len(gateway.bodies("Ping")) < 20
        else:
            assert "no answer" in desk.of(SessionDown)[0].why
            assert desk.about(1) == ["Sent", "Lost"]


@pytest.mark.parametrize("fragments", [False, True])
async def test_a_list_that_trickles_in_keeps_the_session_alive_while_bytes_come(fragments):
    """One message takes several times as long as the silence that ends a session."""
    patience = Patience(ping_after_s=0.2, dead_after_s=0.6, beat_s=0.05)

    async def trickle(peer, i, o):
        payload = json.dumps(
            {"m": 1, "i": i, "n": "GetOpenOrders", "o": json.dumps([order_row(k) for k in range(1, 200)])}
        ).encode()
        size = len(payload) // 30 + 1
        parts = [payload[k : k + size] for k in range(0, len(payload), size)]
        if fragments:
            parts = [peer.text(part, opcode=0 if k else 1, fin=k == len(parts) - 1) for k, part in enumerate(parts)]
        else:
            whole = peer.text(payload)
            parts[0] = whole[: len(whole) - len(payload)] + parts[0]
        for part in parts:
            await peer.send_bytes(part)
            await asyncio.sleep(0.06)

    async with BareGateway(GetOpenOrders=trickle, Ping=None) as gateway, Desk(gateway.url, patience=patience) as desk:
        desk.link.do(ListOpenOrders(1, await desk.up(), "prime", 14))
        orders = await desk.answered(1)
        assert isinstance(orders, OpenOrders)
        assert len(orders.orders) == 199
        assert not desk.of(SessionDown)


@pytest.mark.parametrize("fragment", [None, 4000])
async def test_a_list_of_20_000_orders_passes(fragment):
    rows = [order_row(23_092_280_996 + k, Note="x" * 900) for k in range(20_000)]
    text = json.dumps(rows)
    assert len(text) > 20_000_000

    async def long_list(peer, i, o):
        payload = json.dumps({"m": 1, "i": i, "n": "GetOpenOrders", "o": text}).encode()
        size = fragment or len(payload)
        last = (len(payload) - 1) // size
        await peer.send_bytes(
            b"".join(
                peer.text(payload[k * size : (k + 1) * size], opcode=0 if k else 1, fin=k == last)
                for k in range(last + 1)
            )
        )

    async with BareGateway(GetOpenOrders=long_list) as gateway, Desk(gateway.url) as desk:
        session = await desk.up()
        desk.link.do(ListOpenOrders(1, session, "prime", 14))
        await desk.until(lambda: desk.of(OpenOrders), seconds=60)
        (orders,) = desk.of(OpenOrders)
        assert len({order.order_id for order in orders.orders}) == 20_000
        assert orders.unreadable == 0
        desk.link.do(CancelAllOrders(2, session, DESK))
        await desk.answered(2)
        assert not desk.of(SessionDown)


# --- not getting in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ('{"Authenticated":false,"errormsg":"Invalid username or password"}', "Invalid username"),
        ('{"Authenticated":true,"Requires2FA":true,"User":{"UserId":37}}', "second factor"),
        ('{"Authenticated":false,"Locked":true}', "locked"),
        ("Endpoint Not Found", "Endpoint Not Found"),
    ],
)
async def test_a_refused_sign_in_is_told_from_a_lost_link_and_backed_off(answer, word):
    async with BareGateway(AuthenticateUser=answer) as gateway, Desk(gateway.url) as desk:
        await desk.until(lambda: len(desk.of(SignInRefused)) == 1)
        first = asyncio.get_running_loop().time()
        await desk.until(lambda: len(desk.of(SignInRefused)) == 2)
        assert asyncio.get_running_loop().time() - first >= 0.9
        assert word in desk.of(SignInRefused)[0].why
        assert not desk.of(LinkFailed, SessionUp, SessionDown)
        assert len(gateway.bodies("AuthenticateUser")) == 2
        assert not gateway.bodies("SubscribeAccountEvents")


def test_refused_sign_ins_wait_for_seconds_then_minutes():
    assert [refused_wait_s(n) for n in (1, 2, 3)] == [1, 2, 4]
    assert {refused_wait_s(n) for n in range(4, 14)} == {60}
    assert {refused_wait_s(n) for n in (14, 15, 1000, 10**9)} == {600}


def test_lost_links_wait_from_50_ms_up_to_2_s():
    for failures, least in ((1, 0.05), (2, 0.1), (3, 0.2), (6, 1.6), (7, 2.0), (50, 2.0), (10**9, 2.0)):
        assert all(least <= link_wait_s(failures) <= least + 0.05 for _ in range(50))


async def test_a_server_that_fails_at_the_sign_in_is_a_failed_link_not_a_refusal():
    failing = '{"result":false,"errormsg":"Server Error","errorcode":102,"detail":null}'
    async with BareGateway(AuthenticateUser=failing) as gateway, Desk(gateway.url) as desk:
        await desk.until(lambda: len(desk.of(LinkFailed)) >= 2)
        assert not desk.of(SignInRefused)
        gateway.answers["AuthenticateUser"] = '{"Authenticated":true,"User":{"UserId":37}}'
        await desk.up()


async def test_a_sign_in_that_is_never_answered_is_a_failed_link():
    async with BareGateway(AuthenticateUser=None) as gateway, Desk(gateway.url, patience=QUICK) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert "no answer to the sign-in" in desk.of(LinkFailed)[0].why


@pytest.mark.parametrize(
    "status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Too Many Requests", "500 Oops", "503 Later"]
)
async def test_any_refused_handshake_is_retried(status):
    async with BareGateway() as gateway:
        gateway.status = status
        async with Desk(gateway.url) as desk:
            await desk.until(lambda: len(desk.of(LinkFailed)) >= 2)
            assert f"HTTP {status[:3]}" in desk.of(LinkFailed)[0].why
            gateway.status = "101 Switching Protocols"
            await desk.up()


async def test_a_gateway_that_points_elsewhere_gets_no_credentials_there():
    async with BareGateway() as thief, BareGateway() as gateway:
        gateway.status = "302 Found"
        gateway.headers = f"Location: {thief.url}\r\n"
        async with Desk(gateway.url) as desk:
            await desk.until(lambda: len(desk.of(LinkFailed)) >= 2)
            assert "points elsewhere" in desk.of(LinkFailed)[0].why
            assert not thief.peers


async def test_what_accepts_and_closes_at_once_is_not_called_in_a_spin():
    async def slam(peer):
        peer.abort()

    async with BareGateway() as gateway:
        gateway.greet = slam
        async with Desk(gateway.url) as desk:
            start = asyncio.get_running_loop().time()
            await gateway.until(lambda: len(gateway.peers) >= 5)
            assert asyncio.get_running_loop().time() - start >= 0.7  # 50, 100, 200 and 400 ms
            assert desk.of(LinkFailed)


async def test_what_signs_in_and_closes_at_once_is_not_called_in_a_spin():
    async def subscribed_and_gone(peer, i, o):
        await peer.send(1, i, "SubscribeAccountEvents", '{"Subscribed":true}')
        peer.abort()

    async with BareGateway(SubscribeAccountEvents=subscribed_and_gone) as gateway, Desk(gateway.url):
        start = asyncio.get_running_loop().time()
        await gateway.until(lambda: len(gateway.peers) >= 5)
        assert asyncio.get_running_loop().time() - start >= 0.7


async def test_nobody_there_then_somebody_there():
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    async with Desk(f"ws://127.0.0.1:{port}/WSGateway/") as desk:
        await desk.until(lambda: len(desk.of(LinkFailed)) >= 2)
        assert "no connection" in desk.of(LinkFailed)[0].why


@pytest.mark.parametrize(
    "greeting",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00" * 5000, b"\xff" * 70_000 + b"\r\n\r\n"],
)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_port_that_speaks_something_else_is_a_failed_link(scheme, greeting):
    async def speak(reader, writer):
        writer.write(greeting)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Desk(f"{scheme}://127.0.0.1:{port}/") as desk:
        await desk.until(lambda: len(desk.of(LinkFailed)) >= 2)


@pytest.mark.parametrize(
    "url",
    ["ws://no-such-host.invalid/", "ws://" + "a" * 70 + "/", "ws://127.0.0.1:1/", "http://127.0.0.1/", "nonsense"],
)
async def test_an_address_that_can_not_be_reached_is_a_failed_link(url):
    async with Desk(url) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert desk.of(LinkFailed)[0].why


async def test_a_refused_subscription_is_told_and_the_session_is_up_all_the_same():
    async def refuse_15(peer, i, o):
        if '"AccountId":14' in o:
            await peer.send(1, i, "SubscribeAccountEvents", '{"Subscribed":true}')
        elif '"AccountId":15' in o:
            await peer.send(
                1, i, "SubscribeAccountEvents", '{"result":false,"errormsg":"Not Authorized","errorcode":20}'
            )

    async with (
        BareGateway(SubscribeAccountEvents=refuse_15) as gateway,
        Desk(gateway.url, accounts=(14, 15, 16), patience=QUICK) as desk,
    ):
        session = await desk.up()
        assert [event.why for event in desk.of(LinkFailed)] == [
            "no events of account 15: Not Authorized",
            "no events of account 16: no answer",
        ]
        desk.link.do(CancelAllOrders(1, session, DESK))
        assert isinstance(await desk.answered(1), Answered)


async def test_garbage_on_the_socket_never_stops_the_link():
    async def rave(peer):
        await peer.send_bytes(peer.text(b"[" * 100_000))
        await peer.send_bytes(peer.text(b'{"m":1,"i":2,"n":"Authenticate', fin=True))
        await peer.send(1, 2, "Ping", "{}")

    async with BareGateway() as gateway:
        gateway.greet = rave
        async with Desk(gateway.url) as desk:
            await desk.up()
            await gateway.peers[0].send_bytes(b"\x00\xff\x00\xff" * 100)
            await desk.until(lambda: desk.of(SessionDown))
            await desk.up(2)


# --- what is logged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [KEY, PASSWORD])
async def test_no_secret_is_logged_told_or_shown_even_at_debug(credentials, caplog):
    for name in ("", "websockets", "websockets.client", "killswitch", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    sent = []

    async def echo(peer, i, o):
        sent.append(o)
        if len(sent) == 1:
            await peer.send(
                1, i, "AuthenticateUser", json.dumps({"Authenticated": False, "errormsg": f"can't take {o}"})
            )
        else:
            peer.abort()

    async with BareGateway(AuthenticateUser=echo) as gateway, Desk(gateway.url, credentials=credentials) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        seen = "\n".join([caplog.text, repr(desk.told), repr(credentials), repr(desk.link), str(vars(desk.link))])
    secrets = ["the-api-key", "the-api-secret", "hunter2hunter2"]
    assert any(secret in sent[0] for secret in secrets)
    secrets += [json.loads(o)["Signature"] for o in sent if "Signature" in o]
    assert not [secret for secret in secrets if secret in seen]
    assert "can't take" in seen


@pytest.mark.parametrize("around", [0, 120, 150, 160, 170])
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_secret_is_hidden_however_it_is_quoted_and_wherever_the_quotation_is_cut(around, depth, caplog):
    secret = 'hünt"er\\2' + "stop" * 5
    quoted = secret
    for _ in range(depth):
        quoted = json.dumps(quoted, ensure_ascii=depth == 1)[1:-1]

    async def echo(peer, i, _):
        said = f"{'.' * around}{quoted}{'.' * 80}"
        await peer.send(1, i, "AuthenticateUser", json.dumps({"Authenticated": False, "errormsg": said}))

    login = PasswordCredentials("desk", secret)
    async with BareGateway(AuthenticateUser=echo) as gateway, Desk(gateway.url, credentials=login) as desk:
        await desk.until(lambda: desk.of(SignInRefused))
        why = desk.of(SignInRefused)[0].why
    assert why in caplog.text
    assert set(why) <= set(".*…"), why


async def test_the_first_failure_is_a_warning_and_the_rest_is_for_debugging(caplog):
    caplog.set_level(logging.DEBUG, logger="killswitch")
    async with BareGateway() as gateway:
        gateway.status = "503 Later"
        async with Desk(gateway.url) as desk:
            await desk.until(lambda: len(desk.of(LinkFailed)) >= 4)
            levels = [r.levelno for r in caplog.records if r.name == "killswitch.adapters.oms"]
            assert levels[:4] == [logging.WARNING, logging.DEBUG, logging.DEBUG, logging.DEBUG]
            gateway.status = "101 Switching Protocols"
            await desk.up()
            gateway.peers[-1].abort()
            await desk.up(2)
            assert [r.levelno for r in caplog.records if "session lost" in r.getMessage()] == [logging.WARNING]

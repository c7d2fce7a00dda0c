"""The link over HTTP, on real sockets: against the simulator's HTTP face, and against a bare server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import shutil
import ssl
import subprocess

import pytest

from killswitch.adapters.oms import KeyCredentials, PasswordCredentials
from killswitch.adapters.oms_door import Door
from killswitch.adapters.oms_http_link import HttpLink
from killswitch.adapters.oms_http_web import Pace
from killswitch.domain.dialects import POOREST, Dialect
from killswitch.domain.messages import (
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    DropSession,
    HttpDown,
    HttpUp,
    LinkFailed,
    ListOpenOrders,
    Lost,
    Sent,
    SignInRefused,
    Withdraw,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.http_calls import NO_SESSION
from killswitch.simulator.world import SimulatorOptions

QUICK = Pace(connect_s=2.0, call_s=1.0, sign_in_every_s=0.05, warm_every_s=30.0)


def desk_of(account: int = 14) -> Scope:
    return Scope(oms="prime", account=account, user=EVERY, instrument=EVERY)


class Desk:
    """A running link and all that it told."""

    def __init__(self, url, credentials, *, dialect=Dialect.V2, pace=QUICK, door=None):
        self.told = []
        self._changed = asyncio.Event()
        sessions = itertools.count(100)
        self.link = HttpLink(
            oms="prime",
            oms_id=1,
            url=url,
            gateway="127.0.0.1:8088",
            dialect=dialect,
            credentials=credentials,
            accounts=(14,),
            submit=self._submit,
            wall=lambda: 1_700_000_000.0,
            new_session=lambda: next(sessions),
            pace=pace,
            door=door,
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

    async def until(self, true, seconds=15):
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def up(self, times=1):
        await self.until(lambda: len(self.of(HttpUp)) >= times)
        return self.of(HttpUp)[-1].session

    async def cancel(self, call=1, scope=None):
        """What came of a CancelAllOrders on the session that is up."""
        self.link.do(CancelAllOrders(call, self.link.session or 0, scope or desk_of()))
        return await self.outcome(call)

    async def outcome(self, call):
        def found():
            return [e for e in self.of(Answered, Lost) if e.call == call]

        await self.until(found)
        return found()[0]

    def about(self, call):
        """The names of the facts about one call, in order."""
        return [type(e).__name__ for e in self.told if getattr(e, "call", None) == call]


def options(**given) -> SimulatorOptions:
    """One user and one instrument, so that the first three orders rest on the three accounts."""
    return SimulatorOptions(http_port=0, users=(37,), instruments=(25,), orders=3, **given)


def key_of(sim, user=1) -> KeyCredentials:
    held = sim.exchange.users[user]
    return KeyCredentials(user, held.api_key, held.api_secret)


@contextlib.asynccontextmanager
async def desk_at(sim, **given):
    async with Desk(sim.http.url, given.pop("credentials", None) or key_of(sim), **given) as desk:
        yield desk


def asked(sim, name):
    return [r for r in sim.exchange.log.of(name) if r.session == NO_SESSION]


async def empty(sim, account=14):
    async with asyncio.timeout(10):
        while sim.exchange.open_ids(account=account):
            await asyncio.sleep(0.01)


# --- cancels ------------------------------------------------------------------------------------------------


async def test_it_signs_in_and_cancels_and_says_sent_before_answered():
    async with Simulator(options()) as sim, desk_at(sim) as desk:
        await desk.up()
        told = await desk.cancel()
        assert told.answer.kind is AnswerKind.RECEIVED
        assert desk.about(1) == ["Sent", "Answered"]
        await empty(sim)
        assert len(sim.exchange.open_ids()) == 2


async def test_a_password_signs_in_by_basic_authentication():
    async with Simulator(options()) as sim:
        user = sim.exchange.users[37]
        async with desk_at(sim, credentials=PasswordCredentials(user.name, user.password)) as desk:
            await desk.up()
            assert (await desk.cancel()).answer.kind is AnswerKind.RECEIVED
            await empty(sim)


async def test_orders_are_cancelled_one_by_one_several_at_a_time():
    async with Simulator(options(faults=("latency=0.2,over=http",))) as sim:
        for _ in range(20):
            sim.place(14, 37, 25)
        async with desk_at(sim) as desk:
            session = await desk.up()
            began = sim.now()
            for call, order in enumerate(sorted(sim.exchange.open_ids(account=14)), 1):
                desk.link.do(CancelOrder(call, session, "prime", 14, order, None))
            await desk.until(lambda: len(desk.of(Answered)) == 21)
            assert sim.now() - began < 21 * 0.2
            await empty(sim)


async def test_nothing_is_ever_listed_over_http():
    async with Simulator(options()) as sim, desk_at(sim) as desk:
        session = await desk.up()
        desk.link.do(ListOpenOrders(7, session, "prime", 14))
        assert "nothing else is asked" in (await desk.outcome(7)).why
        assert not asked(sim, "GetOpenOrders")


@pytest.mark.parametrize(
    ("dialect", "version", "shown"),
    [
        (None, "4.3.65.1063", Dialect.V4),
        (None, "", POOREST),
        (Dialect.V4, "4.3.65.1063", Dialect.V4),
        (Dialect.V3, "4.3.65.1063", Dialect.V3),
    ],
)
async def test_the_version_decides_the_dialect_as_it_does_for_a_websocket(dialect, version, shown):
    async with Simulator(options(dialect="v4", version=version)) as sim, desk_at(sim, dialect=dialect) as desk:
        await desk.up()
        assert desk.of(HttpUp)[0].dialect is shown


async def test_a_server_that_may_ignore_ids_of_our_cancels_is_refused():
    async with Simulator(options(dialect="v4")) as sim, desk_at(sim, dialect=Dialect.V2) as desk:
        await desk.until(lambda: desk.of(SignInRefused))
        assert "it may ignore the user of a cancel" in desk.of(SignInRefused)[0].why
        assert not desk.of(HttpUp)


@pytest.mark.parametrize("restarted", [True, False])
async def test_a_server_that_is_another_one_by_now_is_signed_in_to_anew_before_it_is_told_a_cancel(restarted):
    """A call that it would ignore in part is lost, and not said again to the new server."""
    pace = Pace(call_s=1.0, sign_in_every_s=0.05, warm_every_s=30.0 if restarted else 0.2)
    async with Simulator(options(dialect="v4")) as sim, desk_at(sim, dialect=None, pace=pace) as desk:
        session = await desk.up()
        await asyncio.sleep(2 * pace.sign_in_every_s)
        sim.exchange.version = "3.5.20.14"
        if restarted:
            sim.http.calls.forget()
            desk.link.do(CancelAllOrders(1, session, Scope(oms="prime", account=14, user=EVERY, instrument=25)))
            assert "the server is version 3.5.20.14 now" in (await desk.outcome(1)).why
            assert len(sim.exchange.open_ids()) == 3
        await desk.up(2)
        assert [e.dialect for e in desk.of(HttpUp)] == [Dialect.V4, Dialect.V3]


async def test_a_cancel_that_this_dialect_would_widen_is_never_sent():
    async with Simulator(options(dialect="v3")) as sim, desk_at(sim, dialect=Dialect.V3) as desk:
        await desk.up()
        told = await desk.cancel(scope=Scope(oms="prime", account=14, user=37, instrument=EVERY))
        assert "it can't be said" in told.why
        assert not asked(sim, "CancelAllOrders")


async def test_a_refused_cancel_is_told_as_one_and_costs_no_other_sign_in():
    async with Simulator(options()) as sim, desk_at(sim, credentials=key_of(sim, 37)) as desk:
        await desk.up()
        told = await desk.cancel(scope=Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY))
        assert (told.answer.kind, told.answer.code) == (AnswerKind.REFUSED, 20)
        assert len(asked(sim, "Authenticate")) == 1


async def test_too_many_requests_is_an_unclear_answer():
    async with Simulator(options(faults=("http_too_many=1",))) as sim, desk_at(sim) as desk:
        await desk.up()
        told = await desk.cancel()
        assert (told.answer.kind, told.answer.text) == (AnswerKind.UNCLEAR, "TOO MANY REQUESTS")
        assert (await desk.cancel(2)).answer.kind is AnswerKind.RECEIVED


async def test_a_withdrawn_cancel_is_dropped_before_it_is_written():
    async with Simulator(options(faults=("latency=0.5,over=http",))) as sim, desk_at(sim) as desk:
        session = await desk.up()
        for call in range(1, 7):  # four leave, two wait
            desk.link.do(CancelAllOrders(call, session, desk_of()))
        await desk.until(lambda: len(desk.of(Sent)) == 4)
        desk.link.do(Withdraw("prime", (5, 6)))
        assert [e.call for e in desk.of(Lost)] == [5, 6]
        await desk.until(lambda: len(desk.of(Answered)) == 4)
        assert len(asked(sim, "CancelAllOrders")) == 4


# --- the token ----------------------------------------------------------------------------------------------


async def test_a_token_that_is_gone_is_made_anew_and_the_cancel_said_once_more():
    async with Simulator(options()) as sim, desk_at(sim) as desk:
        await desk.up()
        await asyncio.sleep(2 * QUICK.sign_in_every_s)
        sim.http.calls.forget()
        assert (await desk.cancel()).answer.kind is AnswerKind.RECEIVED
        await empty(sim)
        assert len(asked(sim, "Authenticate")) == 2
        assert desk.about(1) == ["Sent", "Answered"]
        assert not desk.of(HttpDown)


async def test_many_cancels_that_find_the_token_gone_sign_in_once():
    async with Simulator(options()) as sim, desk_at(sim) as desk:
        session = await desk.up()
        await asyncio.sleep(2 * QUICK.sign_in_every_s)
        sim.http.calls.forget()
        for call in range(1, 9):
            desk.link.do(CancelAllOrders(call, session, desk_of()))
        await desk.until(lambda: len(desk.of(Answered)) == 8)
        assert len(asked(sim, "Authenticate")) == 2


async def test_a_cancel_that_is_withdrawn_while_the_session_is_made_again_is_not_said_again():
    async with Simulator(options()) as sim, desk_at(sim) as desk:
        await desk.up()
        await asyncio.sleep(2 * QUICK.sign_in_every_s)
        sim.http.calls.forget()
        sim.faults.inject("latency=0.3,over=http")
        desk.link.do(CancelAllOrders(1, desk.link.session, desk_of()))
        await desk.until(lambda: desk.of(Sent))
        desk.link.do(Withdraw("prime", (1,)))
        assert "withdrawn" in (await desk.outcome(1)).why
        assert len(asked(sim, "CancelAllOrders")) == 1
        assert len(sim.exchange.open_ids()) == 3


async def test_tokens_that_die_at_once_end_the_session_and_are_not_hammered_for():
    pace = Pace(call_s=1.0, sign_in_every_s=0.5)
    async with Simulator(options(faults=("http_token_gone=always",))) as sim, desk_at(sim, pace=pace) as desk:
        began = sim.now()
        await desk.until(lambda: len(desk.of(LinkFailed)) >= 4)
        assert len(asked(sim, "Authenticate")) <= 1 + (sim.now() - began) / pace.sign_in_every_s
        assert "don't know of it" in desk.of(LinkFailed)[0].why
        assert not desk.of(HttpUp)


async def test_it_is_kept_warm_and_a_session_that_went_meanwhile_is_made_anew_before_it_is_needed():
    pace = Pace(call_s=1.0, sign_in_every_s=0.05, warm_every_s=0.2)
    async with Simulator(options()) as sim, desk_at(sim, pace=pace) as desk:
        await desk.up()
        await asyncio.sleep(0.1)
        sim.http.calls.forget()
        async with asyncio.timeout(10):
            while len(asked(sim, "Authenticate")) < 2:
                await asyncio.sleep(0.02)
        assert not asked(sim, "CancelAllOrders")
        assert (await desk.cancel()).answer.kind is AnswerKind.RECEIVED
        assert not desk.of(HttpDown)


async def test_a_server_that_goes_away_is_noticed_without_a_cancel_and_signed_in_to_when_it_is_back():
    pace = Pace(call_s=1.0, sign_in_every_s=0.05, warm_every_s=0.2)
    async with Simulator(options()) as sim, desk_at(sim, pace=pace) as desk:
        first = await desk.up()
        await sim.http.stop()
        await desk.until(lambda: desk.of(HttpDown))
        await desk.until(lambda: desk.of(LinkFailed))
        assert "no connection: " in desk.of(LinkFailed)[-1].why
        await sim.http.start()
        assert await desk.up(2) != first
        assert (await desk.cancel()).answer.kind is AnswerKind.RECEIVED


# --- no answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no_answer=always,over=http", "no answer within 1 s"),
        ("close_on=CancelAllOrders,over=http", "the connection"),
    ],
)
async def test_a_cancel_without_an_answer_is_sent_and_lost_and_not_repeated(fault, why):
    async with Simulator(options(faults=(fault,))) as sim, desk_at(sim) as desk:
        await desk.up()
        told = await desk.cancel()
        assert isinstance(told, Lost)
        assert why in told.why
        assert desk.about(1) == ["Sent", "Lost"]
        assert len(asked(sim, "CancelAllOrders")) == 1
        sim.faults.clear()
        assert (await desk.cancel(2)).answer.kind is AnswerKind.RECEIVED  # the connections that hung hold nobody up


async def test_unanswered_calls_give_their_connections_back():
    async with Simulator(options(faults=("no_answer=12,over=http",))) as sim, desk_at(sim) as desk:
        session = await desk.up()
        for call in range(1, 13):
            desk.link.do(CancelAllOrders(call, session, desk_of()))
        await desk.until(lambda: len(desk.of(Lost)) == 12)
        assert (await desk.cancel(20)).answer.kind is AnswerKind.RECEIVED


async def test_a_dropped_session_loses_what_hangs_on_it_and_another_comes():
    async with Simulator(options(faults=("no_answer=4,over=http",))) as sim, desk_at(sim) as desk:
        session = await desk.up()
        for call in range(1, 7):
            desk.link.do(CancelAllOrders(call, session, desk_of()))
        await desk.until(lambda: len(desk.of(Sent)) == 4)
        desk.link.do(DropSession("prime", session, "in a test"))
        await desk.until(lambda: desk.of(HttpDown))
        assert [e.call for e in desk.of(Lost)] == [1, 2, 3, 4, 5, 6]
        desk.link.do(CancelAllOrders(7, session, desk_of()))
        assert "session is gone" in (await desk.outcome(7)).why
        await desk.up(2)
        assert len(asked(sim, "CancelAllOrders")) == 4


async def test_stopping_ends_it_at_once_with_calls_under_way():
    async with Simulator(options(faults=("no_answer=always,over=http",))) as sim:
        async with desk_at(sim, pace=Pace()) as desk:
            session = await desk.up()
            desk.link.do(CancelAllOrders(1, session, desk_of()))
            await desk.until(lambda: desk.of(Sent))
        assert isinstance(await desk.outcome(1), Lost)
        assert desk.of(HttpDown)


# --- signing in ---------------------------------------------------------------------------------------------


async def test_a_refused_sign_in_backs_off_and_locks_nobody():
    async with Simulator(options(failed_logins=3)) as sim:
        wrong = KeyCredentials(1, sim.exchange.users[1].api_key, "not-the-secret")
        async with desk_at(sim, credentials=wrong) as desk:
            await desk.until(lambda: desk.of(SignInRefused))
            await asyncio.sleep(0.5)
            assert len(asked(sim, "Authenticate")) == 1
            assert not sim.exchange.users[1].locked


async def test_a_refusal_over_a_gateway_holds_the_sign_in_over_http_back_too():
    door = Door()
    async with Simulator(options()) as sim:
        door.refused("another:8087")
        async with desk_at(sim, door=door) as desk:
            await asyncio.sleep(0.5)
            assert not sim.exchange.log.requests
            await desk.up()


async def test_a_sign_in_whose_turn_comes_after_another_gateways_refusal_is_not_made():
    door = Door()
    async with Simulator(options()) as sim, door.turn("another:8087"), desk_at(sim, door=door) as desk:
        await asyncio.sleep(0.2)  # it waits for its turn
        for _ in range(3):
            door.refused("another:8087")  # for longer than a turn is waited for
        await desk.until(lambda: desk.of(LinkFailed))
        assert "another gateway refuses our sign-in" in desk.of(LinkFailed)[0].why
        assert not asked(sim, "Authenticate")


async def test_a_sign_in_that_was_never_looked_at_is_a_lost_link_and_no_refusal():
    async with Simulator(options(faults=("http_too_many=1,call=Authenticate",))) as sim, desk_at(sim) as desk:
        await desk.up()
        assert "too many requests" in desk.of(LinkFailed)[0].why
        assert not desk.of(SignInRefused)


async def test_a_server_that_only_knows_the_other_name_of_the_sign_in_is_asked_by_that():
    async with Simulator(options(faults=("unknown_call=Authenticate",))) as sim, desk_at(sim) as desk:
        await desk.up()
        assert len(asked(sim, "AuthenticateUser")) == 1


# --- a bare server ------------------------------------------------------------------------------------------

SIGNED_IN = json.dumps({"Authenticated": True, "SessionToken": "t" * 20, "User": {"UserId": 1}})
RECEIVED = '{"result":true,"errormsg":"","errorcode":0,"detail":""}'


class BareWeb:
    """Answers by name of call: (status, text, more header lines); what it isn't told is answered 404."""

    def __init__(self, tls: ssl.SSLContext | None = None, **answers) -> None:
        self.answers = {"Authenticate": (200, SIGNED_IN, ""), "GetUserAccounts": (200, "[14]", "")} | answers
        self.asked: list[tuple[str, str]] = []
        self._tls = tls

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}/AP/"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length")
                    ),
                    0,
                )
                await reader.readexactly(length)
                name = head.split(" ")[1].rpartition("/")[2]
                self.asked.append((name, head))
                status, text, more = self.answers.get(name, (404, "NOT FOUND", ""))
                if status == 0:
                    break
                body = text.encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body)
                await writer.drain()
        writer.close()

    def names(self):
        return [name for name, _ in self.asked]


KEY = KeyCredentials(1, "the-api-key", "the-api-secret")


async def test_an_answer_that_is_no_success_by_its_status_is_none_whatever_it_says():
    async with BareWeb(CancelAllOrders=(500, RECEIVED, "")) as web, Desk(web.url, KEY) as desk:
        await desk.up()
        assert (await desk.cancel()).answer.kind is AnswerKind.UNCLEAR


async def test_a_path_that_does_not_exist_signs_nobody_in_again_while_the_session_lives():
    async with BareWeb() as web, Desk(web.url, KEY) as desk:
        await desk.up()
        told = await desk.cancel()
        assert (told.answer.kind, told.answer.text) == (AnswerKind.UNCLEAR, "HTTP 404 NOT FOUND")
        assert web.names().count("Authenticate") == 1


async def test_it_follows_no_redirection_and_takes_no_cookie_and_no_proxy(monkeypatch):
    async with BareWeb() as other:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        moved = f"Location: {other.url}CancelAllOrders\r\n"
        async with BareWeb(CancelAllOrders=(307, "", moved)) as web:
            web.answers["Authenticate"] = (200, SIGNED_IN, "Set-Cookie: stick=1\r\n")
            async with Desk(web.url, KEY) as desk:
                await desk.up()
                told = await desk.cancel()
                assert (told.answer.kind, told.answer.text) == (AnswerKind.UNCLEAR, "HTTP 307")
                assert not any("stick=1" in head for _, head in web.asked)
        assert other.asked == []


async def test_a_sign_in_that_points_elsewhere_is_not_followed_and_not_repeated_quickly():
    async with BareWeb(Authenticate=(302, "", "Location: http://127.0.0.1:9/\r\n")) as web, Desk(web.url, KEY) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert "it points elsewhere (HTTP 302); not followed" in desk.of(LinkFailed)[0].why


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"Authenticated": true}', '{"Authenticated": "maybe"}', "null"])
async def test_an_answer_to_the_sign_in_that_makes_no_session_is_a_refusal(text):
    async with BareWeb(Authenticate=(200, text, "")) as web, Desk(web.url, KEY) as desk:
        await desk.until(lambda: desk.of(SignInRefused))
        assert not desk.of(HttpUp)


async def test_an_answer_without_end_is_cut_off():
    endless = "x" * 3_000_000
    async with BareWeb(CancelAllOrders=(200, endless, "")) as web, Desk(web.url, KEY) as desk:
        await desk.up()
        told = await desk.cancel()
        assert told.answer.kind is AnswerKind.UNCLEAR
        assert len(told.answer.text) < 1000


async def test_no_secret_and_no_token_shows_in_events_or_in_logs(caplog):
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"result": False, "errormsg": f"bad token {'t' * 20} of the-api-key", "errorcode": 101})
    async with BareWeb(CancelAllOrders=(200, echo, "")) as web, Desk(web.url, KEY) as desk:
        await desk.up()
        told = await desk.cancel()
        assert told.answer.code == 101
        web.answers["Authenticate"] = (200, json.dumps({"Authenticated": False, "errormsg": "no: the-api-secret"}), "")
        web.answers["GetUserAccounts"] = web.answers["CancelAllOrders"] = (401, "", "")
        await asyncio.sleep(2 * QUICK.sign_in_every_s)
        desk.link.do(CancelAllOrders(2, desk.link.session, desk_of()))
        await desk.until(lambda: desk.of(SignInRefused))
        shown = repr(desk.told) + caplog.text
        signature = next(h for n, h in web.asked if n == "Authenticate").split("ignature: ")[1].split("\r")[0]
        for secret in ("the-api-key", "the-api-secret", "t" * 20, signature):
            assert secret not in shown, secret


def certificate(folder):
    """A TLS context with a certificate for 127.0.0.1 that nobody but itself vouches for: folder/cert.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    line = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=oms -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", *line.split(), *files], cwd=folder, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return tls


async def test_a_certificate_that_does_not_hold_is_said_in_words(tmp_path):
    async with BareWeb(certificate(tmp_path)) as web, Desk(web.url, KEY) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert desk.of(LinkFailed)[0].why == "the sign-in: the TLS certificate doesn't hold: self-signed certificate"
        assert web.asked == []


async def test_the_machines_own_authorities_are_believed(tmp_path, monkeypatch):
    tls = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with BareWeb(tls, CancelAllOrders=(200, RECEIVED, "")) as web, Desk(web.url, KEY) as desk:
        await desk.up()
        assert (await desk.cancel()).answer.kind is AnswerKind.RECEIVED


async def test_a_certificate_for_another_name_does_not_hold(tmp_path, monkeypatch):
    tls = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with BareWeb(tls) as web, Desk(web.url.replace("127.0.0.1", "localhost"), KEY) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert "the TLS certificate doesn't hold" in desk.of(LinkFailed)[0].why


async def test_a_server_that_speaks_no_tls_is_said_in_words():
    async with BareWeb() as web, Desk(web.url.replace("http:", "https:"), KEY) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert "TLS failed" in desk.of(LinkFailed)[0].why


async def test_what_is_no_http_is_a_lost_link():
    async def serve(_, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/AP"
    async with Desk(url, KEY) as desk:
        await desk.until(lambda: desk.of(LinkFailed))
        assert "the sign-in: " in desk.of(LinkFailed)[0].why
    server.close()

"""The HTTP face over real sockets: a core that answers by script stands behind it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from killswitch.adapters.http import PREVIEWS_MAX, HttpFace, Waits
from killswitch.adapters.http_gate import Gate, our_names
from killswitch.adapters.http_server import CONNECTIONS_MAX, Listen, ListenError, bind
from killswitch.domain.messages import (
    CommandRefused,
    LookRequested,
    Order,
    Preview,
    Receipt,
    ResetRequested,
    TripRequested,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.view import BrokerView, OmsView, View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

VIEW = View(
    daemon="ks-a",
    state="armed",
    trips=(),
    rules=(),
    feeds=(),
    omses=(OmsView("prime", (), None, None, 1.0, ()),),
    brokers=(BrokerView("127.0.0.1:1883", False, "refused"),),
    journal_error=None,
    commands_waiting=0,
    ready=True,
    missing=(),
    notes=(),
)
TRIP = {"id": "p-1", "scope": {"oms": "prime", "account": 14}, "by": "alice", "reason": "drill of the desk"}
RESET = {"id": "r-1", "trip": "t1", "by": "alice", "reason": "calm", "issued_at": "2026-11-22T12:00:00Z"}
CLIENTS = ThreadPoolExecutor(32)
JSON = {"Content-Type": "application/json"}


@dataclass
class Core:
    """What stands behind the face. `answers` False: it takes events and says nothing."""

    face: HttpFace = field(init=False)
    view: View = VIEW
    healthy: bool = True
    answers: bool = True
    accepts: bool = True
    breaks: bool = False
    events: list[Any] = field(default_factory=list)

    def submit(self, event: Any) -> None:
        if self.breaks:
            raise RuntimeError("full")
        self.events.append(event)
        if self.answers:
            asyncio.get_running_loop().call_soon(self.answer, event)

    def answer(self, event: Any) -> None:
        match event:
            case TripRequested() | ResetRequested():
                reason = "latched" if self.accepts else "sweeping"
                self.face.deliver(Receipt(event.id, "http", event.token, self.accepts, reason, "t1"))
            case LookRequested():
                order = Order(14, 900, 25, 37)
                self.face.deliver(Preview(event.token, (order,), 0, (14,), (15,), complete=False))
            case _:
                pass

    def see(self) -> View:
        if self.breaks:
            raise RuntimeError("no view")
        return self.view


@contextlib.asynccontextmanager
async def serving(core: Core, host: str = "127.0.0.1", waits: Waits | None = None) -> AsyncIterator[HttpFace]:
    face = HttpFace(
        Listen(host, 0),
        daemon="ks-a",
        submit=core.submit,
        view=core.see,
        metrics=lambda accept: (f"asked_for {accept!r}\n".encode(), "text/plain; version=0.0.4"),
        healthy=lambda: core.healthy,
        wall=lambda: 1_795_000_000.0,
        waits=waits,
    )
    core.face = face
    face.bind()
    running = asyncio.ensure_future(face.run())
    try:
        yield face
    finally:
        face.stop()
        await asyncio.wait_for(running, 10)


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
async def face(core: Core) -> AsyncIterator[HttpFace]:
    async with serving(core) as started:
        yield started


@dataclass
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


async def ask(
    face: HttpFace,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Said:
    def blocking() -> Said:
        link = http.client.HTTPConnection("127.0.0.1", face.port, timeout=20)
        try:
            link.request(method, path, body, dict(headers))
            answer = link.getresponse()
            return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            link.close()

    return await asyncio.get_running_loop().run_in_executor(CLIENTS, blocking)


async def post(face: HttpFace, path: str, said: Any, **headers: str) -> Said:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return await ask(face, path, "POST", body, JSON | {k.replace("_", "-"): v for k, v in headers.items()})


async def raw(face: HttpFace, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


# --- reading -----------------------------------------------------------------------------------------------


async def test_health_is_whether_the_loop_turns_and_asks_nobody_else(face, core):
    assert (await ask(face, "/healthz")).status == 200
    core.breaks = True  # a view that can't be had is no reason to be restarted
    assert (await ask(face, "/healthz")).status == 200
    core.healthy = False
    answer = await ask(face, "/healthz")
    assert answer.status == 503
    assert answer.json["healthy"] is False


async def test_readiness_says_what_is_missing_and_a_broker_that_is_away_is_only_named(face, core):
    answer = await ask(face, "/readyz")
    assert answer.status == 200
    assert answer.json["brokers"] == [{"broker": "127.0.0.1:1883", "up": False, "why": "refused"}]
    core.view = replace(VIEW, ready=False, missing=("prime: not signed in",))
    answer = await ask(face, "/readyz")
    assert answer.status == 503
    assert answer.json["missing"] == ["prime: not signed in"]


async def test_metrics_are_shown_in_the_form_that_is_asked_for(face):
    answer = await ask(face, "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert answer.body == b"asked_for 'application/openmetrics-text'\n"


async def test_the_state_is_the_view(face):
    answer = await ask(face, "/state")
    assert answer.status == 200
    assert answer.json["daemon"] == "ks-a"
    assert answer.json["omses"][0]["oms"] == "prime"


async def test_head_is_get_without_a_body(face):
    for path in ("/healthz", "/readyz", "/metrics", "/state"):
        answer = await ask(face, path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")


async def test_answers_are_not_stored_say_nothing_of_the_server_and_end_the_connection(face):
    for path in ("/state", "/metrics", "/nowhere", "/state/"):
        headers = (await ask(face, path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["connection"] == "close"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


async def test_an_unknown_path_is_404_and_another_method_405_in_json(face, core):
    answer = await ask(face, "/nowhere")
    assert answer.status == 404
    assert answer.json["error"]
    for path in ("/command/trip", "/command/reset"):
        answer = await ask(face, path)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json["error"]
    assert (await post(face, "/state", {})).status == 405
    assert (await ask(face, "/command/trip", "PUT", b"{}", JSON)).status == 405
    assert (await ask(face, "/command/trip", "OPTIONS")).status == 405
    assert core.events == []


async def test_an_error_of_ours_is_a_sentence_without_its_inside(face, core):
    core.breaks = True
    answer = await ask(face, "/state")
    assert answer.status == 500
    assert answer.json == {"error": "an error of ours; the log has it"}


# --- previews ----------------------------------------------------------------------------------------------


async def test_a_preview_asks_the_core_to_look_and_shows_what_it_found(face, core):
    answer = await ask(face, "/preview?oms=prime&account=14&instrument=25")
    assert answer.status == 200
    assert answer.json["orders"] == [
        {"order_id": 900, "client_order_id": None, "account": 14, "instrument": 25, "user": 37}
    ]
    assert answer.json["accounts_looked_at"] == [14]
    assert answer.json["accounts_failed"] == [15]
    assert [e.scope for e in core.events] == [Scope(oms="prime", account=14, user=EVERY, instrument=25)]
    assert isinstance(core.events[0], LookRequested)


@pytest.mark.parametrize(
    "query",
    ["", "oms=prime", "oms=prime&account=0", "oms=prime&acount=14", "oms=prime&account=1&account=2", "oms=x&account=1"],
)
async def test_a_preview_of_no_scope_is_400_with_a_sentence_and_asks_nobody(face, core, query):
    answer = await ask(face, f"/preview?{query}")
    assert answer.status == 400
    assert " " in answer.json["error"]
    assert core.events == []


async def test_a_preview_whose_lists_do_not_come_is_504(core):
    core.answers = False
    async with serving(core, waits=Waits(preview_s=0.1)) as face:
        answer = await ask(face, "/preview?oms=prime&account=14")
        assert answer.status == 504
        assert answer.json["error"]
        assert not face._previews
        core.answer(core.events[0])  # the lists come after all: nobody waits any more


async def test_previews_are_bounded_and_a_hang_up_makes_room(face, core):
    core.answers = False
    links = [socket.create_connection(("127.0.0.1", face.port)) for _ in range(PREVIEWS_MAX)]
    for link in links:
        link.sendall(f"GET /preview?oms=prime&account=14 HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\n\r\n".encode())
    await until(lambda: len(core.events) == PREVIEWS_MAX)
    assert (await ask(face, "/preview?oms=prime&account=14")).status == 503
    for link in links:
        link.close()
    await until(lambda: not face._previews)
    core.answers = True
    assert (await ask(face, "/preview?oms=prime&account=14")).status == 200


# --- commands ----------------------------------------------------------------------------------------------


async def test_a_trip_becomes_the_event_that_it_is_over_mqtt_and_its_receipt_is_the_answer(face, core):
    answer = await post(face, "/command/trip", TRIP)
    assert answer.status == 200
    assert answer.json == {"id": "p-1", "accepted": True, "reason": "latched", "trip": "t1", "daemon": "ks-a"}
    (event,) = core.events
    assert isinstance(event, TripRequested)
    assert (event.id, event.by, event.via, event.wall) == ("p-1", "alice", "http", 1_795_000_000.0)
    assert event.scope == Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)


async def test_a_reset_does_the_same(face, core):
    answer = await post(face, "/command/reset", RESET)
    assert answer.status == 200
    assert answer.json["accepted"] is True
    assert isinstance(core.events[0], ResetRequested)
    assert core.events[0].trip == "t1"


@pytest.mark.parametrize(("path", "command"), [("/command/trip", TRIP), ("/command/reset", RESET)])
async def test_what_the_core_refuses_is_409_with_its_reason(face, core, path, command):
    core.accepts = False
    answer = await post(face, path, command)
    assert answer.status == 409
    assert answer.json["accepted"] is False
    assert answer.json["reason"] == "sweeping"


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe\x00", None),
        (b"[" * 5000, None),
        (b"null", None),
        ({**TRIP, "id": "a/b"}, None),
        ({**TRIP, "acount": 14}, "p-1"),
        ({**TRIP, "scope": {"oms": "prime", "acount": 14}}, "p-1"),
        ({**TRIP, "scope": {"oms": "prime", "account": 0}}, "p-1"),
        ({**TRIP, "scope": {"oms": "prime", "account": None}}, "p-1"),
        ({**TRIP, "scope": {"oms": "prime"}}, "p-1"),
        ({**TRIP, "by": ""}, "p-1"),
    ],
)
async def test_a_malformed_trip_is_400_with_its_reason_and_the_core_counts_it(face, core, command, known):
    answer = await post(face, "/command/trip", command)
    assert answer.status == 400
    assert answer.json["id"] == known
    assert answer.json["accepted"] is False
    assert answer.json["reason"]
    (event,) = core.events
    assert isinstance(event, CommandRefused)
    assert (event.command, event.id, event.via) == ("trip", known, "http")


async def test_a_receipt_that_waits_for_the_journal_is_202_and_says_that_it_is_not_durable(core):
    core.answers = False
    async with serving(core, waits=Waits(receipt_s=0.1)) as face:
        answer = await post(face, "/command/trip", TRIP)
        assert answer.status == 202
        assert answer.json["accepted"] is None
        assert answer.json["durable"] is False
        assert "journal" in answer.json["reason"]
        assert not face._receipts
        core.answer(core.events[0])  # too late: dropped
        core.healthy = False
        answer = await post(face, "/command/trip", TRIP)
        assert answer.status == 503  # a loop that stands still has taken nothing
        assert answer.json["accepted"] is None


async def test_a_receipt_that_is_not_durable_says_so(face, core):
    core.answers = False
    asked = asyncio.ensure_future(post(face, "/command/trip", TRIP))
    await until(lambda: core.events)
    face.deliver(Receipt("p-1", "http", core.events[0].token, True, "latched", "t1", durable=False))
    answer = await asked
    assert answer.status == 200
    assert answer.json["durable"] is False


async def test_each_of_many_at_once_gets_its_own_receipt(face, core):
    core.answers = False
    asked = [asyncio.ensure_future(post(face, "/command/trip", {**TRIP, "id": f"p-{n}"})) for n in range(8)]
    await until(lambda: len(core.events) == 8)
    for event in reversed(core.events):
        face.deliver(Receipt(event.id, "http", event.token, True, "latched", f"trip-of-{event.id}"))
    answers = [(await a).json for a in asked]
    assert [(a["id"], a["trip"]) for a in answers] == [(f"p-{n}", f"trip-of-p-{n}") for n in range(8)]
    assert not face._receipts


async def test_a_receipt_that_nobody_here_waits_for_is_ignored(face):
    face.deliver(Receipt("x", "mqtt", 17, True, "latched", "t1"))
    face.deliver(Receipt("x", "http", None, True, "latched", "t1"))
    face.deliver(Preview(object(), (), 0, (), (), complete=True))
    assert (await ask(face, "/healthz")).status == 200


async def test_a_client_that_hangs_up_leaves_nothing_behind_and_its_trip_is_carried_out(face, core):
    core.answers = False
    body = json.dumps(TRIP).encode()
    link = socket.create_connection(("127.0.0.1", face.port))
    link.sendall(
        f"POST /command/trip HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await until(lambda: core.events)
    link.close()
    await until(lambda: not face._receipts)
    core.answer(core.events[0])
    assert isinstance(core.events[0], TripRequested)


async def test_a_body_that_was_cut_off_is_no_command(face, core):
    link = socket.create_connection(("127.0.0.1", face.port))
    link.sendall(
        f"POST /command/trip HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000\r\n\r\n".encode()
        + json.dumps(TRIP).encode()
    )
    link.close()
    assert (await post(face, "/command/reset", RESET)).status == 200
    assert [type(e) for e in core.events] == [ResetRequested]


async def test_a_body_has_a_limit(face, core):
    longest = json.dumps(TRIP).encode().ljust(64 * 1024)
    assert (await post(face, "/command/trip", longest)).status == 200
    core.events.clear()
    answer = await post(face, "/command/trip", longest + b" ")
    assert answer.status == 413
    assert answer.json["error"]
    assert core.events == []


async def test_a_core_that_takes_nothing_is_503_and_says_that_nothing_was_done(face, core):
    core.breaks = True
    answer = await post(face, "/command/trip", TRIP)
    assert answer.status == 503
    assert "nothing was done" in answer.json["error"]
    assert not face._receipts


# --- who may ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/command/trip", "/command/reset", "/state"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},  # another port is another page
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "localhost.evil.example:{port}"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": ""},
    ],
)
async def test_a_page_of_another_site_can_press_nothing(face, core, path, headers):
    said = JSON | {k: v.format(port=face.port) for k, v in headers.items()}
    command = TRIP if path.endswith("trip") else RESET
    answer = await ask(face, path, "POST", json.dumps(command).encode(), said)
    assert answer.status == 403
    assert " " in answer.json["error"]
    assert core.events == []


async def test_a_command_without_a_content_type_or_with_two_is_refused(face, core):
    body = json.dumps(TRIP).encode()
    head = f"POST /command/trip HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\nContent-Length: {len(body)}\r\n".encode()
    for types in (b"", b"Content-Type: application/json\r\nContent-Type: text/plain\r\n"):
        assert (await raw(face, head + types + b"\r\n" + body)).startswith(b"HTTP/1.1 403 ")
    assert core.events == []


async def test_a_request_without_a_host_or_with_two_gets_nothing(face, core):
    assert (await raw(face, b"GET /state HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
    assert (await raw(face, b"GET /state HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    two = f"GET /state HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\nHost: evil.example\r\n\r\n".encode()
    assert (await raw(face, two)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
async def test_our_own_names_and_origins_are_let_in(face, host):
    host = host.format(port=face.port)
    for origin in ({}, {"Origin": f"http://{host}"}):
        answer = await ask(
            face,
            "/command/trip",
            "POST",
            json.dumps(TRIP).encode(),
            {"Content-Type": "Application/JSON; charset=utf-8", "Host": host, **origin},
        )
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/state", "/preview?oms=prime&account=14"])
async def test_a_name_that_was_pointed_at_our_address_reads_nothing(face, core, path):
    answer = await ask(face, path, headers={"Host": f"evil.example:{face.port}"})
    assert answer.status == 403
    answer = await ask(face, path, headers={"Origin": "https://evil.example"})
    assert answer.status == 403
    assert core.events == []


async def test_an_image_on_another_site_can_not_spend_calls_on_previews(face, core):
    site = {"Sec-Fetch-Site": "cross-site"}
    assert (await ask(face, "/preview?oms=prime&account=14", headers=site)).status == 403
    assert core.events == []
    assert (await ask(face, "/state", headers=site)).status == 200  # a link that somebody followed


async def test_beyond_loopback_no_command_is_taken_and_scrapers_are_let_in(core):
    async with serving(core, host="0.0.0.0") as face:
        answer = await post(face, "/command/trip", TRIP)
        assert answer.status == 403
        assert "loopback" in answer.json["error"]
        assert core.events == []
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await ask(face, path, headers={"Host": "killswitch.risk.svc:9464"})).status == 200
        assert (await ask(face, "/state", headers={"Host": "evil.example"})).status == 403
        assert (await ask(face, "/state", headers={"Host": "10.1.2.3:80"})).status == 200
        assert (await ask(face, "/state", headers={"Host": f"{socket.gethostname()}:{face.port}"})).status == 200
        assert (await ask(face, "/metrics", headers={"Origin": "https://evil.example"})).status == 403


def test_the_listen_address_itself_is_ours_and_port_80_may_be_left_out():
    assert "127.0.0.2:9464" in our_names("127.0.0.2", 9464, loopback=True)
    assert "[fd00::1]:9464" in our_names("fd00::1", 9464, loopback=False)
    assert "localhost" in our_names("127.0.0.1", 80, loopback=True)
    assert "localhost" not in our_names("127.0.0.1", 81, loopback=True)
    assert socket.gethostname().lower() not in {
        name.rsplit(":", 1)[0] for name in our_names("127.0.0.1", 9464, loopback=True)
    } - {"localhost"}


@pytest.mark.parametrize("host", ["", ":", "[", "[]", "[::1", "]", "1.2.3", "a" * 5000, "::::", "[::1]x:1"])
def test_no_odd_host_passes_for_an_address(host):
    gate = Gate(None, our_names("0.0.0.0", 9464, loopback=False), loopback=False)
    passes = gate._ours([host])
    assert passes is False


# --- garbage, slow ones and many ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x16\x03\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET //evil HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET http://evil.example/state HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: {host}\r\n\r\n",
        (
            b"POST /command/trip HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        ),
        b"POST /command/trip HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /healthz?"
        + b"a" * 12_000
        + b" HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_garbage_is_answered_or_cut_and_the_next_one_is_served(face, core, data):
    with contextlib.suppress(ConnectionError):
        await raw(face, data.replace(b"{host}", f"127.0.0.1:{face.port}".encode()))
    assert (await ask(face, "/healthz")).status == 200
    assert core.events == []


async def test_a_slow_client_holds_nobody_up_and_is_cut(core):
    async with serving(core, waits=Waits(body_s=0.2, connection_s=0.6)) as face:
        host = f"Host: 127.0.0.1:{face.port}\r\n".encode()
        silent = asyncio.ensure_future(raw(face, b"GET /state HTTP/1.1\r\nHo"))
        body = asyncio.ensure_future(
            raw(
                face,
                b"POST /command/trip HTTP/1.1\r\n"
                + host
                + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            )
        )
        assert (await ask(face, "/state")).status == 200
        assert (await body).startswith(b"HTTP/1.1 408 ")
        with contextlib.suppress(ConnectionError):
            assert await silent == b""
        assert core.events == []


async def test_connections_are_bounded(core):
    async with serving(core, waits=Waits(connection_s=30)) as face:
        assert (await ask(face, "/healthz")).status == 200
        links = [socket.create_connection(("127.0.0.1", face.port)) for _ in range(CONNECTIONS_MAX)]
        await until(lambda: len(face._server._server.server_state.connections) == CONNECTIONS_MAX)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            await ask(face, "/healthz")
        for link in links:
            link.close()
        await until(lambda: not face._server._server.server_state.connections)
        assert (await ask(face, "/healthz")).status == 200


# --- life --------------------------------------------------------------------------------------------------


async def test_stopping_answers_whoever_waits(core):
    core.answers = False
    async with serving(core) as face:
        asked = [
            asyncio.ensure_future(post(face, "/command/trip", TRIP)),
            asyncio.ensure_future(ask(face, "/preview?oms=prime&account=14")),
        ]
        await until(lambda: len(core.events) == 2)
    for answer in asked:
        assert (await answer).status == 503


async def test_a_stop_before_the_start_is_not_lost(core):
    async with serving(core) as face:
        face.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", face.port), timeout=1)


async def test_cancelling_stops_the_server_and_frees_the_port(core):
    face = HttpFace(
        Listen("127.0.0.1", 0),
        daemon="ks-a",
        submit=core.submit,
        view=core.see,
        metrics=lambda accept: (b"", "text/plain"),
        healthy=lambda: True,
        wall=lambda: 0.0,
    )
    face.bind()
    running = asyncio.ensure_future(face.run())
    assert (await ask(face, "/healthz")).status == 200
    port = face.port
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for each in bind(Listen("127.0.0.1", port)):
        each.close()


async def test_a_port_that_is_taken_is_a_sentence_and_not_the_end_of_the_process(face, core):
    with pytest.raises(ListenError, match=f"port {face.port}"):
        bind(Listen("127.0.0.1", face.port))
    with pytest.raises(ListenError, match="no address"):
        bind(Listen("no-such-host.invalid", 0))


async def test_localhost_is_loopback_by_all_its_addresses(core):
    async with serving(core, host="localhost") as face:
        assert (await ask(face, "/healthz")).status == 200
        assert (await post(face, "/command/trip", TRIP)).status == 200


async def test_signals_stay_the_daemons(core):
    ours = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in ours]
    async with serving(core) as face:
        assert (await ask(face, "/healthz")).status == 200
        assert [signal.getsignal(number) for number in ours] == before

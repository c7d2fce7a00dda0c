"""The board's page and its stream of events, over real sockets: bounded in clients, in memory and in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from killswitch.adapters.http import EVENTS_KEPT, LAST_WORDS_S, Waits
from killswitch.adapters.http_board import CLIENTS_MAX
from killswitch.domain.messages import AnnounceEvent
from tests.adapters.test_http import VIEW, Core, ask, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from killswitch.adapters.http import HttpFace


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
async def face(core: Core) -> AsyncIterator[HttpFace]:
    async with serving(core) as started:
        yield started


class Stream:
    """A client of /events. `head`: the answer's status line and headers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    async def line(self, begins: str) -> str:
        """The rest of the next line that begins so."""
        async with asyncio.timeout(20):
            while True:
                line = (await self.reader.readline()).decode()
                assert line, "the stream has ended"
                if line.startswith(begins):
                    return line.removeprefix(begins).strip()

    async def picture(self) -> Any:
        return json.loads(await self.line("data: "))


@contextlib.asynccontextmanager
async def looking(face: HttpFace, *headers: str) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
    asked = "\r\n".join(("GET /events HTTP/1.1", f"Host: 127.0.0.1:{face.port}", *headers, "", ""))
    writer.write(asked.encode())
    try:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
        yield Stream(reader, writer, head)
    finally:
        writer.close()


def event(text: str) -> AnnounceEvent:
    return AnnounceEvent("tripped", text, 1_795_000_000.0, "t1", {"odd": object()})


async def test_the_page_is_served_with_a_policy_and_stored_by_nobody(face):
    answer = await ask(face, "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith(b"<!DOCTYPE html>")


async def test_the_first_message_is_the_whole_state_and_what_the_button_offers(core):
    async with serving(core) as face:
        face.tell(event("first"))
        async with looking(face) as stream:
            assert "content-type: text/event-stream" in stream.head
            seen = await stream.picture()
            state = (await ask(face, "/state")).json
            assert {key: seen[key] for key in state} == state
            assert seen["at"] == "2026-11-18T11:06:40.000Z"
            assert [e["text"] for e in seen["events"]] == ["first"]
            assert (seen["healthy"], seen["takes_commands"], seen["places"]) == (True, True, [])


async def test_a_change_is_told_and_silence_is_filled(face, core):
    async with looking(face) as stream:
        assert (await stream.picture())["state"] == "armed"
        core.view = replace(VIEW, state="sweeping")
        face.poke()
        assert (await stream.picture())["state"] == "sweeping"
        assert (await stream.picture())["state"] == "sweeping"  # nobody poked


async def test_a_picture_that_can_not_be_drawn_is_a_comment_and_the_next_one_comes(face, core):
    async with looking(face) as stream:
        await stream.picture()
        core.breaks = True
        assert await stream.line(":") == "no picture"
        core.breaks = False
        assert (await stream.picture())["state"] == "armed"


async def test_recent_events_are_bounded_and_the_newest_stay(face):
    for n in range(EVENTS_KEPT + 5):
        face.tell(event(str(n)))
    async with looking(face) as stream:
        texts = [e["text"] for e in (await stream.picture())["events"]]
        assert (len(texts), texts[-1]) == (EVENTS_KEPT, str(EVENTS_KEPT + 4))


async def test_clients_are_bounded_and_one_that_leaves_makes_room(face):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stream = await stack.enter_async_context(looking(face))
            await stream.picture()
        assert (await ask(face, "/events")).status == 503
    await until(lambda: not face._board._clients)
    async with looking(face) as stream:
        assert "200 ok" in stream.head


async def test_what_waits_for_a_client_that_does_not_read_is_one_message(face, core):
    core.view = replace(VIEW, notes=("x" * 1_000_000,))
    async with looking(face) as slow:
        for _ in range(20):
            face.poke()
            await asyncio.sleep(0.02)
        assert [queue.maxsize for queue in face._board._clients] == [1]
        core.view = VIEW
        async with looking(face) as quick:  # nobody waits for the slow one
            assert (await quick.picture())["notes"] == []
        assert slow.head


async def test_a_stream_ends_in_order_before_its_connection_is_cut(core):
    async with serving(core, waits=Waits(connection_s=LAST_WORDS_S + 0.5)) as face, looking(face) as stream:
        rest = await asyncio.wait_for(stream.reader.read(), 20)
        assert rest.endswith(b"0\r\n\r\n")  # the last chunk: a whole answer


async def test_stopping_ends_every_stream(core):
    async with serving(core) as face, looking(face) as stream:
        await stream.picture()
        face.stop()
        assert (await asyncio.wait_for(stream.reader.read(), 20)).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("header", ["Origin: http://evil.example", "Host: evil.example", "Sec-Fetch-Site: cross-site"])
async def test_a_page_of_another_site_reads_no_stream(face, header):
    async with looking(face, header) as stream:
        assert "event-stream" not in stream.head

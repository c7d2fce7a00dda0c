"""The frame codec: the one thing that the simulator shares with us.

A frame is a JSON object with exactly `m` (int), `i` (int64), `n` (string) and `o` (string). `o` is itself a
JSON document written as a string, so it is encoded twice on the wire; on some errors it is bare text, which
is why a frame leaves it undecoded.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class ProtocolError(Exception):
    """The other side sent something that isn't the protocol. A sentence that holds nothing of the payload."""


class FrameType(IntEnum):
    """`m`: what a frame is."""

    REQUEST = 0
    REPLY = 1
    SUBSCRIBE = 2
    EVENT = 3
    UNSUBSCRIBE = 4
    ERROR = 5


class Frame(msgspec.Struct, frozen=True):
    """One message. `i` of an event is the server's own counter and may equal a request's number."""

    m: int
    i: int
    n: str
    o: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Frame)


def encode_frame(kind: FrameType, number: int, name: str, payload: str) -> bytes:
    """The bytes of one frame. `payload` is JSON text; an empty request is `{}`."""
    return _encoder.encode(Frame(m=int(kind), i=number, n=name, o=payload))


def decode_frame(data: bytes | str) -> Frame:
    """One frame, its payload undecoded.

    Raises ProtocolError for anything that isn't one: no JSON, a key missing, another type, an `m` that
    nobody knows, an `i` beyond int64, text that isn't UTF-8.
    """
    try:
        frame = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolError(f"not a frame: {type(error).__name__}") from None
    if not FrameType.REQUEST <= frame.m <= FrameType.ERROR:
        raise ProtocolError(f"a frame of unknown type {frame.m}")
    if not -(2**63) <= frame.i < 2**63:
        raise ProtocolError("a frame number beyond 64 bits")
    return frame

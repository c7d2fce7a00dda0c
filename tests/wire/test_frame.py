from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.wire.frame import Frame, FrameType, ProtocolError, decode_frame, encode_frame


def test_a_frame_has_exactly_the_four_keys_and_its_payload_is_encoded_twice():
    data = encode_frame(FrameType.REQUEST, 2, "CancelAllOrders", '{"OMSId":1}')
    assert data == rb'{"m":0,"i":2,"n":"CancelAllOrders","o":"{\"OMSId\":1}"}'


def test_a_frame_is_read_with_its_payload_undecoded():
    frame = decode_frame(rb'{"m":5,"i":4,"n":"Nothing","o":"Endpoint Not Found"}')
    assert frame == Frame(m=5, i=4, n="Nothing", o="Endpoint Not Found")


def test_keys_nobody_knows_and_white_space_do_no_harm():
    assert decode_frame(b' { "x" : [1], "o":"{}", "n":"Ping", "i":2, "m":1 } ').n == "Ping"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"Endpoint Not Found",
        b'{"m":1,"i":2,"n":"Ping"}',
        b'{"m":1,"i":2,"n":"Ping","o":{}}',
        b'{"m":1,"i":2,"n":"Ping","o":null}',
        b'{"m":"1","i":2,"n":"Ping","o":"{}"}',
        b'{"m":true,"i":2,"n":"Ping","o":"{}"}',
        b'{"m":6,"i":2,"n":"Ping","o":"{}"}',
        b'{"m":-1,"i":2,"n":"Ping","o":"{}"}',
        b'{"m":1,"i":9223372036854775808,"n":"Ping","o":"{}"}',
        b'{"m":1,"i":-9223372036854775809,"n":"Ping","o":"{}"}',
        b'{"m":1,"i":' + b"9" * 5000 + b',"n":"Ping","o":"{}"}',
        b'{"m":1,"i":2.5,"n":"Ping","o":"{}"}',
        b'{"m":1,"i":2,"n":"Ping","o":"{}"} trailing',
        b'{"m":1,"i":2,"n":"Ping","o":"\\ud800"}',
        b'{"m":1,"i":2,"n":"Ping","o":"\xff"}',
        b'{"x":' + b"[" * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_frame_is_a_protocol_error_that_holds_nothing_of_it(data):
    with pytest.raises(ProtocolError) as caught:
        decode_frame(data)
    assert len(str(caught.value)) < 60
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@given(st.sampled_from(FrameType), st.integers(-(2**63), 2**63 - 1), st.text(), st.text())
def test_every_frame_comes_back_as_it_was(kind, number, name, payload):
    sayable = (name + payload).encode("utf-8", "replace").decode() == name + payload
    if sayable:
        assert decode_frame(encode_frame(kind, number, name, payload)) == Frame(int(kind), number, name, payload)


@given(st.binary())
def test_no_bytes_raise_anything_but_a_protocol_error(data):
    with contextlib.suppress(ProtocolError):
        decode_frame(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.sampled_from("mino") | st.text(), s),
    )
)
def test_no_json_raises_anything_but_a_protocol_error(value):
    with contextlib.suppress(ProtocolError):
        decode_frame(json.dumps(value).encode())

"""Requests, and which answer belongs to which of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.scope import EVERY, Scope
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint import Conversation, EventFrame, Ignored, Reply
from killswitch.wire.frame import ProtocolError, decode_frame

# CancelAllOrders: the vendor's table with its own examples, user 37, account 14, instrument 25. An X is a
# key; what has no X is not there at all.
EIGHT_ROWS = [
    (14, 37, 25, '{"OMSId":1,"AccountId":14,"UserId":37,"InstrumentId":25}'),
    (14, 37, EVERY, '{"OMSId":1,"AccountId":14,"UserId":37}'),
    (EVERY, 37, 25, '{"OMSId":1,"UserId":37,"InstrumentId":25}'),
    (EVERY, 37, EVERY, '{"OMSId":1,"UserId":37}'),
    (14, EVERY, 25, '{"OMSId":1,"AccountId":14,"InstrumentId":25}'),
    (14, EVERY, EVERY, '{"OMSId":1,"AccountId":14}'),
    (EVERY, EVERY, 25, '{"OMSId":1,"InstrumentId":25}'),
    (EVERY, EVERY, EVERY, '{"OMSId":1}'),
]


@pytest.mark.parametrize(("account", "user", "instrument", "body"), EIGHT_ROWS)
def test_each_row_of_the_cancel_table_is_the_body_the_vendor_prints(account, user, instrument, body):
    scope = Scope(oms="prime", account=account, user=user, instrument=instrument)
    request = alphapoint.cancel_all_orders(1, scope)
    assert request.name == "CancelAllOrders"
    assert request.payload == body


def test_an_order_with_an_order_id_is_cancelled_by_that_alone():
    for account, client_order_id in ((14, 7), (14, None), (None, None), (None, 7)):
        request = alphapoint.cancel_order(1, account, 23092280996, client_order_id)
        assert (request.name, request.payload) == ("CancelOrder", '{"OMSId":1,"OrderId":23092280996}')


def test_a_server_that_refused_an_order_by_its_id_alone_is_told_all_that_names_it():
    for client, more in ((7, {"ClientOrderId": 7}), (None, {})):
        request = alphapoint.cancel_order(1, 14, 23092280996, client, fully=True)
        assert json.loads(request.payload) == {"OMSId": 1, "OrderId": 23092280996, "AccountId": 14} | more


def test_an_order_without_an_order_id_is_cancelled_by_account_and_client_order_id():
    request = alphapoint.cancel_order(1, 14, None, 7)
    assert request.payload == '{"OMSId":1,"AccountId":14,"ClientOrderId":7}'


@pytest.mark.parametrize(
    "parts",
    [
        (None, None, 7),
        (None, None, None),
        (14, None, None),
        (14, None, 0),
        (0, None, 7),
        (14, 0, 7),
        (14, True, None),
    ],
)
def test_a_cancel_that_does_not_name_one_order_is_not_built(parts):
    with pytest.raises(ValueError):
        alphapoint.cancel_order(1, *parts)


def test_an_oms_id_of_0_is_not_sent():
    with pytest.raises(ValueError):
        alphapoint.cancel_all_orders(0, Scope(oms="prime", account=14, user=EVERY, instrument=EVERY))


@pytest.mark.parametrize(
    ("request_", "name", "body"),
    [
        (alphapoint.get_open_orders(1, 14), "GetOpenOrders", '{"OMSId":1,"AccountId":14}'),
        (
            alphapoint.get_order_status(1, 14, 6562),
            "GetOrderStatus",
            '{"OMSId":1,"AccountId":14,"OrderId":6562}',
        ),
        (alphapoint.get_user_accounts(1, 37), "GetUserAccounts", '{"OMSId":1,"UserId":37}'),
        (alphapoint.get_account_positions(1, 14), "GetAccountPositions", '{"OMSId":1,"AccountId":14}'),
        (alphapoint.subscribe_account_events(1, 14), "SubscribeAccountEvents", '{"OMSId":1,"AccountId":14}'),
        (alphapoint.ping(), "Ping", "{}"),
        (
            alphapoint.sign_in_with_password("desk", 'pass"word\u00e9'),
            "AuthenticateUser",
            '{"UserName":"desk","Password":"pass\\"word\u00e9"}',
        ),
    ],
)
def test_the_other_requests_are_literally_these(request_, name, body):
    assert (request_.name, request_.payload) == (name, body)


def test_a_key_signs_in_with_the_signature_that_others_have_checked():
    request = alphapoint.sign_in_with_key("test_api_key", "test_secret_key", "001", "1234567890")
    assert request.name == "AuthenticateUser"
    assert request.payload == (
        '{"APIKey":"test_api_key",'
        '"Signature":"6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975",'
        '"UserId":"001","Nonce":"1234567890"}'
    )


def test_a_request_shown_in_a_traceback_holds_no_secret():
    request = alphapoint.sign_in_with_password("desk", "hunter2")
    assert "hunter2" not in repr(request)


# --- correlation -------------------------------------------------------------------------------------------


def answer(m: int, i: int, n: str, o: str = "{}") -> bytes:
    return json.dumps({"m": m, "i": i, "n": n, "o": o}).encode()


def test_requests_get_even_numbers_from_2_on():
    talk: Conversation[str] = Conversation()
    sent = [decode_frame(talk.ask(alphapoint.ping(), tag)) for tag in "abc"]
    assert [(frame.m, frame.i, frame.n, frame.o) for frame in sent] == [
        (0, 2, "Ping", "{}"),
        (0, 4, "Ping", "{}"),
        (0, 6, "Ping", "{}"),
    ]
    assert talk.pending() == ("a", "b", "c")


@pytest.mark.parametrize("m", [1, 5])
def test_an_answer_or_error_with_the_number_and_the_name_answers(m):
    talk: Conversation[str] = Conversation()
    talk.ask(alphapoint.ping(), "mine")
    heard = talk.hear(answer(m, 2, "Ping", "x"))
    assert isinstance(heard, Reply)
    assert (heard.tag, heard.frame.o) == ("mine", "x")
    assert talk.pending() == ()


def test_an_event_with_the_same_number_and_name_answers_nothing():
    talk: Conversation[str] = Conversation()
    talk.ask(alphapoint.get_open_orders(1, 14), "mine")
    assert isinstance(talk.hear(answer(3, 2, "GetOpenOrders", "[]")), EventFrame)
    assert talk.pending() == ("mine",)


@pytest.mark.parametrize(
    ("m", "i", "n"),
    [(1, 2, "Pong"), (1, 4, "Ping"), (5, 0, "Ping"), (0, 2, "Ping"), (2, 2, "Ping"), (4, 2, "Ping")],
)
def test_what_differs_in_type_number_or_name_is_ignored(m, i, n):
    talk: Conversation[str] = Conversation()
    talk.ask(alphapoint.ping(), "mine")
    assert isinstance(talk.hear(answer(m, i, n)), Ignored)
    assert talk.pending() == ("mine",)


def test_the_second_of_two_equal_answers_is_ignored():
    talk: Conversation[str] = Conversation()
    talk.ask(alphapoint.ping(), "mine")
    talk.hear(answer(1, 2, "Ping"))
    assert isinstance(talk.hear(answer(1, 2, "Ping")), Ignored)


def test_answers_in_another_order_find_their_requests():
    talk: Conversation[int] = Conversation()
    for account in (14, 15, 16):
        talk.ask(alphapoint.get_open_orders(1, account), account)
    heard = [talk.hear(answer(1, i, "GetOpenOrders", "[]")) for i in (6, 2, 4)]
    assert [reply.tag for reply in heard if isinstance(reply, Reply)] == [16, 14, 15]


def test_what_is_no_frame_changes_nothing():
    talk: Conversation[str] = Conversation()
    talk.ask(alphapoint.ping(), "mine")
    with pytest.raises(ProtocolError):
        talk.hear(b"Endpoint Not Found")
    assert talk.pending() == ("mine",)


@given(
    st.lists(
        st.binary(max_size=60)
        | st.builds(
            answer,
            st.integers(-1, 7),
            st.integers(-2, 12),
            st.sampled_from(["Ping", "GetOpenOrders", ""]),
            st.text(max_size=9).filter(lambda t: t.isprintable()),
        )
    )
)
def test_each_request_is_answered_once_at_most_whatever_comes(stream):
    talk: Conversation[int] = Conversation()
    for tag in range(4):
        talk.ask(alphapoint.ping(), tag)
    answered = []
    for data in stream:
        try:
            heard = talk.hear(data)
        except ProtocolError:
            continue
        if isinstance(heard, Reply):
            assert heard.frame.n == "Ping"
            assert heard.frame.m in {1, 5}
            assert heard.frame.i == 2 + 2 * heard.tag
            answered.append(heard.tag)
    assert sorted([*answered, *talk.pending()]) == [0, 1, 2, 3]

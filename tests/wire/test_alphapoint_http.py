"""What the gateway's answers over HTTP mean, and how one signs in there."""

from __future__ import annotations

import base64
import json

import pytest

from killswitch.domain.messages import AnswerKind
from killswitch.wire.alphapoint import sign_in_with_key, sign_in_with_password
from killswitch.wire.alphapoint_http import (
    TOKEN_MAX,
    Reply,
    as_frame,
    is_list,
    never_looked,
    no_session,
    read_token,
    sign_in_headers,
)
from killswitch.wire.alphapoint_replies import NotSignedIn, SignedIn, read_answer, read_sign_in

RECEIVED = '{"result":true,"errormsg":"","errorcode":0,"detail":""}'
NOT_AUTHORIZED = '{"result":false,"errormsg":"Not Authorized","errorcode":20,"detail":null}'


def test_an_api_key_signs_in_by_its_four_headers_as_the_published_example_has_them():
    headers = sign_in_headers(sign_in_with_key("test_api_key", "test_secret_key", "001", "1234567890"))
    assert headers == {
        "APIKey": "test_api_key",
        "Signature": "6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975",
        "UserId": "001",
        "Nonce": "1234567890",
    }


def test_a_password_signs_in_by_basic_authentication_whatever_letters_it_has():
    headers = sign_in_headers(sign_in_with_password("desk", "pä:ss€"))
    kind, _, value = headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(value).decode()) == ("Basic", "desk:pä:ss€")


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (200, RECEIVED, AnswerKind.RECEIVED),
        (201, RECEIVED, AnswerKind.UNCLEAR),
        (500, RECEIVED, AnswerKind.UNCLEAR),
        (404, RECEIVED, AnswerKind.UNCLEAR),
        (200, NOT_AUTHORIZED, AnswerKind.REFUSED),
        (403, NOT_AUTHORIZED, AnswerKind.REFUSED),
        (200, "TOO MANY REQUESTS", AnswerKind.UNCLEAR),
        (200, "true", AnswerKind.UNCLEAR),
        (200, "[]", AnswerKind.UNCLEAR),
        (200, "", AnswerKind.UNCLEAR),
        (404, "NOT FOUND", AnswerKind.UNCLEAR),
        (200, '{"errormsg":"This endpoint requires 2FACode along with the payload"}', AnswerKind.REFUSED),
    ],
)
def test_only_a_status_of_200_and_a_true_result_is_received(status, text, kind):
    assert read_answer(as_frame("CancelAllOrders", Reply(status, text))).kind is kind


def test_a_bare_text_is_told_with_its_status_and_not_at_length():
    answer = read_answer(as_frame("CancelAllOrders", Reply(502, "<html>" * 10_000)))
    assert answer.text.startswith("HTTP 502 <html>")
    assert len(answer.text) < 300


@pytest.mark.parametrize(
    ("status", "text", "gone"),
    [
        (404, "NOT FOUND", True),
        (401, "", True),
        (200, NOT_AUTHORIZED, True),
        (200, RECEIVED, False),
        (200, '{"result":false,"errormsg":"Server Error","errorcode":102}', False),
        (500, "", False),
        (200, "TOO MANY REQUESTS", False),
    ],
)
def test_what_can_mean_that_the_token_is_not_known(status, text, gone):
    assert no_session("CancelAllOrders", Reply(status, text)) is gone


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (429, "", "too many requests, it says"),
        (200, " Too many requests.", "too many requests, it says"),
        (302, "", "it points elsewhere (HTTP 302); not followed"),
        (404, "NOT FOUND", "HTTP 404"),
        (503, "", "HTTP 503"),
        (500, "", ""),
        (401, "", ""),
        (200, '{"Authenticated":false}', ""),
    ],
)
def test_a_sign_in_that_nobody_judged_is_told_from_one_that_was_refused(status, text, said):
    assert never_looked(Reply(status, text)) == said


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ({"SessionToken": "abc-1"}, "abc-1"),
        ({"sessionToken": "abc-1"}, "abc-1"),
        ({"SessionToken": None}, ""),
        ({"SessionToken": 7}, ""),
        ({"SessionToken": "a\r\nX: y"}, ""),
        ({"SessionToken": "ä"}, ""),
        ({"SessionToken": "x" * (TOKEN_MAX + 1)}, ""),
        ([], ""),
    ],
)
def test_a_token_is_what_can_stand_in_a_header(body, token):
    assert read_token(Reply(200, json.dumps(body))) == token


def test_a_sign_in_is_read_as_over_a_websocket():
    good = json.dumps({"Authenticated": True, "SessionToken": "t", "User": {"UserId": 37}})
    assert read_sign_in(as_frame("Authenticate", Reply(200, good))) == SignedIn(37)
    assert isinstance(read_sign_in(as_frame("Authenticate", Reply(500, good))), NotSignedIn)
    locked = json.dumps({"Authenticated": False, "Locked": True})
    assert "locked" in read_sign_in(as_frame("Authenticate", Reply(200, locked))).why


def test_a_list_shows_that_the_session_lives_even_where_its_end_was_cut_off():
    assert is_list(Reply(200, " [14, 15"))
    assert not is_list(Reply(200, RECEIVED))
    assert not is_list(Reply(500, "[]"))


def test_a_reply_and_its_token_stay_out_of_what_is_printed():
    assert "secret" not in repr(Reply(200, "secret"))

"""GetAccounts: the request, and what a page of it says; a row that can't be read never makes it look whole."""

from __future__ import annotations

import json

import pytest

from killswitch.domain.messages import Answer, AnswerKind
from killswitch.wire.alphapoint_accounts import Page, get_accounts, read_accounts
from killswitch.wire.frame import Frame


def frame(text: str, m: int = 1) -> Frame:
    return Frame(m, 2, "GetAccounts", text)


def test_a_page_is_asked_for_by_its_place_and_its_length():
    request = get_accounts(1, 500, 500)
    assert request.name == "GetAccounts"
    assert json.loads(request.payload) == {"OMSId": 1, "StartIndex": 500, "Limit": 500}


@pytest.mark.parametrize("wrong", [(0, 0, 1), (1, -1, 1), (1, 0, 0), (True, 0, 1), (2**63, 0, 1)])
def test_what_is_no_page_never_becomes_a_request(wrong):
    with pytest.raises(ValueError, match="OMSId"):
        get_accounts(*wrong)


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("[]", Page((), 0, 0)),
        ('[{"OMSID":1,"AccountId":14,"AccountName":"a"},{"accountId":"15"},{"ACCOUNTID":5000000000}]',
         Page((14, 15, 5_000_000_000), 3, 0)),
        ("[14,15,14]", Page((14, 15), 3, 0)),
        ('[{"AccountId":0},{"AccountId":null},{},null,true,-1,1.5,"x",[14],{"AccountId":14}]', Page((14,), 10, 9)),
        ('[{"AccountId":14,"accountid":15}]', Page((), 1, 1)),
    ],
)  # fmt: skip
def test_a_page_says_its_accounts_its_rows_and_what_cant_be_read(text, page):
    assert read_accounts(frame(text)) == page


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"result":false,"errormsg":"Not Authorized","errorcode":20,"detail":null}', AnswerKind.REFUSED),
        ('{"result":true,"errormsg":null,"errorcode":0,"detail":null}', AnswerKind.UNCLEAR),
        ('[{"AccountId":14}', AnswerKind.UNCLEAR),
        ("14", AnswerKind.UNCLEAR),
        ("", AnswerKind.UNCLEAR),
    ],
)
def test_what_is_no_array_is_no_page(text, kind):
    found = read_accounts(frame(text))
    assert isinstance(found, Answer)
    assert found.kind is kind


def test_an_array_in_a_frame_that_says_error_is_no_page():
    assert isinstance(read_accounts(frame("[14]", m=5)), Answer)

"""What a gateway tells of itself and of a credential, from literal frames."""

from __future__ import annotations

import json

import pytest

from killswitch.wire import alphapoint_credential as credential
from killswitch.wire.alphapoint_credential import Unknown, Version
from killswitch.wire.frame import decode_frame

NOT_AUTHORIZED = '{"result":false,"errormsg":"Not Authorized","errorcode":20,"detail":null}'


def reply(name, payload, m=1):
    return decode_frame(json.dumps({"m": m, "i": 2, "n": name, "o": payload}))


@pytest.mark.parametrize(
    ("request_", "name", "payload"),
    [
        (credential.get_oms_version(), "GetOMSVersion", "{}"),
        (credential.get_user_permissions(37), "GetUserPermissions", '{"UserId":37}'),
        (credential.get_second_factor_calls(), "GetValidate2FARequiredEndpoints", "{}"),
    ],
)
def test_each_request_is_what_the_documents_print(request_, name, payload):
    assert (request_.name, request_.payload) == (name, payload)


@pytest.mark.parametrize("user", [0, -1, True, 2**63])
def test_permissions_are_asked_for_a_user_and_nobody_else(user):
    with pytest.raises(ValueError, match="above 0"):
        credential.get_user_permissions(user)


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ('{"result":true,"errormsg":null,"errorcode":0,"detail":"4.3.65.1063"}', Version("4.3.65.1063", 4)),
        ('{"result":true,"errormsg":"","errorcode":0,"detail":"3.3.3"}', Version("3.3.3", 3)),
        ('{"Result":true,"ErrorMsg":"","ErrorCode":0,"Detail":"2.23"}', Version("2.23", 2)),
        ('"v3.5.0"', Version("v3.5.0", 3)),
    ],
)
def test_a_version_is_its_text_and_its_first_number(payload, found):
    assert credential.read_version(reply("GetOMSVersion", payload)) == found


@pytest.mark.parametrize(
    "payload",
    [
        '{"result":true,"errormsg":"","errorcode":0,"detail":""}',
        '{"result":true,"errormsg":"","errorcode":0,"detail":"four"}',
        '{"result":false,"errormsg":"Server Error","errorcode":102,"detail":"4.3.65"}',
        '{"result":true,"errormsg":"3","errorcode":0,"detail":"4.3"}',
        "4.3",
        "[]",
        "",
        NOT_AUTHORIZED,
    ],
)
def test_a_version_that_can_not_be_read_is_unknown(payload):
    assert isinstance(credential.read_version(reply("GetOMSVersion", payload)), Unknown)


@pytest.mark.parametrize("read", [credential.read_version, credential.read_permissions])
def test_a_call_that_the_server_does_not_have_is_told_from_a_refused_one(read):
    missing = read(reply("GetOMSVersion", "Endpoint Not Found", m=5))
    assert (missing.no_such_call, missing.why) == (True, "the server doesn't know the call")
    refused = read(reply("GetOMSVersion", NOT_AUTHORIZED))
    assert (refused.no_such_call, refused.why) == (False, "Not Authorized")


def test_permissions_come_as_the_server_spells_them():
    frame = reply("GetUserPermissions", '["Deposit", "Operator", "Trading", "Trading"]')
    assert credential.read_permissions(frame) == ("Deposit", "Operator", "Trading")
    assert credential.read_permissions(reply("GetUserPermissions", "[]")) == ()


@pytest.mark.parametrize("payload", ['["Trading", 5]', '["Trading", ""]', '{"0":"Trading"}', "null", "Trading"])
def test_permissions_that_can_not_be_read_are_unknown_and_never_none(payload):
    assert isinstance(credential.read_permissions(reply("GetUserPermissions", payload)), Unknown)


def test_an_array_in_an_error_frame_is_no_list():
    assert isinstance(credential.read_permissions(reply("GetUserPermissions", '["Trading"]', m=5)), Unknown)


def test_calls_that_want_a_code_are_compared_in_lower_case():
    frame = reply("GetValidate2FARequiredEndpoints", '["CreateWithdrawTicket", "CancelAllOrders", "cancelallorders"]')
    assert credential.read_second_factor_calls(frame) == ("createwithdrawticket", "cancelallorders")


def test_a_list_that_is_too_long_to_be_one_is_unknown():
    frame = reply("GetValidate2FARequiredEndpoints", json.dumps([f"call{n}" for n in range(501)]))
    assert isinstance(credential.read_second_factor_calls(frame), Unknown)

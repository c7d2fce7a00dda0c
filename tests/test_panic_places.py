"""What the board's button offers."""

from __future__ import annotations

from killswitch.config import load
from killswitch.panic_places import ACCOUNTS_MAX, panic_places

CONFIG = """
[daemon]
name = "ks-a"

[mqtt]
urls = ["mqtt://127.0.0.1:1883"]

[[oms]]
name = "prime"
oms_id = 1
gateways = ["ws://127.0.0.1:8087/WSGateway/"]
dialect = "v2"
user_id = 37
api_key = "k"
secret_file = "prime.secret"
accounts = [14, 15]
whole_oms = true

[[panic]]
name = "desk"
topic = "desk"
scope = { oms = "prime", account = 14 }

[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 30

[[rule]]
name = "each"
reading = "position"
kind = "limit"
above = 50
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "one"
reading = "position"
kind = "limit"
above = 50
scope = { oms = "prime", account = 15, instrument = 25 }
"""


def offered_by(folder, config):
    (folder / "killswitch.toml").write_text(config)
    secret = folder / "prime.secret"
    secret.write_text("s")
    secret.chmod(0o600)
    return panic_places(load(folder / "killswitch.toml", {}))


def test_of_very_many_accounts_the_first_are_offered(tmp_path):
    offered = offered_by(tmp_path, CONFIG.replace("[14, 15]", str(list(range(14, 1014)))))
    assert len([place for place in offered if place["name"] == "account"]) <= ACCOUNTS_MAX
    assert offered[-1]["name"] == "whole OMS"


def test_panics_fixed_rules_and_accounts_are_offered_each_scope_once(tmp_path):
    offered = offered_by(tmp_path, CONFIG)
    assert [(place["name"], place["words"]) for place in offered] == [
        ("panic: desk", "prime: account 14, all users, all instruments"),
        ("rule: one", "prime: account 15, instrument 25, all users"),
        ("account", "prime: account 15, all users, all instruments"),
        ("whole OMS", "prime: all accounts, all users, all instruments"),
    ]
    assert offered[1]["scope"] == {"oms": "prime", "account": 15, "instrument": 25}
    assert offered[3]["scope"] == {"oms": "prime", "account": "every"}

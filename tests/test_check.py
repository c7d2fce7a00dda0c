"""What `check` prints of a sound configuration: what rules watch and cancel, what is covered, what to know."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pytest

from killswitch.config import load
from killswitch.inventory import WIDTH, describe, render, render_mistakes
from tests.test_config import NONE, changed, toml_text

SAMPLE = Path(__file__).parents[1] / "config" / "killswitch.toml"
QOS = (
    "Panic desk-button: a press with QoS 0 is lost while the daemon is away; set the device to QoS 1, which a "
    "broker keeps for it."
)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "prime.secret").write_text("kept-from-everyone\n")
    (tmp_path / "prime.secret").chmod(0o600)
    return tmp_path


def inventory(home, *changes, tables=None):
    file = home / "killswitch.toml"
    file.write_text(toml_text(changed(*changes) if tables is None else tables), "utf-8")
    return describe(load(file, {}))


def test_each_rule_says_what_it_watches_and_what_it_would_cancel(home):
    btc, var = inventory(home).rules
    assert btc.watches == "position with product BTC, from feed positions"
    assert btc.trips == "when the size of position is above 50.0"
    assert btc.cancels == "prime: the account in the reading's label account, all users, all instruments"
    assert (btc.owner, btc.when_stale, btc.when_bad) == ("risk desk", "warns", "warns")
    assert var.watches == "var, from feed var"
    assert var.trips == "when var is above 250000 for 2 s"
    assert var.when_stale == ("trips; where no series is known, cancels prime: account 14, all users, all instruments")


def test_below_and_ids_in_a_scope_are_put_into_words(home):
    rule = inventory(
        home,
        ("rule", 0, "above", NONE),
        ("rule", 0, "below", Decimal("-0.5")),
        ("rule", 0, "absolute", False),
        ("rule", 0, "scope", {"oms": "prime", "account": 14, "instrument": 25}),
    ).rules[0]
    assert rule.trips == "when position is below -0.5"
    assert rule.cancels == "prime: account 14, instrument 25, all users"


def test_each_button_says_what_presses_it(home):
    (panic,) = inventory(home).panics
    assert panic.presses == 'a payload with "action" = "emergency"'
    assert panic.cancels == "prime: account 14, all users, all instruments"
    assert inventory(home, ("panic", 0, "match", "a\x1b[2J")).panics[0].presses == r'the payload "a\u001b[2J"'
    assert inventory(home, ("panic", 0, "match", NONE)).panics[0].presses == "any payload that isn't empty"


def test_each_account_says_what_reaches_it_whole_and_in_part(home):
    tables = changed(("oms", 0, "accounts", [14, 15, 16]))
    tables["rule"][0]["where"] = {"account": 14}
    tables["rule"][1]["scope"] = {"oms": "prime", "account": "{account}", "instrument": "{instrument}"}
    (oms,) = inventory(home, tables=tables).oms
    assert [(lines.account, lines.whole, lines.partly) for lines in oms.accounts] == [
        (14, ("rule btc-position", "panic desk-button"), ("rule var-limit",)),
        (15, (), ("rule var-limit",)),
        (16, (), ("rule var-limit",)),
    ]
    assert oms.uncovered == ()
    assert (
        "OMS prime: account 15 is covered for some users or instruments only, by rule var-limit."
        in inventory(home, tables=tables).findings
    )


def test_accounts_that_nothing_covers_are_a_finding(home):
    tables = changed(("rule", []))
    found = inventory(home, tables=tables)
    assert found.oms[0].uncovered == (15,)
    assert found.findings == (
        "There are no rules: nothing trips by itself, the daemon works for commands alone.",
        "OMS prime: no rule and no panic covers account 15; only a command or a signal cancels there.",
    )
    tables["panic"] = []
    tables["oms"][0]["accounts"] = list(range(1, 13))
    assert (
        "OMS prime: no rule and no panic covers accounts 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more; only a command "
        "or a signal cancels there."
    ) in inventory(home, tables=tables).findings


def test_the_sample_with_a_private_secret_exits_0_and_a_finding_makes_it_1(home):
    (home / "killswitch.toml").write_bytes(SAMPLE.read_bytes())
    sample = describe(load(home / "killswitch.toml", {}))
    assert (sample.findings, sample.exit_code) == ((), 0)
    found = inventory(home, ("rule", 0, "on_stale", "ignore"))
    assert (len(found.findings), found.exit_code) == (1, 1)


def test_a_rule_in_shadow_covers_nothing_and_a_daemon_in_shadow_is_a_finding(home):
    found = inventory(home, ("rule", 0, "mode", "shadow"), ("panic", []))
    assert found.rules[0].mode == "shadow"
    text = " ".join(render(found).split())
    assert "Rule btc-position (owner: risk desk), in shadow" in text
    assert "cancels nothing, in shadow; were it live: prime" in text
    assert "Rule btc-position is in SHADOW" in text
    assert all("rule btc-position" not in account.whole for oms in found.oms for account in oms.accounts)
    assert found.mode == "live"
    dark = inventory(home, ("daemon", "mode", "shadow"))
    assert dark.mode == "shadow"
    assert dark.exit_code == 1
    assert "nothing is cancelled" in dark.findings[0]
    assert "in SHADOW: nothing is cancelled" in render(dark)


def test_that_qos_0_presses_get_lost_is_a_remark_which_nobody_can_mend_here(home):
    assert inventory(home).remarks == (QOS,)
    assert inventory(home, ("panic", [])).remarks == ()


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (
            [("mqtt", "urls", [])],
            "There is no broker: commands come over HTTP and by signal only, and no panic topic is heard.",
        ),
        (
            [("http", "listen", "0.0.0.0:9464")],
            (
                "HTTP listens on an address that isn't loopback: commands are answered with 403 there, since they "
                "can't be signed yet; metrics and state are open to whoever reaches it."
            ),
        ),
        (
            [("mqtt", "urls", ["mqtt://broker.example"])],
            "Broker broker.example:1883: commands and passwords cross the network unencrypted (mqtt://).",
        ),
        (
            [("oms", 0, "gateways", ["ws://oms.example/WSGateway/"])],
            "OMS prime: the sign-in to oms.example:80 crosses the network unencrypted (ws://).",
        ),
        (
            [("oms", 0, "http", "http://oms.example:8088/AP")],
            "OMS prime: the sign-in to oms.example:8088/AP crosses the network unencrypted (http://).",
        ),
        (
            [("feed", 2, "url", "ws://risk.example/stream")],
            (
                "Feed desk-risk: its readings come from risk.example:80 unencrypted (ws://): who sits on that "
                "network can feign them."
            ),
        ),
        (
            [("panic", 0, "scope", "account", 41)],
            "Panic desk-button: account 41 isn't in the list of accounts of OMS prime; one of the two is wrong.",
        ),
        (
            [("rule", 1, "fallback", "account", 41)],
            "Rule var-limit, fallback: account 41 isn't in the list of accounts of OMS prime; one of the two is wrong.",
        ),
        (
            [("rule", 0, "reading", "trade"), ("rule", 0, "where", NONE)],
            "Rule btc-position: trade is an event; a limit sees one at a time, rate and ratio count them.",
        ),
        (
            [("rule", 0, "on_stale", "ignore")],
            "Rule btc-position: when its feed falls silent nothing happens (on_stale).",
        ),
    ],
)
def test_what_somebody_should_know_is_a_sentence(home, changes, finding):
    assert finding in inventory(home, *changes).findings


def test_readings_of_another_oms_that_meet_a_rule_s_template_are_a_finding(home):
    tables = changed()
    tables["oms"].append({**tables["oms"][0], "name": "backup"})
    tables["feed"].append({**tables["feed"][0], "name": "backup-positions", "oms": "backup"})
    assert (
        "Rule btc-position: position comes from OMS backup as well, whose ids mean other accounts than at OMS "
        "prime; give the rule a where that tells them apart."
    ) in inventory(home, tables=tables).findings


def test_a_secret_that_everyone_on_the_host_can_read_is_a_finding(home):
    (home / "prime.secret").chmod(0o644)
    assert (
        f'oms "prime".secret_file: everyone on this host can read the file {home}/prime.secret; chmod 600 closes it.'
        in inventory(home).findings
    )


def test_the_text_fits_80_columns_and_holds_no_secret(home):
    text = render(inventory(home))
    assert max(len(line) for line in text.splitlines() if str(home) not in line) <= WIDTH
    assert "kept-from-everyone" not in text
    assert tomllib.loads(SAMPLE.read_text("utf-8"))["oms"][0]["api_key"] not in text
    for words in (
        "Rule btc-position (owner: risk desk)",
        "  account 15  rule btc-position, rule var-limit\n",
        "  dialect     v2, which is told account, user, instrument\n",
        "  whole OMS   a scope without account and user is not allowed (whole_oms)\n",
        "\nNo findings.\n\nGood to know:\n- Panic desk-button: a press with QoS 0 is lost",
    ):
        assert words in text
    assert render(inventory(home, ("panic", []))).endswith("\nNo findings.\n")


def test_a_dialect_that_is_found_says_what_each_would_do(home):
    text = " ".join(render(inventory(home, ("oms", 0, "dialect", "auto"))).split())
    assert "dialect found at each sign-in. Until a server tells its version: v3, which is told account;" in text
    assert "v2, which is told account, user, instrument; v4, which is told account, instrument;" in text


@pytest.mark.parametrize(
    ("keys", "covers", "hidden"),
    [
        ((), "orders", "quotes and block trades out of its list of orders, and quotes and block_trades ask"),
        (("quotes",), "orders, quotes", "block trades out of its list of orders, and block_trades asks"),
        (("quotes", "block_trades"), "orders, quotes, block trades", ""),
    ],
)
@pytest.mark.parametrize("dialect", ["v4", "auto"])
def test_it_is_said_what_verified_speaks_of_where_servers_hide_something(home, keys, covers, hidden, dialect):
    asked = [("oms", 0, key, True) for key in keys]
    found = inventory(home, ("oms", 0, "dialect", dialect), *asked)
    assert found.oms[0].covers == covers
    assert found.exit_code == 0
    about = [remark for remark in found.remarks if "VERIFIED" in remark]
    sentence = f"OMS prime: VERIFIED speaks of {covers} only: a v4 server leaves {hidden} for them when true."
    assert about == ([sentence] if hidden else [])
    costs = [remark for remark in found.remarks if "calls_per_minute = 400" in remark]
    assert len(costs) == ("quotes" in keys)
    assert f"VERIFIED speaks of {covers}" in render(found)


def test_an_older_server_lists_all_of_it_among_its_orders_and_nothing_is_said(home):
    assert inventory(home).remarks == (QOS,)


def test_accounts_that_are_discovered_are_said_to_be(home):
    found = inventory(home, ("oms", 0, "accounts", "discover"))
    text = " ".join(render(found).split())
    assert "accounts asked of the OMS at each sign-in, with each snapshot and by each sweep of all of them" in text
    assert "VERIFIED only where the OMS lists all of them in that very sweep" in text
    assert (found.oms[0].discover, found.oms[0].accounts, found.oms[0].uncovered) == (True, (), ())
    assert not any("isn't in the list of accounts" in finding for finding in found.findings)


def test_the_inventory_is_json_as_it_is(home):
    found = inventory(home)
    again = json.loads(json.dumps(asdict(found)))
    assert again["oms"][0]["accounts"][0]["account"] == 14
    assert (again["findings"], again["remarks"]) == ([], [QOS])
    assert again["fingerprint"] == found.fingerprint


def test_mistakes_are_listed_one_under_the_other():
    text = render_mistakes(("daemon.name: it is required", "x: " + "word " * 30))
    assert text.startswith("2 mistakes in the configuration:\n- daemon.name: it is required\n- x: word")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert render_mistakes(("a: b",)) == "1 mistake in the configuration:\n- a: b\n"

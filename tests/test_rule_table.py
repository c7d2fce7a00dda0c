"""What `check --inventory` prints: a row a rule, for a terminal of 80 columns and for machines."""

from __future__ import annotations

import json
from decimal import Decimal

from click.testing import CliRunner

from killswitch.cli import cli
from killswitch.config import load
from killswitch.rule_table import render, rows
from tests.test_config import NONE, changed, toml_text


def written(home, *changes):
    (home / "prime.secret").write_text("kept-from-everyone\n")
    (home / "prime.secret").chmod(0o600)
    file = home / "killswitch.toml"
    file.write_text(toml_text(changed(*changes)), "utf-8")
    return file


def test_each_rule_says_its_risk_its_limit_what_it_does_its_scope_and_its_owner(tmp_path):
    file = written(
        tmp_path,
        ("rule", 0, "warn_at", [Decimal("0.5"), Decimal("0.9")]),
        ("rule", 1, "owner", NONE),
        ("rule", 1, "scope", {"oms": "prime", "account": 14, "instrument": 25}),
    )
    btc, var = rows(load(file, {}))
    assert (btc.rule, btc.kind, btc.risk, btc.limit) == (
        "btc-position",
        "limit",
        "position, product BTC",
        "above 50.0 in size",
    )
    assert (btc.warns, btc.acts, btc.scope, btc.owner) == (
        "at 50, 90 % of the limit",
        "cancels",
        "prime: account {account}",
        "risk desk",
    )
    assert (btc.when_stale, btc.when_bad) == ("warn", "warn")
    assert (var.scope, var.owner, var.when_stale) == ("prime: account 14, instrument 25", "", "trip")


def test_it_fits_80_columns_loses_no_word_and_names_the_rules_that_nobody_owns(tmp_path):
    long = "a-rule-with-the-longest-name-there-can-be"[:40]
    file = written(tmp_path, ("rule", 0, "name", long), ("rule", 1, "owner", NONE))
    text = render(load(file, {}))
    assert max(len(line) for line in text.splitlines()[3:]) <= 80
    assert long in "".join(line[:14].strip() for line in text.splitlines()[3:])
    assert "(nobody)" in text
    assert "Nobody is named as the owner of: var-limit." in text


def test_without_rules_it_says_so(tmp_path):
    assert render(load(written(tmp_path, ("rule", [])), {})).endswith("There are no rules.\n")


def test_the_command_prints_text_or_json_and_ends_with_0_or_with_2_for_mistakes(tmp_path):
    file = written(tmp_path)
    run = CliRunner().invoke
    plain = run(cli, ["check", "--inventory", "--config", str(file)])
    assert (plain.exit_code, "Risk" in plain.stdout) == (0, True)
    machine = run(cli, ["check", "--inventory", "--json", "--config", str(file)])
    assert [row["rule"] for row in json.loads(machine.stdout)["rules"]] == ["btc-position", "var-limit"]
    file.write_text("[daemon]\nname = 1\n")
    assert run(cli, ["check", "--inventory", "--config", str(file)]).exit_code == 2


def test_a_rule_in_shadow_acts_in_shadow_and_a_daemon_says_so_in_its_head(tmp_path):
    config = load(written(tmp_path, ("rule", 0, "mode", "shadow"), ("daemon", "mode", "shadow")), {})
    assert [row.acts for row in rows(config)] == ["shadow", "cancels"]
    assert "in SHADOW: nothing is cancelled" in render(config)

"""Reading the configuration: each rule with the exact place and sentence, and nothing of the input in any of them."""

from __future__ import annotations

import json
import os
import random
import tomllib
from contextlib import suppress
from copy import deepcopy
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from killswitch.config import DEFAULT_PATH, ConfigError, find_config, load, load_rules
from killswitch.config.models import ARRAYS, MODELS, RULE_KINDS, SINGLE, Tables
from killswitch.config.tables import KeySignIn, PasswordSignIn
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import (
    ConfirmPolicy,
    DeadmanRule,
    DrawdownRule,
    Label,
    OnUnknown,
    RateRule,
    RatioRule,
    RetryPolicy,
    ScopeTemplate,
    SilenceRule,
    StaleRule,
)
from killswitch.inventory import describe, render
from killswitch.wire.feed import HeartShape, StreamHeart

SAMPLE = Path(__file__).parents[1] / "config" / "killswitch.toml"
NONE = object()  # in `changed`: take the key out


@pytest.fixture
def home(tmp_path):
    (tmp_path / "prime.secret").write_text("kept-from-everyone\n")
    (tmp_path / "prime.secret").chmod(0o600)
    return tmp_path


def sample():
    return tomllib.loads(SAMPLE.read_text("utf-8"), parse_float=Decimal)


def value_text(value):
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value).replace("\\u007f", "\x7f")
        case list():
            return "[" + ", ".join(value_text(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(k)} = {value_text(v)}" for k, v in value.items()) + "}"
        case Decimal() if not value.is_finite():
            return str(value).lower().replace("infinity", "inf")
        case float() | Decimal():
            return format(Decimal(value), "f") if "." in format(Decimal(value), "f") else f"{value:f}.0"
        case _:
            return str(value)


def toml_text(tables):
    return "".join(f"{json.dumps(key)} = {value_text(value)}\n" for key, value in tables.items())


def changed(*changes):
    """The sample with changes: (path…, value); NONE takes a key out."""
    tables = sample()
    for *path, last, value in changes:
        there = tables
        for part in path:
            there = there[part] if not isinstance(there, dict) or part in there else there.setdefault(part, {})
        if value is NONE:
            del there[last]
        else:
            there[last] = value
    return tables


def read(home, tables, env=None):
    file = home / "killswitch.toml"
    file.write_text(tables if isinstance(tables, str) else toml_text(tables), "utf-8")
    return load(file, env or {})


def said(home, tables, env=None):
    """The mistakes, none where it loads; anything but a ConfigError goes up."""
    try:
        config = read(home, tables, env)
    except ConfigError as error:
        return list(error.mistakes)
    assert config.settings("b").sites
    assert config.fingerprint()
    assert render(describe(config))
    return []


def mistakes(home, tables, env=None):
    with pytest.raises(ConfigError) as caught:
        read(home, tables, env)
    assert caught.value.mistakes
    return list(caught.value.mistakes)


# --- what comes out -----------------------------------------------------------------------------------------


def test_the_sample_loads_cleanly_and_says_what_it_says(home):
    config = read(home, SAMPLE.read_text("utf-8"))
    assert config.daemon.name == "ks-a"
    assert (config.http.host, config.http.port, config.http.loopback) == ("127.0.0.1", 9464, True)
    assert [broker.address for broker in config.mqtt.brokers] == ["127.0.0.1:1883"]
    assert config.oms[0].sign_in == KeySignIn(
        user_id=37, api_key="put the public part of the API key here", secret="kept-from-everyone"
    )
    assert config.oms[0].gateways[0].address == "127.0.0.1:8087"
    assert config.panics[0].match == (("action", "emergency"),)
    assert config.panics[0].scope == Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
    settings = config.settings("boot-1")
    assert settings.boot == "boot-1"
    assert settings.sites[0].accounts == (14, 15)
    assert settings.sites[0].gateways == ("127.0.0.1:8087",)
    feeds = [("positions", "oms"), ("var", "mqtt"), ("desk-risk", "websocket")]
    assert [(feed.name, feed.kind) for feed in settings.feeds] == feeds
    btc, var = settings.rules
    assert btc.warn_at == (Decimal("0.5"), Decimal("0.75"), Decimal("0.9"))
    assert "at 50, 75, 90 % of the limit" in render(describe(config))
    assert (btc.above, btc.below, btc.absolute) == (Decimal("50.0"), None, True)
    assert btc.where == (("product", "BTC"),)
    assert btc.scope == ScopeTemplate(oms="prime", account=Label("account"))
    assert var.on_stale is OnUnknown.TRIP
    assert var.fallback == Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
    assert config.feeds[1].shape.subscription == "risk/+/var"
    stream = config.feeds[2].stream
    assert (stream.url, stream.address) == ("wss://risk.example/stream", "risk.example:443")
    assert stream.subscribe == ('{"op":"subscribe","channel":"margin"}',)
    assert dict(stream.shape.labels) == {"account": "data.positions.acct"}
    assert config.notes() == ()


def test_the_sample_shows_every_key_and_its_default(home):
    text = SAMPLE.read_text("utf-8")
    for words, model in MODELS.items():
        if words == () or words[-1] in ("scope", "fallback"):
            continue
        for key in model.model_fields:
            if key not in ("username", "password_file", "below"):
                assert f"\n{key} = " in text or f"\n# {key} = " in text, (words, key)
    for section, model in SINGLE.items():
        shown = sample()[section]
        for key, field in model.model_fields.items():
            if key in shown and not field.is_required():
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                same = float(shown[key]) if isinstance(shown[key], Decimal) else shown[key]
                assert same == default, (section, key)


@pytest.mark.parametrize(
    ("more", "trips"),
    [
        ({}, "when more than 3 readings of position come in 10 s"),
        ({"sum": True}, "when the readings of position in 10 s add up to more than 3"),
    ],
)
def test_a_rule_of_the_kind_rate_comes_out_as_it_was_written(home, more, trips):
    config = read(home, changed(("rule", 0, RATE | more)))
    rule = config.rules[0]
    assert isinstance(rule, RateRule)
    assert (rule.kind, rule.above, rule.per_s, rule.sum) == ("rate", Decimal(3), 10.0, bool(more))
    assert (rule.reading, rule.on_stale, rule.fallback) == ("position", OnUnknown.WARN, None)
    assert describe(config).rules[0].trips == trips


def test_a_rule_of_the_kind_drawdown_comes_out_as_it_was_written(home):
    config = read(home, changed(("rule", 0, DRAWDOWN | {"fall": Decimal("2.5")})))
    rule = config.rules[0]
    assert isinstance(rule, DrawdownRule)
    assert (rule.kind, rule.reading, rule.fall, rule.window_s) == ("drawdown", "position", Decimal("2.5"), 3600.0)
    assert describe(config).rules[0].trips == "when position is 2.5 or more under its highest in 3600 s"


def test_a_rule_of_the_kind_stale_is_about_a_reading_s_series_or_about_a_feed(home):
    config = read(home, changed(("rule", [OLD, FEED_OLD | {"name": "all"}])))
    series, feed = config.rules
    assert series == StaleRule(
        name="btc-position",
        owner="",
        scope=ScopeTemplate(oms="prime", account=Label("account")),
        reading="position",
        where=(),
        on_stale=OnUnknown.WARN,
        on_bad=OnUnknown.WARN,
        fallback=None,
        older_than_s=60.0,
    )
    assert feed == SilenceRule(
        name="all", owner="", scope=ScopeTemplate(oms="prime", account=14), feed="var", older_than_s=60.0
    )
    of_series, of_feed = describe(config).rules
    assert of_series.trips == "when a series of position that was heard isn't any more for 60 s"
    assert (of_feed.watches, of_feed.trips) == ("feed var as a whole", "when nothing of it is heard for 60 s")
    assert "bad value" not in render(describe(config)).split("Rule all")[1].split("Panic")[0]


@pytest.mark.parametrize(
    ("more", "at_least", "trips"),
    [
        ({}, 1, "when in 60 s there are more than 0.5 readings of hold to each of position"),
        (
            {"at_least": 20},
            20,
            "when in 60 s there are more than 0.5 readings of hold to each of position, of which 20 or more came",
        ),
    ],
)
def test_a_rule_of_the_kind_ratio_comes_out_as_it_was_written(home, more, at_least, trips):
    config = read(home, changed(("rule", 0, RATIO | more)))
    rule = config.rules[0]
    assert isinstance(rule, RatioRule)
    assert (rule.kind, rule.reading, rule.over, rule.above) == ("ratio", "hold", "position", Decimal("0.5"))
    assert (rule.window_s, rule.at_least) == (60.0, at_least)
    lines = describe(config).rules[0]
    assert (lines.watches, lines.trips) == ("hold and position, from feed positions", trips)


def test_a_rule_of_the_kind_deadman_comes_out_as_it_was_written(home):
    scope = {"oms": "prime", "account": 15}
    more = DEAD | {"name": "more", "arm": "first", "on_stale": "trip", "fallback": scope}
    config = read(home, changed(("rule", [DEAD, more])))
    first, second = config.rules
    template = ScopeTemplate(oms="prime", account=14)
    assert first == DeadmanRule(name="btc-position", owner="", scope=template, feed="var", silent_s=30.0)
    assert (first.arm, first.on_stale, first.fallback) == ("start", OnUnknown.WARN, None)
    assert (second.arm, second.on_stale) == ("first", OnUnknown.TRIP)
    assert second.fallback == Scope(oms="prime", account=15, user=EVERY, instrument=EVERY)
    lines, other = describe(config).rules
    assert lines.trips == "when no beat of it is heard for 30 s, from the start on"
    assert lines.when_stale == "warns, when our own link is down so that nobody knows"
    assert other.trips == "when no beat of it is heard for 30 s, once it was heard for the first time"
    assert other.when_stale.startswith("trips, cancels prime: account 15")
    loud = read(home, changed(("rule", [DEAD | {"on_stale": "ignore"}])))
    assert any("while our own link to feed var is down nothing happens" in f for f in describe(loud).findings)


def test_a_feed_without_a_reading_is_a_heart(home):
    mqtt = {"name": "m", "kind": "mqtt", "topic": "traders/1/beat", "stale_after_s": 5}
    stream = {"name": "w", "kind": "websocket", "url": "wss://h/ws", "stale_after_s": 5}
    config = read(home, changed(("feed", [mqtt, stream]), ("rule", [DEAD | {"feed": "m"}])))
    assert config.feeds[0].shape == HeartShape(name="m", topic="traders/1/beat")
    assert config.feeds[1].stream.shape == StreamHeart(name="w")
    assert [feed.spec.reading for feed in config.feeds] == [None, None]


def test_events_of_an_oms_pair_with_what_has_their_account_and_what_the_rule_names(home):
    row = RATIO | {"reading": "reject", "over": "margin_usage", "where": {"account": 14}}
    assert read(home, changed(("rule", 0, row))).rules[0].reads == ("reject", "margin_usage")


@pytest.mark.parametrize("kind", ["rate", "drawdown", "ratio"])
def test_rules_of_every_kind_with_a_limit_warn_before_it(home, kind):
    row = {"rate": RATE, "drawdown": DRAWDOWN, "ratio": RATIO}[kind] | {"warn_at": [Decimal("0.5"), Decimal("0.9")]}
    config = read(home, changed(("rule", 0, row)))
    assert config.rules[0].warn_at == (Decimal("0.5"), Decimal("0.9"))
    assert describe(config).rules[0].warns == "at 50, 90 % of the limit"


def test_a_short_configuration_has_the_contract_s_defaults(home):
    config = read(
        home,
        '[daemon]\nname = "a"\n[[oms]]\nname = "prime"\noms_id = 1\ngateways = ["wss://h/ws"]\ndialect = "v2"\n'
        'username = "u"\npassword_file = "prime.secret"\naccounts = [1]\n',
    )
    assert config.daemon.journal == "sqlite:///killswitch.db"
    assert (config.daemon.unreadable_journal, config.daemon.sweep_on_stop) == ("refuse", False)
    assert config.mqtt.prefix == "killswitch"
    assert config.confirm == ConfirmPolicy()
    assert config.retry == RetryPolicy()
    assert (config.commands.unsigned_trip, config.commands.reset_signatures) == (True, 0)
    assert config.oms[0].sign_in == PasswordSignIn(username="u", password="kept-from-everyone")
    assert config.oms[0].gateways[0].address == "h:443"
    assert config.oms[0].calls_per_minute == 400
    assert config.notes() == ("There are no rules: nothing trips by itself, the daemon works for commands alone.",)


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ("50", "50"),
        ("50.0", "50"),
        ("5e1", "50"),
        ("0.1", "0.1"),
        ("-0.000000000000000000000000001", "-0.000000000000000000000000001"),
        ("79228162514264337593543950335.5", "79228162514264337593543950335.5"),
        ("1_000.5", "1000.5"),
    ],
)
def test_a_limit_is_exactly_the_decimal_that_the_file_shows(home, written, exact):
    text = SAMPLE.read_text("utf-8").replace("above = 50.0", f"above = {written}")
    assert read(home, text).rules[0].above == Decimal(exact)


def test_the_fingerprint_is_of_what_is_meant_not_of_how_it_is_written_and_holds_no_secret(home):
    one = read(home, changed(("rule", 0, "above", Decimal("50.0"))))
    same = read(home, changed(("rule", 0, "above", 50), ("rule", 0, "for_s", NONE), ("oms", 0, "api_key", "b")))
    (home / "prime.secret").write_text("another")
    still = read(home, changed())
    other = read(home, changed(("rule", 0, "above", 51)))
    assert one.fingerprint() == same.fingerprint() == still.fingerprint() != other.fingerprint()
    assert len(one.fingerprint()) == 12
    assert int(one.fingerprint(), 16) >= 0


def test_a_relative_journal_lies_in_the_state_directory_else_beside_the_configuration(home):
    config = read(home, changed())
    assert config.journal_path({}) == home / "killswitch.db"
    assert config.journal_path({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == Path("/var/lib/a/killswitch.db")
    config = read(home, changed(("daemon", "journal", "sqlite:////srv/k.db")))
    assert config.journal_path({"STATE_DIRECTORY": "/var/lib/a"}) == Path("/srv/k.db")


def test_a_recording_lies_where_the_journal_does_and_there_is_none_unless_it_is_named(home):
    assert read(home, changed()).record_path({}) is None
    config = read(home, changed(("daemon", "record", "readings.jsonl")))
    assert config.record_path({}) == home / "readings.jsonl"
    assert config.record_path({"STATE_DIRECTORY": "/var/lib/a"}) == Path("/var/lib/a/readings.jsonl")
    same = changed(("daemon", "journal", "sqlite:///a.jsonl"), ("daemon", "record", "a.jsonl"))
    assert mistakes(home, same) == ["daemon.record: it is the journal's file"]


def test_rules_are_read_without_the_files_that_hold_secrets_and_with_every_other_check(home):
    (home / "prime.secret").unlink()
    with pytest.raises(ConfigError):
        read(home, changed())
    file = home / "killswitch.toml"
    rules = load_rules(file, {})
    assert [rule.name for rule in rules.rules] == [row["name"] for row in sample()["rule"]]
    assert [feed.name for feed in rules.feeds] == [row["name"] for row in sample()["feed"]]
    file.write_text(toml_text(changed(("rule", 0, "above", "x"), ("oms", 0, "secret_file", NONE))), "utf-8")
    with pytest.raises(ConfigError) as error:
        load_rules(file, {})
    assert [m.partition(":")[0] for m in error.value.mistakes] == [
        'oms "prime".secret_file',
        'rule "btc-position".above',
    ]


def test_the_option_comes_before_the_variable_and_the_variable_before_etc():
    env = {"KILLSWITCH_CONFIG": "/b"}
    assert find_config("/a", env) == Path("/a")
    assert find_config(None, env) == Path("/b")
    assert find_config(None, {}) == DEFAULT_PATH == Path("/etc/killswitch/killswitch.toml")


def test_no_broker_is_allowed_and_said(home):
    for urls in ([], "", [""]):
        config = read(home, changed(("mqtt", "urls", urls)))
        assert config.mqtt.brokers == ()
        assert config.notes() == (
            "There is no broker: commands come over HTTP and by signal only, and no panic topic is heard.",
        )


def test_tls_and_the_port_come_from_the_broker_s_address(home):
    for url, shown in (
        ("mqtts://broker.example", ("broker.example", 8883, True, "broker.example:8883")),
        ("mqtt://[::1]:1884/", ("::1", 1884, False, "[::1]:1884")),
    ):
        (broker,) = read(home, changed(("mqtt", "urls", [url]))).mqtt.brokers
        assert (broker.host, broker.port, broker.tls, broker.address) == shown


def test_a_match_can_be_the_whole_payload_or_be_left_out(home):
    assert read(home, changed(("panic", 0, "match", "PRESS"))).panics[0].match == "PRESS"
    assert read(home, changed(("panic", 0, "match", NONE))).panics[0].match is None
    assert read(home, changed(("panic", 0, "match", {"n": 1, "b": True}))).panics[0].match == (
        ("b", True),
        ("n", 1),
    )


def test_every_can_be_said_for_any_part_and_a_where_s_integers_become_text(home):
    scope = {"oms": "prime", "account": "{account}", "user": "every", "instrument": "every"}
    config = read(home, changed(("rule", 0, "scope", scope), ("rule", 0, "where", {"account": 14})))
    assert config.rules[0].scope == ScopeTemplate(oms="prime", account=Label("account"))
    assert config.rules[0].where == (("account", "14"),)
    config = read(home, changed(("panic", 0, "scope", {"oms": "prime", "user": 37})))
    assert config.panics[0].scope == Scope(oms="prime", account=EVERY, user=37, instrument=EVERY)


# --- each rule, with its place and sentence -----------------------------------------------------------------

ID = "it must be an id: a whole number above 0, without quotes"
PART = 'it must be an id (a whole number above 0, without quotes) or "every"'
TEMPLATE_PART = 'it must be an id (a whole number above 0, without quotes), "every" or a "{label}"'
NAME = "it must be a name: 1 to 40 of A-Z a-z 0-9 _ -"
LABEL = "a label's name is 1 to 40 of A-Z a-z 0-9 _ and doesn't begin with a digit"
SECONDS = "it must be a number of seconds above 0, and at most a year"
LIMIT = "a limit must be a finite number; nan and inf limit nothing"
NO_FRACTIONS = "a limit of 0 has no fractions to warn at"
FRACTION = "each must be a fraction of the limit: a number above 0 and below 1"
LISTEN = "it must be host:port, such as 127.0.0.1:9464"
WAYS = "give either user_id, api_key and secret_file, or username and password_file"
NEITHER = 'it names neither account nor user: name one, or say account = "every" for the whole OMS'
WHOLE = '"every" without a user is the whole OMS: oms "prime" needs whole_oms = true for it'
KINDS = '"oms" or "mqtt" or "websocket"'
SIGNED = ": signed commands are not built yet"
JOURNAL = "it must be sqlite:/// and a path; other databases are not built yet"
ADDRESS = "it must be an address that begins with ws:// or wss://"
HTTP_ADDRESS = "it must be an address that begins with http:// or https://"
USERINFO = "an address carries no user and no password: they have keys of their own"
RULE = 'rule "btc-position"'
BUILT_IN = "cancel, equity, hold, margin_usage, open_notional, open_orders, order, position, price, reject, trade, var"

KIND = 'it must be "limit" or "rate" or "drawdown" or "ratio" or "stale" or "deadman"'
ACCOUNT = "unknown key; did you mean account?"
RATE = {
    "name": "btc-position",
    "reading": "position",
    "kind": "rate",
    "above": 3,
    "per_s": 10,
    "scope": {"oms": "prime", "account": "{account}"},
}
DRAWDOWN = {
    "name": "btc-position",
    "reading": "position",
    "kind": "drawdown",
    "fall": 100,
    "window_s": 3600,
    "scope": {"oms": "prime", "account": "{account}"},
}
RATIO = {
    "name": "btc-position",
    "reading": "hold",
    "over": "position",
    "kind": "ratio",
    "above": Decimal("0.5"),
    "window_s": 60,
    "scope": {"oms": "prime", "account": "{account}"},
}

OLD = {k: v for k, v in RATE.items() if k not in ("above", "per_s")} | {"kind": "stale", "older_than_s": 60}
FEED_OLD = {k: v for k, v in OLD.items() if k != "reading"} | {
    "feed": "var",
    "scope": {"oms": "prime", "account": 14},
}
DEAD = {
    "name": "btc-position",
    "kind": "deadman",
    "feed": "var",
    "silent_s": 30,
    "scope": {"oms": "prime", "account": 14},
}
OF_EACH_KIND = [RATE, DRAWDOWN, RATIO, OLD, FEED_OLD, DEAD]
NOT_FOR_FEEDS = "it is for a reading's series; a feed that isn't heard breaches"

ONE_BY_ONE = [
    # unknown keys, at every depth
    (("rules", {}), "rules: unknown key; did you mean rule?"),
    (("zzz", 1), "zzz: unknown key"),
    (("daemon", "naem", "x"), "daemon.naem: unknown key; did you mean name?"),
    (("daemon", "mode", "dry"), 'daemon.mode: it must be "live" or "shadow"'),
    (("rule", 0, "mode", True), f'{RULE}.mode: it must be "live" or "shadow"'),
    (("retry", "hedge_after", 1), "retry.hedge_after: unknown key; did you mean hedge_after_s?"),
    (("oms", 0, "acounts", [1]), 'oms "prime".acounts: unknown key; did you mean accounts?'),
    (("oms", 0, "quotes", 1), 'oms "prime".quotes: it must be true or false'),
    (("feed", 1, "topics", "a"), 'feed "var".topics: unknown key; did you mean topic?'),
    (("feed", 0, "topic", "a"), 'feed "positions".topic: unknown key'),
    (("feed", 1, "numeraire", "USD"), 'feed "var".numeraire: unknown key'),
    (("feed", 0, "numeraire", " "), 'feed "positions".numeraire: it must not be empty'),
    (("rule", 0, "abvoe", 3), f"{RULE}.abvoe: unknown key; did you mean above?"),
    (("rule", 0, "scope", "acount", 3), f"{RULE}.scope.acount: unknown key; did you mean account?"),
    (("rule", 1, "fallback", "usr", 3), 'rule "var-limit".fallback.usr: unknown key; did you mean user?'),
    (("panic", 0, "scope", "x y", 3), 'panic "desk-button".scope.(a key that is no plain word): unknown key'),
    # shapes
    (("daemon", [{}]), "daemon: it must be one table: [daemon]"),
    (("panic", {"name": "x"}), "panic: it must be a list of tables: [[panic]]"),
    (("rule", 0, 3), "rule[0]: it must be a table"),
    (("rule", 0, "scope", "prime"), f"{RULE}.scope: it must be a table"),
    (("rule", 0, "scope", NONE), f"{RULE}.scope: it is required"),
    (("oms", []), "oms: at least one [[oms]] is required"),
    # names
    (("daemon", "name", "a/b#"), f"daemon.name: {NAME}"),
    (("daemon", "name", "a" * 41), f"daemon.name: {NAME}"),
    (("daemon", "name", NONE), "daemon.name: it is required"),
    (("rule", 0, "name", "desk button"), f"rule[0].name: {NAME}"),
    (("rule", 1, "name", "btc-position"), "rule[1].name: another [[rule]] has this name already"),
    (("feed", 1, "name", "positions"), "feed[1].name: another [[feed]] has this name already"),
    # ids
    (("oms", 0, "oms_id", 0), f'oms "prime".oms_id: {ID}'),
    (("oms", 0, "oms_id", True), f'oms "prime".oms_id: {ID}'),
    (("oms", 0, "user_id", "14"), f'oms "prime".user_id: {ID}'),
    (("oms", 0, "accounts", [14, Decimal("14.0")]), f'oms "prime".accounts[1]: {ID}'),
    (("oms", 0, "accounts", [2**63]), f'oms "prime".accounts[0]: {ID}'),
    (("oms", 0, "accounts", [14, 15, 14]), 'oms "prime".accounts[2]: this account is in the list already'),
    (
        ("oms", 0, "accounts", []),
        'oms "prime".accounts: it must be a list of ids, not empty: all accounts, on your word; or "discover"',
    ),
    (
        ("oms", 0, "accounts", "found"),
        'oms "prime".accounts: it must be a list of ids, not empty: all accounts, on your word; or "discover"',
    ),
    (("oms", 0, "accounts", NONE), 'oms "prime".accounts: it is required'),
    (("panic", 0, "scope", "account", "14"), f'panic "desk-button".scope.account: {PART}'),
    (("panic", 0, "scope", "user", 0), f'panic "desk-button".scope.user: {PART}'),
    (("rule", 0, "scope", "instrument", False), f"{RULE}.scope.instrument: {TEMPLATE_PART}"),
    # limits
    (("rule", 0, "above", Decimal("nan")), f"{RULE}.above: {LIMIT}"),
    (("rule", 0, "above", Decimal("-inf")), f"{RULE}.above: {LIMIT}"),
    (("rule", 0, "above", True), f"{RULE}.above: {LIMIT}"),
    (("rule", 0, "above", "50"), f"{RULE}.above: {LIMIT}"),
    (("rule", 0, "below", 1), f"{RULE}.below: above is there too: exactly one of the two"),
    (("rule", 0, "above", NONE), f"{RULE}: a limit is missing: exactly one of above and below"),
    (("rule", 0, "kind", "drawdwon"), f"{RULE}.kind: {KIND}"),
    (("rule", 0, "kind", NONE), f"{RULE}.kind: it is required"),
    (("rule", 0, "for_s", -1), f"{RULE}.for_s: it must be a number of seconds, 0 or more, and at most a year"),
    (("rule", 0, "on_stale", "panic"), f'{RULE}.on_stale: it must be "warn" or "trip" or "ignore"'),
    (("rule", 0, "on_bad", "ignore"), f'{RULE}.on_bad: it must be "warn" or "trip"'),
    (("rule", 0, RATE | {"per_s": 0}), f"{RULE}.per_s: {SECONDS}"),
    (("rule", 0, RATE | {"above": -1}), f"{RULE}.above: it must be 0 or more"),
    (("rule", 0, RATE | {"above": Decimal("inf")}), f"{RULE}.above: {LIMIT}"),
    (("rule", 0, RATE | {"sum": 1}), f"{RULE}.sum: it must be true or false"),
    (("rule", 0, RATIO | {"above": -1}), f"{RULE}.above: it must be 0 or more"),
    (("rule", 0, RATIO | {"window_s": 0}), f"{RULE}.window_s: {SECONDS}"),
    (("rule", 0, RATIO | {"at_least": 0}), f"{RULE}.at_least: it must be a whole number from 1 to 1000000"),
    (
        ("rule", 0, RATIO | {"at_least": Decimal("1.5")}),
        f"{RULE}.at_least: it must be a whole number from 1 to 1000000",
    ),
    (("rule", 0, RATIO | {"sum": True}), f"{RULE}.sum: unknown key"),
    (("rule", 0, {k: w for k, w in RATIO.items() if k != "over"}), f"{RULE}.over: it is required"),
    (("rule", 0, RATIO | {"over": "hold"}), f"{RULE}.over: it is the reading itself, of which the share is always 1"),
    (
        ("rule", 0, RATIO | {"over": "holds"}),
        f"{RULE}.over: no feed gives this reading; there are: {BUILT_IN}",
    ),
    (
        ("rule", 0, RATIO | {"reading": "order", "over": "price", "scope": {"oms": "prime", "account": 14}}),
        f"{RULE}.over: no feed gives it with the labels of order; shares are of readings whose labels are equal",
    ),
    (
        ("rule", 0, RATIO | {"reading": "order", "over": "margin_usage", "where": {"instrument": "3"}}),
        f"{RULE}.over: no feed gives it with the labels of order; shares are of readings whose labels are equal",
    ),
    (
        ("rule", 0, RATIO | {"reading": "var", "over": "margin_usage"}),
        f"{RULE}.over: no feed gives it with the labels of var; shares are of readings whose labels are equal",
    ),
    (("rule", 0, DRAWDOWN | {"fall": 0}), f"{RULE}.fall: it must be above 0"),
    (("rule", 0, DRAWDOWN | {"fall": Decimal("nan")}), f"{RULE}.fall: {LIMIT}"),
    (("rule", 0, DRAWDOWN | {"window_s": 0}), f"{RULE}.window_s: {SECONDS}"),
    (("rule", 0, DRAWDOWN | {"above": 1}), f"{RULE}.above: unknown key"),
    (("rule", 0, {k: v for k, v in DRAWDOWN.items() if k != "fall"}), f"{RULE}.fall: it is required"),
    (("rule", 0, RATE | {"for_s": 1}), f"{RULE}.for_s: unknown key"),
    (("rule", 0, RATE | {"scope": {"oms": "prime", "acount": 1, "account": 14}}), f"{RULE}.scope.acount: {ACCOUNT}"),
    (("rule", 0, {k: v for k, v in RATE.items() if k != "above"}), f"{RULE}.above: it is required"),
    (("rule", 0, OLD | {"older_than_s": 0}), f"{RULE}.older_than_s: {SECONDS}"),
    (("rule", 0, OLD | {"above": 1}), f"{RULE}.above: unknown key"),
    (("rule", 0, OLD | {"feed": "var"}), f"{RULE}: exactly one of reading and feed must be there"),
    (
        ("rule", 0, {k: v for k, v in OLD.items() if k != "reading"}),
        f"{RULE}: exactly one of reading and feed must be there",
    ),
    (
        ("rule", 0, FEED_OLD | {"feed": "vra"}),
        f"{RULE}.feed: no [[feed]] has this name; there are: desk-risk, positions, var",
    ),
    (
        ("rule", 0, FEED_OLD | {"scope": {"oms": "prime", "account": "{account}"}}),
        f'{RULE}.scope.account: a feed as a whole has no labels: name an id, or "every"',
    ),
    (("rule", 0, DEAD | {"silent_s": 0}), f"{RULE}.silent_s: {SECONDS}"),
    (("rule", 0, DEAD | {"arm": "never"}), f'{RULE}.arm: it must be "start" or "first"'),
    (("rule", 0, DEAD | {"reading": "var"}), f"{RULE}.reading: unknown key"),
    (("rule", 0, DEAD | {"where": {"account": 14}}), f"{RULE}.where: unknown key"),
    (("rule", 0, DEAD | {"on_bad": "trip"}), f"{RULE}.on_bad: unknown key"),
    (
        ("rule", 0, DEAD | {"feed": "vra"}),
        f"{RULE}.feed: no [[feed]] has this name; there are: desk-risk, positions, var",
    ),
    (
        ("rule", 0, DEAD | {"scope": {"oms": "prime", "user": "{user}"}}),
        f'{RULE}.scope.user: a feed as a whole has no labels: name an id, or "every"',
    ),
    (("rule", 0, DEAD | {"fallback": {"oms": "prime"}}), f"{RULE}.fallback: {NEITHER}"),
    (("rule", 0, FEED_OLD | {"on_stale": "warn"}), f"{RULE}.on_stale: {NOT_FOR_FEEDS}"),
    (("rule", 0, FEED_OLD | {"where": {"account": 14}}), f"{RULE}.where: {NOT_FOR_FEEDS}"),
    (("rule", 0, "warn_at", 0.9), f"{RULE}.warn_at: it must be a list of fractions of the limit, such as [0.5, 0.9]"),
    (("rule", 0, "warn_at", [Decimal("0.9"), 1]), f"{RULE}.warn_at: {FRACTION}"),
    (("rule", 0, "warn_at", [0]), f"{RULE}.warn_at: {FRACTION}"),
    (("rule", 0, "warn_at", ["0.5"]), f"{RULE}.warn_at: {FRACTION}"),
    (("rule", 0, "warn_at", [Decimal("nan")]), f"{RULE}.warn_at: {FRACTION}"),
    (("rule", 0, "warn_at", [Decimal("0.9"), Decimal("0.5")]), f"{RULE}.warn_at: they must ascend"),
    (("rule", 0, "warn_at", [Decimal("0.9"), Decimal("0.90")]), f"{RULE}.warn_at: they must ascend"),
    (("rule", 0, RATE | {"above": 0, "warn_at": [Decimal("0.5")]}), f"{RULE}.warn_at: {NO_FRACTIONS}"),
    (("rule", 0, RATIO | {"above": 0, "warn_at": [Decimal("0.5")]}), f"{RULE}.warn_at: {NO_FRACTIONS}"),
    (("rule", 0, DRAWDOWN | {"warn_at": [1]}), f"{RULE}.warn_at: {FRACTION}"),
    (("rule", 0, OLD | {"warn_at": [Decimal("0.5")]}), f"{RULE}.warn_at: unknown key"),
    (("rule", 0, "above", 0), f"{RULE}.warn_at: a limit of 0 has no fractions to warn at"),
    (
        ("rule", 0, "on_stale", "trip"),
        f'{RULE}.fallback: on_stale = "trip" needs it: the scope to trip when no series is known',
    ),
    (
        ("rule", 0, "on_bad", "trip"),
        f'{RULE}.fallback: on_bad = "trip" needs it: the scope to trip when no series is known',
    ),
    (("rule", 0, "where", "product", Decimal("14.0")), f"{RULE}.where: a label is text or a whole number without sign"),
    (("rule", 0, "where", "product", -1), f"{RULE}.where: a label is text or a whole number without sign"),
    # scopes and references
    (("panic", 0, "scope", {"oms": "prime"}), f'panic "desk-button".scope: {NEITHER}'),
    (("panic", 0, "scope", {"oms": "prime", "instrument": 2}), f'panic "desk-button".scope: {NEITHER}'),
    (("panic", 0, "scope", {"oms": "prime", "user": "every"}), f'panic "desk-button".scope: {NEITHER}'),
    (("panic", 0, "scope", "account", "every"), f'panic "desk-button".scope.account: {WHOLE}'),
    (("rule", 0, "scope", "account", "every"), f"{RULE}.scope.account: {WHOLE}"),
    (("rule", 1, "fallback", "account", "every"), f'rule "var-limit".fallback.account: {WHOLE}'),
    (("rule", 0, "scope", "oms", "pirme"), f"{RULE}.scope.oms: no [[oms]] has this name; there are: prime"),
    (("panic", 0, "scope", "oms", NONE), 'panic "desk-button".scope.oms: it is required'),
    (("feed", 0, "oms", "other"), 'feed "positions".oms: no [[oms]] has this name; there are: prime'),
    (
        ("rule", 0, "reading", "positions"),
        f"{RULE}.reading: no feed gives this reading; there are: {BUILT_IN}",
    ),
    (
        ("rule", 0, "scope", "account", "{acct}"),
        f"{RULE}.scope.account: its readings have no label acct; there are: account, product",
    ),
    (
        ("rule", 0, "where", {"instrument": 3}),
        f"{RULE}.where.instrument: its readings have no label instrument; there are: account, product",
    ),
    (
        ("rule", 1, "scope", "user", "{product}"),
        'rule "var-limit".scope.user: its readings have no label product; there are: account, instrument',
    ),
    (
        ("rule", 0, "scope", "account", "{product}"),
        f"{RULE}.scope.account: the label product of an OMS's readings is no account",
    ),
    (("rule", 0, "scope", "account", "{a b}"), f"{RULE}.scope.account: {LABEL}"),
    (("rule", 0, "scope", "account", "14"), f"{RULE}.scope.account: {TEMPLATE_PART}"),
    (
        ("panic", 0, "scope", "account", "{account}"),
        'panic "desk-button".scope.account: a {label} can stand in a rule\'s scope only',
    ),
    (
        ("rule", 1, "fallback", "account", "{account}"),
        'rule "var-limit".fallback.account: a {label} can stand in a rule\'s scope only',
    ),
    # times and counts
    (("confirm", "empties", 0), "confirm.empties: it must be a whole number from 1 to 1000000"),
    (("confirm", "empties", Decimal("2.0")), "confirm.empties: it must be a whole number from 1 to 1000000"),
    (
        ("confirm", "settle_ms", 0),
        "confirm.settle_ms: it must be a number of milliseconds above 0, and at most a year",
    ),
    (("confirm", "deadline_s", Decimal("0.05")), "confirm.deadline_s: it must be longer than settle_ms"),
    (("confirm", "guard_every_s", 0), f"confirm.guard_every_s: {SECONDS}"),
    (("confirm", "guard_every_s", Decimal("inf")), f"confirm.guard_every_s: {SECONDS}"),
    (("retry", "timeout_s", 0), f"retry.timeout_s: {SECONDS}"),
    (("retry", "timeout_s", True), f"retry.timeout_s: {SECONDS}"),
    (("retry", "list_timeout_s", Decimal("nan")), f"retry.list_timeout_s: {SECONDS}"),
    (("retry", "max_s", Decimal("0.01")), "retry.max_s: it must not be shorter than first_s"),
    (("commands", "max_age_s", -3), f"commands.max_age_s: {SECONDS}"),
    (("retry", "hedge_after_s", 0), f"retry.hedge_after_s: {SECONDS}"),
    (("retry", "hedge_after_s", 0.5), "retry.hedge_after_s: it must be shorter than timeout_s"),
    (("feed", 0, "stale_after_s", NONE), 'feed "positions".stale_after_s: it is required'),
    (("feed", 0, "snapshot_every_s", 0), f'feed "positions".snapshot_every_s: {SECONDS}'),
    (
        ("oms", 0, "calls_per_minute", 0),
        'oms "prime".calls_per_minute: it must be a whole number from 1 to 1000000',
    ),
    # what is not built yet
    (("commands", "unsigned_trip", False), f"commands.unsigned_trip: it must be true{SIGNED}"),
    (("commands", "unsigned_trip", 1), f"commands.unsigned_trip: it must be true{SIGNED}"),
    (("commands", "reset_signatures", 1), f"commands.reset_signatures: it must be 0{SIGNED}"),
    (("commands", "reset_signatures", False), f"commands.reset_signatures: it must be 0{SIGNED}"),
    (("oms", 0, "dialect", "v5"), 'oms "prime".dialect: it must be "v2" or "v3" or "v4" or "auto"'),
    (("oms", 0, "dialect", NONE), 'oms "prime".dialect: it is required'),
    (
        ("oms", 0, "gateways", ["ws://a", "wss://b", "ws://a:80/other"]),
        'oms "prime".gateways: a:80 is named twice: a second session there would fall with the first',
    ),
    (("oms", 0, "gateways", []), 'oms "prime".gateways: it must be a list of one or more gateways'),
    (("mqtt", "urls", ["mqtt://a", "mqtt://b"]), "mqtt.urls: exactly one broker is accepted for now"),
    (("feed", 0, "kind", "socket"), f'feed "positions": its kind must be {KINDS}'),
    (("feed", 0, "kind", NONE), f'feed "positions": it needs a kind: {KINDS}'),
    (("feed", 2, "urls", "a"), 'feed "desk-risk".urls: unknown key; did you mean url?'),
    (("feed", 2, "topic", "a"), 'feed "desk-risk".topic: unknown key'),
    (("feed", 2, "url", NONE), 'feed "desk-risk".url: it is required'),
    (("feed", 2, "url", "https://h"), 'feed "desk-risk".url: it must be an address that begins with ws:// or wss://'),
    (
        ("feed", 2, "url", "wss://me:hunter2@h/"),
        'feed "desk-risk".url: an address carries no user and no password: they have keys of their own',
    ),
    (("feed", 2, "subscribe", "one"), 'feed "desk-risk".subscribe: it must be a list of at most 1000 texts'),
    (("feed", 2, "subscribe", [""]), 'feed "desk-risk".subscribe: each message must be text of 1 to 65536 characters'),
    (("feed", 2, "subscribe", [1]), 'feed "desk-risk".subscribe: each message must be text of 1 to 65536 characters'),
    (
        (
            "feed",
            2,
            {"name": "w", "kind": "websocket", "url": "wss://h", "stale_after_s": 5, "value": "v", "time": "t"},
        ),
        'feed "w".reading: it is missing, and value and time would be its; a feed without any of them is a heart',
    ),
    (("feed", 2, "value", NONE), 'feed "desk-risk".value: it is required: where the reading stands in a message'),
    (
        ("feed", 1, {"name": "var", "kind": "mqtt", "topic": "a/{account}", "stale_after_s": 5, "time": "ts"}),
        'feed "var".reading: it is missing, and time would be its; a feed without any of them is a heart',
    ),
    (
        ("feed", 1, {"name": "hearts", "kind": "mqtt", "topic": "a/{account}", "stale_after_s": 5}),
        'feed "hearts".topic: a heart has one topic: the beats on another would hide its silence',
    ),
    (("feed", 2, "stale_after_s", NONE), 'feed "desk-risk".stale_after_s: it is required'),
    (("feed", 2, "value", ".".join("a" * 33)), 'feed "desk-risk": a path has at most 32 names'),
    (("daemon", "journal", "postgresql://u:p@h/d"), f"daemon.journal: {JOURNAL}"),
    (("daemon", "journal", "killswitch.db"), f"daemon.journal: {JOURNAL}"),
    (("daemon", "journal", "sqlite:///"), "daemon.journal: after sqlite:/// it needs the path of a file"),
    (("daemon", "journal", "sqlite:///:memory:"), "daemon.journal: a journal in memory forgets what is latched"),
    (("daemon", "unreadable_journal", "ignore"), 'daemon.unreadable_journal: it must be "refuse" or "sweep"'),
    (("daemon", "record", "readings.txt"), 'daemon.record: it must be "" or the path of a file that ends in .jsonl'),
    (("daemon", "record", True), 'daemon.record: it must be "" or the path of a file that ends in .jsonl'),
    (("daemon", "record", "recordings/.jsonl"), "daemon.record: the file needs a name"),
    (("daemon", "sweep_on_stop", "yes"), "daemon.sweep_on_stop: it must be true or false"),
    # addresses
    (("oms", 0, "gateways", ["ws://u:p@h/"]), f'oms "prime".gateways[0]: {USERINFO}'),
    (("oms", 0, "gateways", ["http://h/"]), f'oms "prime".gateways[0]: {ADDRESS}'),
    (("oms", 0, "http", "ws://h/AP"), f'oms "prime".http: {HTTP_ADDRESS}'),
    (("oms", 0, "http", ["http://h/AP"]), f'oms "prime".http: {HTTP_ADDRESS}'),
    (("oms", 0, "http", "http://u:p@h/AP"), f'oms "prime".http: {USERINFO}'),
    (("oms", 0, "http", "http://h/AP?x=1"), 'oms "prime".http: an address carries no query and no fragment'),
    (("oms", 0, "gateways", ["ws://h\t/"]), f'oms "prime".gateways[0]: {ADDRESS}'),
    (("oms", 0, "gateways", ["ws://h:99999/"]), 'oms "prime".gateways[0]: its host or port can\'t be read'),
    (("oms", 0, "gateways", ["ws:///x"]), 'oms "prime".gateways[0]: its host or port can\'t be read'),
    (("oms", 0, "gateways", ["ws://h/?key=1"]), 'oms "prime".gateways[0]: an address carries no query and no fragment'),
    (("mqtt", "urls", ["mqtt://user:pw@host"]), f"mqtt.urls[0]: {USERINFO}"),
    (("mqtt", "urls", ["tcp://host"]), "mqtt.urls[0]: it must be an address that begins with mqtt:// or mqtts://"),
    (("mqtt", "urls", ["mqtt://host/path"]), "mqtt.urls[0]: a broker's address has no path"),
    (("http", "listen", "9464"), f"http.listen: {LISTEN}"),
    (("http", "listen", "127.0.0.1:70000"), f"http.listen: {LISTEN}"),
    # topics
    (
        ("panic", 0, "topic", "killswitch/command/trip"),
        'panic "desk-button".topic: this topic is one of the daemon\'s own: choose one of another name',
    ),
    (
        ("feed", 1, "topic", "killswitch/event"),
        'feed "var".topic: this topic is one of the daemon\'s own: choose one of another name',
    ),
    (
        ("feed", 1, {"name": "hearts", "kind": "mqtt", "topic": "killswitch/availability/ks-b", "stale_after_s": 5}),
        'feed "hearts".topic: this topic is one of the daemon\'s own: choose one of another name',
    ),
    (
        ("feed", 1, "topic", "killswitch/{account}"),
        'feed "var".topic: this topic is one of the daemon\'s own: choose one of another name',
    ),
    (("panic", 0, "topic", "desk/+"), 'panic "desk-button".topic: it must hold no wildcard (+ or #)'),
    (
        ("panic", 0, "topic", "desk/{who}"),
        'panic "desk-button".topic: it must hold no {label}: what a button cancels is fixed',
    ),
    (
        ("panic", 0, "topic", "a\0b"),
        'panic "desk-button".topic: it must be an MQTT topic: text without control characters, not empty',
    ),
    (("panic", 0, "topic", "ä" * 32768), 'panic "desk-button".topic: an MQTT topic has at most 65535 bytes'),
    (("panic", 0, "match", ""), 'panic "desk-button".match: it must not be empty: an empty payload never presses'),
    (
        ("panic", 0, "match", {}),
        'panic "desk-button".match: it must be text (the whole payload) or a table of fields that must be equal',
    ),
    (("panic", 0, "match", {"a": [1]}), 'panic "desk-button".match: each field must be text, a number, true or false'),
    (("feed", 1, "topic", "risk/#"), 'feed "var".topic: it must hold no wildcard (+ or #)'),
    (("feed", 1, "topic", "risk/a{account}"), 'feed "var".topic: a {label} stands for one whole level of the topic'),
    (("feed", 1, "topic", "{account}/{account}"), 'feed "var".topic: the label account stands in it twice'),
    (
        ("feed", 1, "labels", "account", "a"),
        'feed "var".labels.account: this label stands in the topic: it has one place only',
    ),
    (
        ("feed", 1, "labels", "instrument", "a..b"),
        'feed "var".labels: a path is names with dots between them, such as var.value',
    ),
    (
        ("feed", 1, "value", NONE),
        'feed "var".value: it is missing: without it the payload is the number, and has no paths',
    ),
    (
        ("mqtt", "prefix", "a/+"),
        "mqtt.prefix: it must hold no wildcard (+ or #)",
    ),
    (
        ("mqtt", "prefix", "a//b"),
        "mqtt.prefix: it must be topic levels, none of them empty, not beginning with $, at most 100 characters",
    ),
    # signing in, and files
    (("oms", 0, "username", "u"), f'oms "prime": two ways to sign in; {WAYS}'),
    (("oms", 0, "api_key", NONE), f'oms "prime".api_key: it is missing; {WAYS}'),
    (("oms", 0, "secret_file", "gone"), 'oms "prime".secret_file: there is no such file, in HOME'),
    (("oms", 0, "secret_file", "/nowhere/gone"), 'oms "prime".secret_file: there is no such file'),
    (("oms", 0, "secret_file", "x" * 900), 'oms "prime".secret_file: it can\'t be the name of a file'),
    (("mqtt", "password_file", "prime.secret"), "mqtt.username: password_file needs a username"),
    (("mqtt", "ca_file", "prime.secret"), "mqtt.ca_file: it is for TLS, and this broker's address is not mqtts://"),
]


@pytest.mark.parametrize(("change", "sentence"), ONE_BY_ONE, ids=[sentence for _, sentence in ONE_BY_ONE])
def test_each_mistake_is_one_sentence_with_its_place(home, change, sentence):
    assert sentence.replace("HOME", str(home)) in mistakes(home, changed(change))


def test_a_single_mistake_brings_no_other_with_it(home):
    shared = {"rules", "naem"}
    for change, sentence in ONE_BY_ONE:
        if len(change) > 3 and change[0] in ("confirm", "retry", "rule", "panic") and change[1] not in shared:
            found = mistakes(home, changed(change))
            assert len(found) == 1 or "reading" in sentence or ".name" in sentence, (change, found)


def test_all_mistakes_come_at_once_and_none_hides_another(home):
    changes = [
        ("daemon", "name", "a b"),
        ("confirm", "empties", 0),
        ("oms", 0, "accounts", [14, 0]),
        ("oms", 0, "secret_file", "gone"),
        ("panic", 0, "scope", {"oms": "pirme", "acount": 14}),
        ("feed", 0, "stale_after_s", Decimal("nan")),
        ("rule", 0, "abvoe", 3),
        ("rule", 0, "on_stale", "trip"),
        ("rule", 0, "scope", "account", "{acct}"),
    ]
    found = mistakes(home, changed(*changes), {"KILLSWITCH_MQQT__PREFIX": "x"})
    assert found == [
        f"daemon.name: {NAME}",
        "confirm.empties: it must be a whole number from 1 to 1000000",
        f'oms "prime".accounts[1]: {ID}',
        f'oms "prime".secret_file: there is no such file, in {home}',
        'panic "desk-button".scope.acount: unknown key; did you mean account?',
        'panic "desk-button".scope.oms: no [[oms]] has this name; there are: prime',
        f'panic "desk-button".scope: {NEITHER}',
        f'feed "positions".stale_after_s: {SECONDS}',
        f"{RULE}.abvoe: unknown key; did you mean above?",
        f'{RULE}.fallback: on_stale = "trip" needs it: the scope to trip when no series is known',
        f"{RULE}.scope.account: its readings have no label acct; there are: account, product",
        "KILLSWITCH_MQQT__PREFIX: unknown variable; did you mean KILLSWITCH_MQTT__PREFIX?",
    ]


def test_a_whole_oms_scope_is_accepted_where_the_permission_is_said(home):
    config = read(
        home, changed(("oms", 0, "whole_oms", True), ("panic", 0, "scope", {"oms": "prime", "account": "every"}))
    )
    assert config.panics[0].scope.whole


def test_what_is_listed_for_proof_beside_orders_reaches_the_core(home):
    (site,) = read(home, changed()).settings("b").sites
    assert (site.quotes, site.block_trades) == (False, False)
    (site,) = read(home, changed(("oms", 0, "quotes", True), ("oms", 0, "block_trades", True))).settings("b").sites
    assert (site.quotes, site.block_trades) == (True, True)


def test_a_template_does_not_carry_an_account_s_number_over_to_another_oms(home):
    tables = changed(("rule", 0, "scope", "oms", "backup"))
    tables["oms"].append({**sample()["oms"][0], "name": "backup"})
    assert mistakes(home, tables) == [
        f"{RULE}.scope.oms: its labels come from the feed of another OMS, whose ids mean others"
    ]


def test_two_feeds_must_not_watch_one_oms(home):
    tables = changed()
    tables["feed"].append({**sample()["feed"][0], "name": "again"})
    assert mistakes(home, tables) == ['feed "again".oms: another feed watches this OMS already']


def test_an_oms_with_no_way_to_sign_in_is_told_both(home):
    tables = changed(*(("oms", 0, key, NONE) for key in ("user_id", "api_key", "secret_file")))
    assert mistakes(home, tables) == [f'oms "prime": no way to sign in; {WAYS}']


# --- files --------------------------------------------------------------------------------------------------


def test_a_missing_file_is_an_error_and_not_a_daemon_without_rules(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gone.toml", {"KILLSWITCH_A__B": "1"})
    assert caught.value.mistakes == (
        f"{tmp_path}/gone.toml: there is no such file",
        "KILLSWITCH_A__B: unknown variable",
    )
    with pytest.raises(ConfigError, match="it is no regular file"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"a = hunter2", "no valid TOML, at line 1, column 5"),
        (b"a = 1\na = 2\n", "no valid TOML, at line 2, column 6"),
        (b"\xff", "no UTF-8 text (byte 0)"),
        (b"a = " + b"9" * 5000, "no valid TOML: a value is too long or too deep"),
        (b"a = 1e99999999999999999999999", "no valid TOML: a value is too long or too deep"),
        (b"a = " + b"[" * 20_000, "no valid TOML: a value is too long or too deep"),
    ],
    ids=["words", "twice", "bytes", "digits", "exponent", "depth"],
)
def test_what_is_no_toml_is_told_by_its_position_alone(tmp_path, text, why):
    file = tmp_path / "k.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert caught.value.mistakes == (f"{file}: {why}",)


def test_a_secret_is_looked_up_among_the_credentials_first_and_loses_its_line_end_only(home, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert read(home, changed(), env).oms[0].sign_in.secret == "kept-from-everyone"
    (credentials / "prime.secret").write_bytes(b"  other \r\n")
    assert read(home, changed(), env).oms[0].sign_in.secret == "  other "
    absolute = changed(("oms", 0, "secret_file", str(home / "prime.secret")))
    assert read(home, absolute, env).oms[0].sign_in.secret == "kept-from-everyone"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"one\ntwo\n", "has more than one line"),
        (b"x" * 70_000, "is too long for a secret"),
    ],
    ids=["empty", "newline", "bytes", "lines", "long"],
)
def test_a_secret_file_that_holds_no_secret_is_named(home, content, why):
    (home / "prime.secret").write_bytes(content)
    assert mistakes(home, changed()) == [f'oms "prime".secret_file: the file {home}/prime.secret {why}']


def test_a_secret_file_that_cannot_be_read_is_named(home):
    (home / "prime.secret").unlink()
    (home / "prime.secret").mkdir()
    assert mistakes(home, changed()) == [
        f'oms "prime".secret_file: the file {home}/prime.secret: it is a directory, not a file'
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_secret_file_without_permission_is_named(home):
    (home / "prime.secret").chmod(0)
    assert mistakes(home, changed()) == [
        f'oms "prime".secret_file: the file {home}/prime.secret: no permission to read it'
    ]


def test_tls_files_are_looked_up_and_go_together(home):
    (home / "client.key").write_text("k")
    tables = changed(("mqtt", "urls", ["mqtts://h"]), ("mqtt", "key_file", "client.key"), ("mqtt", "ca_file", "ca"))
    assert mistakes(home, tables) == [
        "mqtt.cert_file: key_file needs it",
        f"mqtt.ca_file: there is no such file, in {home}",
    ]
    tables["mqtt"] |= {"ca_file": "client.key", "cert_file": "client.key", "username": "u"}
    tables["mqtt"]["password_file"] = "prime.secret"
    mqtt = read(home, tables).mqtt
    assert mqtt.key_file == mqtt.ca_file == mqtt.cert_file == home / "client.key"
    assert (mqtt.username, mqtt.password) == ("u", "kept-from-everyone")


# --- the environment ----------------------------------------------------------------------------------------


def test_single_settings_come_from_the_environment_and_beat_the_file(home):
    config = read(
        home,
        changed(),
        {
            "KILLSWITCH_DAEMON__NAME": "ks-b",
            "KILLSWITCH_DAEMON__SWEEP_ON_STOP": "true",
            "KILLSWITCH_CONFIRM__EMPTIES": "3",
            "KILLSWITCH_CONFIRM__SETTLE_MS": "75.5",
            "KILLSWITCH_MQTT__URLS": "mqtt://other:1",
            "KILLSWITCH_COMMANDS__RESET_SIGNATURES": "0",
        },
    )
    assert (config.daemon.name, config.daemon.sweep_on_stop) == ("ks-b", True)
    assert (config.confirm.empties, config.confirm.settle_s, config.confirm.deadline_s) == (3, 0.0755, 5.0)
    assert config.mqtt.brokers[0].address == "other:1"
    assert config.commands.reset_signatures == 0


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("KILLSWITCH_MQQT__PREFIX", "x", "unknown variable; did you mean KILLSWITCH_MQTT__PREFIX?"),
        ("KILLSWITCH_MQTT__PREFX", "x", "unknown variable; did you mean KILLSWITCH_MQTT__PREFIX?"),
        ("KILLSWITCH_mqtt__prefix", "x", "unknown variable; did you mean KILLSWITCH_MQTT__PREFIX?"),
        ("KILLSWITCH_MQTT__URLS__0", "x", "unknown variable; did you mean KILLSWITCH_MQTT__URLS?"),
        ("KILLSWITCH_OMS__0__USER_ID", "3", "arrays of tables ([[oms]]) can't be set from the environment"),
        ("KILLSWITCH_RULE__0__ABOVE", "3", "arrays of tables ([[rule]]) can't be set from the environment"),
    ],
)
def test_a_variable_of_ours_that_sets_nothing_is_an_error(home, name, value, sentence):
    assert mistakes(home, changed(), {name: value}) == [f"{name}: {sentence}"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CONFIRM__EMPTIES", "0", "it must be a whole number from 1 to 1000000"),
        ("CONFIRM__EMPTIES", "", "it must be a whole number from 1 to 1000000"),
        ("CONFIRM__DEADLINE_S", "nan", SECONDS),
        ("CONFIRM__DEADLINE_S", "1e999999999999999999999", SECONDS),
        ("DAEMON__SWEEP_ON_STOP", "1", "it must be true or false"),
        ("MQTT__URLS", "[1", "it must be an address or a JSON list of addresses"),
        ("MQTT__PREFIX", "\udcff", "it must be an MQTT topic: text without control characters, not empty"),
    ],
)
def test_a_wrong_value_from_the_environment_names_its_variable(home, name, value, sentence):
    place = name.lower().replace("__", ".")
    assert mistakes(home, changed(), {f"KILLSWITCH_{name}": value}) == [f"{place} (KILLSWITCH_{name}): {sentence}"]


def test_names_without_a_double_underscore_are_not_ours(home):
    env = {
        "KILLSWITCH_CONFIG": "/x",
        "KILLSWITCH_SERVICE_HOST": "10.0.0.1",
        "KILLSWITCH_PORT": "tcp://10.0.0.1:9464",
        "KILLSWITCH_OMS": "[]",
        "KILLSWITCH_DAEMON": '{"name": "b"}',
        "DAEMON__NAME": "b",
        "RULE": "[]",
    }
    config = read(home, changed(), env)
    assert config.daemon.name == "ks-a"
    assert len(config.oms) == 1
    assert len(config.rules) == 2


# --- secrets ------------------------------------------------------------------------------------------------

CANARY = "hunter2 / s3cr3t!"


def places(value, path=()):
    """Every path in the tables, the leaves and what is above them."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*path, key))


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: {"x": c}, lambda c: f"ws://u:{c}@h/"])
def test_a_secret_in_any_wrong_place_is_in_no_message(home, wrap):
    tried = 0
    for path in list(places(sample())):
        found = said(home, changed((*path, wrap(CANARY))))
        tried += bool(found)
        assert "hunter2" not in "\n".join(found), path
    assert tried > 30


def test_a_secret_as_a_key_or_in_the_environment_is_in_no_message(home):
    for path in [(), ("daemon",), ("oms", 0), ("rule", 0, "scope"), ("rule", 0, "where"), ("feed", 1, "labels")]:
        assert "hunter2" not in "\n".join(mistakes(home, changed((*path, CANARY, [3]))))
    for section, model in SINGLE.items():
        for key in model.model_fields:
            env = {f"KILLSWITCH_{section.upper()}__{key.upper()}": CANARY}
            assert "hunter2" not in "\n".join(said(home, changed(), env))
    assert "hunter2" not in "\n".join(mistakes(home, changed(), {f"KILLSWITCH_A__{CANARY}": CANARY}))


def test_even_pydantic_s_own_error_holds_no_input():
    with pytest.raises(ValidationError) as caught:
        MODELS["oms",].model_validate({"name": CANARY, "hunter2": CANARY, "accounts": CANARY})
    assert CANARY not in str(caught.value)
    assert Tables.model_config["hide_input_in_errors"]


def test_no_repr_of_a_configuration_shows_a_secret_or_an_api_key(home):
    config = read(home, changed(("oms", 0, "api_key", "hunter2")))
    assert "kept-from-everyone" not in repr(config)
    assert "hunter2" not in repr(config)
    assert "kept-from-everyone" not in repr(config.settings("b"))
    secret = config.oms[0].sign_in.secret
    assert str(secret) == "kept-from-everyone"
    assert type(str(secret)) is str


# --- fuzz ---------------------------------------------------------------------------------------------------

ODD = [
    0, -1, 1, 2**63, 10**30, True, False, "", "every", "{account}", "{", "}", "14", "a b", "\x7f", "ä", "/", "x" * 5000,
    Decimal("nan"), Decimal("-inf"), Decimal("1.5"), Decimal("1e-320"), [], [[]], [{}], {}, {"a": {}}, {"name": 3},
    {"oms": []}, date(2026, 1, 1), "mqtt://", "ws://[", "sqlite:///", "trip", "oms", "mqtt", [1, 1], ["ws://h"],
]  # fmt: skip


def mutated(tables, dice):
    tables = deepcopy(tables)
    for _ in range(dice.randint(1, 4)):
        path = dice.choice(list(places(tables)) or [("daemon",)])
        there = tables
        for part in path[:-1]:
            there = there[part]
        match dice.randint(0, 3):
            case 0:
                del there[path[-1]]
            case 1 if isinstance(there, dict):
                there[dice.choice(["name", "kind", "scope", "x", "oms", "__class__", "self", "_env_file"])] = (
                    dice.choice(ODD)
                )
            case 2 if isinstance(there, list):
                there.append(deepcopy(there[path[-1]]))
            case _:
                there[path[-1]] = deepcopy(dice.choice(ODD))
    return tables


def test_whatever_is_changed_in_the_sample_nothing_but_a_config_error_comes_out(home):
    dice = random.Random(20261122)
    good = bad = 0
    for _ in range(600):
        found = said(home, mutated(sample(), dice))
        good, bad = good + (not found), bad + bool(found)
        assert all(": " in line and "\n" not in line and "\0" not in line for line in found)
    assert good > 20
    assert bad > 200


def test_bytes_changed_anywhere_in_the_sample_raise_nothing_but_a_config_error(home):
    dice = random.Random(7)
    file = home / "k.toml"
    for _ in range(200):
        content = bytearray(SAMPLE.read_bytes())
        for _ in range(dice.randint(1, 5)):
            content[dice.randrange(len(content))] = dice.choice(b'"[]{}=\n\x00\xff0e.#-')
        file.write_bytes(bytes(content))
        with suppress(ConfigError):
            load(file, {})


def test_arrays_and_single_tables_are_all_the_tables_there_are():
    assert {*SINGLE, *ARRAYS} == set(MODELS[()].model_fields)


def test_the_sample_is_live_and_so_is_each_of_its_rules(home):
    config = read(home, sample())
    assert config.settings(boot="1").mode == "live"
    assert {rule.mode for rule in config.rules} == {"live"}


def test_shadow_reaches_the_core_for_the_daemon_and_for_rules_of_every_kind(home):
    assert {row["kind"] for row in OF_EACH_KIND} | {"limit"} == set(RULE_KINDS)
    config = read(home, changed(("daemon", "mode", "shadow")), env={})
    assert config.settings(boot="1").mode == "shadow"
    for row in (sample()["rule"][0], *OF_EACH_KIND):
        (rule,) = read(home, changed(("rule", [row | {"mode": "shadow"}]))).rules
        assert rule.mode == "shadow", row
    assert read(home, sample(), env={"KILLSWITCH_DAEMON__MODE": "shadow"}).daemon.mode == "shadow"


def test_an_equity_of_another_feed_needs_no_numeraire_and_an_oms_s_own_is_built_with_it(home):
    tables = changed(("feed", 1, "reading", "equity"), ("rule", 1, "reading", "equity"))
    assert read(home, tables).feeds[0].spec.numeraire is None
    tables["feed"][0]["numeraire"] = "USD"
    assert read(home, tables).feeds[0].spec.numeraire == "USD"


@pytest.mark.parametrize("reading", ["equity", "open_notional"])
def test_what_is_told_in_one_product_says_in_which(home, reading):
    sentence = (
        f'feed "positions".numeraire: it is missing: rule "btc-position" reads {reading}, which is told in one '
        'product, such as "USD"'
    )
    change = (("rule", 0, "reading", reading), ("rule", 0, "where", NONE))
    assert mistakes(home, changed(*change)) == [sentence]
    assert said(home, changed(*change, ("feed", 0, "numeraire", "USD"))) == []

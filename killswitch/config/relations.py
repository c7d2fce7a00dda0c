"""What must hold between keys and between tables. Works on the raw tables, before and beside the check of single
values, so that one mistake doesn't hide another; it is silent about what it can't read, since that is said there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from killswitch.config.addresses import labels_of
from killswitch.config.mistakes import Loc, Mistake, Raw, rows_of
from killswitch.config.values import as_seconds, is_label, is_name
from killswitch.domain.watch.shown import COUNTED, WORTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OMS_READINGS: Final[dict[str, tuple[str, ...]]] = {
    "position": ("account", "product"),
    "hold": ("account", "product"),
    "open_orders": ("account", "instrument"),
    "open_notional": ("account", "instrument"),
    "equity": ("account",),
    "price": ("instrument",),
    **dict.fromkeys(COUNTED, ("account", "instrument", "user")),
}
"""The built-in readings of an OMS feed and their labels."""

OMS_LABELS: Final = frozenset(label for labels in OMS_READINGS.values() for label in labels)

OWN_TOPICS: Final = ("command", "receipt", "trip", "state", "replica", "availability", "event")
"""The levels below the prefix that the daemon and its commands use."""

_WAYS: Final = "give either user_id, api_key and secret_file, or username and password_file"


def relations(raw: Raw) -> list[Mistake]:
    """Every relation that doesn't hold."""
    return [
        *_unique_names(raw),
        *_timing(raw),
        *_recording(raw),
        *_broker_files(raw),
        *_sites(raw),
        *_panics(raw),
        *_feeds(raw),
        *_rules(raw),
    ]


def _table(raw: Mapping[str, object], key: str) -> Raw:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _names(raw: Raw, array: str) -> list[str]:
    return [name for row in rows_of(raw, array) if is_name(name := _text(row, "name"))]


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"


def _unique_names(raw: Raw) -> Iterator[Mistake]:
    for array in ("oms", "panic", "feed", "rule"):
        seen: Counter[str] = Counter()
        for index, row in enumerate(rows_of(raw, array)):
            name = _text(row, "name")
            seen[name] += 1
            if is_name(name) and seen[name] == 2:
                yield Mistake((array, index, "name"), f"another [[{array}]] has this name already")


def _timing(raw: Raw) -> Iterator[Mistake]:
    confirm, retry = _table(raw, "confirm"), _table(raw, "retry")
    settle = as_seconds(confirm.get("settle_ms", 50))
    deadline = as_seconds(confirm.get("deadline_s", 5))
    if settle and deadline and deadline * 1000 <= settle:
        yield Mistake(("confirm", "deadline_s"), "it must be longer than settle_ms")
    first = as_seconds(retry.get("first_s", 1))
    longest = as_seconds(retry.get("max_s", 1))
    yield from _hedging(raw, retry)
    if "first_s" in retry and "max_s" in retry and first and longest and longest < first:
        yield Mistake(("retry", "max_s"), "it must not be shorter than first_s")


def _hedging(raw: Raw, retry: Raw) -> Iterator[Mistake]:
    """What counts as lost is sent again anyway: a hedge that comes after it is none."""
    timeout, hedge = as_seconds(retry.get("timeout_s", 0.5)), as_seconds(retry.get("hedge_after_s", 0.15))
    if not timeout or not hedge or hedge < timeout:
        return
    if "hedge_after_s" in retry:
        yield Mistake(("retry", "hedge_after_s"), "it must be shorter than timeout_s")
    elif any(isinstance(urls := row.get("gateways"), list) and len(urls) > 1 for row in rows_of(raw, "oms")):
        yield Mistake(
            ("retry", "timeout_s"), "it must be longer than hedge_after_s, which is 0.15 unless you say another"
        )


def _recording(raw: Raw) -> Iterator[Mistake]:
    daemon = _table(raw, "daemon")
    if daemon.get("record") and _text(daemon, "journal").removeprefix("sqlite:///") == daemon["record"]:
        yield Mistake(("daemon", "record"), "it is the journal's file")


def _broker_files(raw: Raw) -> Iterator[Mistake]:
    mqtt = _table(raw, "mqtt")
    given = {key: bool(_text(mqtt, key)) for key in _BROKER_KEYS}
    if given["password_file"] and not given["username"]:
        yield Mistake(("mqtt", "username"), "password_file needs a username")
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if given[one] and not given[other]:
            yield Mistake(("mqtt", other), f"{one} needs it")
    urls = mqtt.get("urls", ["mqtt://"])
    listed = [urls] if isinstance(urls, str) else urls if isinstance(urls, list) else []
    if any(isinstance(url, str) and url.startswith("mqtt://") for url in listed):
        for key in ("ca_file", "cert_file", "key_file"):
            if given[key]:
                yield Mistake(("mqtt", key), "it is for TLS, and this broker's address is not mqtts://")


_BROKER_KEYS: Final = ("username", "password_file", "ca_file", "cert_file", "key_file")


def _sites(raw: Raw) -> Iterator[Mistake]:
    if isinstance(raw.get("oms"), list) and not raw["oms"]:
        yield Mistake(("oms",), "at least one [[oms]] is required")
    for index, row in enumerate(rows_of(raw, "oms")):
        keyed = [key in row for key in ("user_id", "api_key", "secret_file")]
        named = [key in row for key in ("username", "password_file")]
        if any(keyed) and any(named):
            yield Mistake(("oms", index), f"two ways to sign in; {_WAYS}")
        elif not any(keyed) and not any(named):
            yield Mistake(("oms", index), f"no way to sign in; {_WAYS}")
        elif any(keyed) and not all(keyed):
            for key in ("user_id", "api_key", "secret_file"):
                if key not in row:
                    yield Mistake(("oms", index, key), f"it is missing; {_WAYS}")
        elif any(named) and not all(named):
            for key in ("username", "password_file"):
                if key not in row:
                    yield Mistake(("oms", index, key), f"it is missing; {_WAYS}")
        accounts = row.get("accounts")
        ids = accounts if isinstance(accounts, list) else []
        for at, account in enumerate(ids):
            if type(account) is int and account in [a for a in ids[:at] if type(a) is int]:
                yield Mistake(("oms", index, "accounts", at), "this account is in the list already")


def _scope(raw: Raw, scope: object, loc: Loc) -> Iterator[Mistake]:
    """A scope's OMS exists; "every account" is said out loud, and only where the permission is."""
    if not isinstance(scope, dict):
        return
    oms = _text(scope, "oms")
    sites = {_text(row, "name"): row for row in rows_of(raw, "oms")}
    if is_name(oms) and oms not in sites:
        there = _listed(_names(raw, "oms"))
        yield Mistake((*loc, "oms"), f"no [[oms]] has this name; there are: {there}")
    if "account" not in scope and scope.get("user", "every") == "every":
        yield Mistake(loc, 'it names neither account nor user: name one, or say account = "every" for the whole OMS')
    elif (
        scope.get("account") == "every"
        and scope.get("user", "every") == "every"
        and oms in sites
        and sites[oms].get("whole_oms", False) is False
    ):
        yield Mistake(
            (*loc, "account"),
            f'"every" without a user is the whole OMS: oms "{oms}" needs whole_oms = true for it'
            if is_name(oms)
            else '"every" without a user is the whole OMS, which needs whole_oms = true',
        )


def _panics(raw: Raw) -> Iterator[Mistake]:
    for index, row in enumerate(rows_of(raw, "panic")):
        yield from _scope(raw, row.get("scope"), ("panic", index, "scope"))
        yield from _own_topic(raw, row, ("panic", index, "topic"))


def _own_topic(raw: Raw, row: Raw, loc: Loc) -> Iterator[Mistake]:
    """What the daemon says or is told is no source: a feed on its events would hear each event about itself."""
    prefix, topic = _table(raw, "mqtt").get("prefix", "killswitch"), _text(row, "topic")
    if not isinstance(prefix, str) or not topic.startswith(f"{prefix}/"):
        return
    level = topic.removeprefix(f"{prefix}/").split("/")[0]
    if level in OWN_TOPICS or labels_of(level):
        yield Mistake(loc, "this topic is one of the daemon's own: choose one of another name")


@dataclass(frozen=True, slots=True)
class _Source:
    """One reading of one feed. `oms`: of an OMS feed."""

    feed: str
    reading: str
    labels: tuple[str, ...]
    oms: str | None


def _feeds(raw: Raw) -> Iterator[Mistake]:
    watched: set[str] = set()
    sites = _names(raw, "oms")
    for index, row in enumerate(rows_of(raw, "feed")):
        if row.get("kind") == "oms":
            oms = _text(row, "oms")
            if is_name(oms) and oms not in sites:
                yield Mistake(("feed", index, "oms"), f"no [[oms]] has this name; there are: {_listed(sites)}")
            if is_name(oms) and oms in watched:
                yield Mistake(("feed", index, "oms"), "another feed watches this OMS already")
            watched.add(oms)
        elif row.get("kind") in ("mqtt", "websocket") and "reading" not in row:
            yield from _own_topic(raw, row, ("feed", index, "topic"))
            yield from _heart(row, index)
        elif row.get("kind") == "websocket":
            if "value" not in row:
                yield Mistake(("feed", index, "value"), "it is required: where the reading stands in a message")
        elif row.get("kind") == "mqtt":
            yield from _own_topic(raw, row, ("feed", index, "topic"))
            named, paths = labels_of(_text(row, "topic")), _table(row, "labels")
            for label, times in Counter(named).items():
                if times > 1 and is_label(label):
                    yield Mistake(("feed", index, "topic"), f"the label {label} stands in it twice")
            for label in sorted(set(named) & paths.keys()):
                yield Mistake(("feed", index, "labels", label), "this label stands in the topic: it has one place only")
            if "value" not in row and (paths or "time" in row):
                yield Mistake(
                    ("feed", index, "value"), "it is missing: without it the payload is the number, and has no paths"
                )


def _heart(row: Raw, index: int) -> Iterator[Mistake]:
    """A feed without a reading: nothing in it may be meant for one."""
    extra = [key for key in ("value", "labels", "time") if key in row]
    if extra:
        sentence = f"it is missing, and {' and '.join(extra)} would be its; a feed without any of them is a heart"
        yield Mistake(("feed", index, "reading"), sentence)
    elif labels_of(_text(row, "topic")):
        yield Mistake(("feed", index, "topic"), "a heart has one topic: the beats on another would hide its silence")


def _sources(raw: Raw) -> list[_Source]:
    found = []
    for row in rows_of(raw, "feed"):
        feed = _text(row, "name")
        if row.get("kind") == "oms":
            oms = _text(row, "oms")
            found += [_Source(feed, reading, labels, oms) for reading, labels in OMS_READINGS.items()]
        elif row.get("kind") in ("mqtt", "websocket") and is_name(row.get("reading")):
            labels = [*labels_of(_text(row, "topic")), *_table(row, "labels")]
            known = tuple(label for label in labels if is_label(label))
            found.append(_Source(feed, _text(row, "reading"), known, None))
    return found


def _rules(raw: Raw) -> Iterator[Mistake]:
    sources = _sources(raw)
    for index, row in enumerate(rows_of(raw, "rule")):
        if row.get("kind", "limit") == "limit":
            yield from _limit(row, index)
        if row.get("warn_at") and any(type(row.get(k)) in (int, Decimal) and row[k] == 0 for k in ("above", "below")):
            yield Mistake(("rule", index, "warn_at"), "a limit of 0 has no fractions to warn at")
        for key in ("scope", "fallback"):
            yield from _scope(raw, row.get(key), ("rule", index, key))
        if row.get("kind") == "stale" and ("feed" in row) is ("reading" in row):
            yield Mistake(("rule", index), "exactly one of reading and feed must be there")
        if row.get("kind") == "deadman" or (row.get("kind") == "stale" and "feed" in row):
            yield from _on_feed(raw, row, index)
            continue
        why = [key for key in ("on_stale", "on_bad") if row.get(key) == "trip"]
        if why and "fallback" not in row:
            yield Mistake(
                ("rule", index, "fallback"),
                f'{why[0]} = "trip" needs it: the scope to trip when no series is known',
            )
        yield from _labels(raw, row, index, sources)
        if row.get("kind") == "ratio":
            yield from _over(row, index, sources)
    yield from _numeraires(raw)


def _numeraires(raw: Raw) -> Iterator[Mistake]:
    """What is worked out in one product says in which."""
    others = {_text(feed, "reading") for feed in rows_of(raw, "feed") if feed.get("kind") != "oms"}
    for index, feed in enumerate(rows_of(raw, "feed")):
        if feed.get("kind") != "oms" or "numeraire" in feed:
            continue
        for rule in rows_of(raw, "rule"):
            reading, oms = _text(rule, "reading"), _text(_table(rule, "scope"), "oms")
            if reading in WORTHS.keys() - others and oms == _text(feed, "oms"):
                why = f'rule "{_text(rule, "name")}" reads {reading}, which is told in one product, such as "USD"'
                yield Mistake(("feed", index, "numeraire"), f"it is missing: {why}")
                break


def _on_feed(raw: Raw, row: Raw, index: int) -> Iterator[Mistake]:
    """A rule on a feed as a whole: there is such a feed, and nothing in the rule needs labels."""
    feed = _text(row, "feed")
    if is_name(feed) and feed not in _names(raw, "feed"):
        there = _listed(_names(raw, "feed"))
        yield Mistake(("rule", index, "feed"), f"no [[feed]] has this name; there are: {there}")
    scope = _table(row, "scope")
    for part in ("account", "user", "instrument"):
        if labels_of(_text(scope, part)):
            yield Mistake(("rule", index, "scope", part), 'a feed as a whole has no labels: name an id, or "every"')
    if row.get("kind") == "stale":
        for key in ("where", "on_stale", "on_bad", "fallback"):
            if key in row:
                yield Mistake(("rule", index, key), "it is for a reading's series; a feed that isn't heard breaches")


def _limit(row: Raw, index: int) -> Iterator[Mistake]:
    limits = [key for key in ("above", "below") if key in row]
    if len(limits) == 2:
        yield Mistake(("rule", index, "below"), "above is there too: exactly one of the two")
    elif not limits:
        yield Mistake(("rule", index), "a limit is missing: exactly one of above and below")


def _labels(raw: Raw, row: Raw, index: int, sources: list[_Source]) -> Iterator[Mistake]:
    """The reading comes from some feed, with every label that the rule's scope and where need."""
    reading = _text(row, "reading")
    if not is_name(reading):
        return
    mine = [source for source in sources if source.reading == reading]
    if not mine:
        there = _listed([source.reading for source in sources])
        yield Mistake(("rule", index, "reading"), f"no feed gives this reading; there are: {there}")
        return
    scope = _table(row, "scope")
    needed: dict[str, Loc] = {
        label: ("rule", index, "where", label) for label in _table(row, "where") if is_label(label)
    }
    templated = False
    for part in ("account", "user", "instrument"):
        for label in labels_of(_text(scope, part)):
            if is_label(label):
                needed[label] = ("rule", index, "scope", part)
                templated = True
                if label != part and label in OMS_LABELS and all(source.oms for source in mine):
                    yield Mistake(
                        ("rule", index, "scope", part), f"the label {label} of an OMS's readings is no {part}"
                    )
    labels = {label for source in mine for label in source.labels}
    for label, loc in needed.items():
        if label not in labels:
            yield Mistake(loc, f"its readings have no label {label}; there are: {_listed(list(labels))}")
    if needed.keys() <= labels and not any(needed.keys() <= set(source.labels) for source in mine):
        yield Mistake(("rule", index, "reading"), "no single feed gives it all the labels that scope and where need")
    # An account's number means another account at another OMS: a template must not carry it over.
    oms = _text(scope, "oms")
    if (
        templated
        and needed.keys() <= labels
        and oms in _names(raw, "oms")
        and all(source.oms not in (None, oms) for source in mine)
    ):
        yield Mistake(
            ("rule", index, "scope", "oms"), "its labels come from the feed of another OMS, whose ids mean others"
        )


def _over(row: Raw, index: int, sources: list[_Source]) -> Iterator[Mistake]:
    """What a share is of comes from some feed, with the same labels: the two are counted label by label."""
    loc: Loc = ("rule", index, "over")
    reading, over, scope = _text(row, "reading"), _text(row, "over"), _table(row, "scope")
    oms = _text(scope, "oms")
    if not is_name(reading) or not is_name(over):
        return
    if over == reading:
        yield Mistake(loc, "it is the reading itself, of which the share is always 1")
        return
    theirs = [source for source in sources if source.reading == over]
    if not theirs:
        there = _listed([source.reading for source in sources])
        yield Mistake(loc, f"no feed gives this reading; there are: {there}")
        return
    theirs = [source for source in theirs if source.oms in (None, oms)]
    named = {label for part in ("account", "user", "instrument") for label in labels_of(_text(scope, part))}
    named.update(label for label in _table(row, "where") if is_label(label))
    mine = [source for source in sources if source.reading == reading and named <= set(source.labels)]
    if mine and not any(_pair(one, other, named) for one in mine for other in theirs):
        yield Mistake(
            loc, f"no feed gives it with the labels of {reading}; shares are of readings whose labels are equal"
        )


def _pair(one: _Source, other: _Source, named: set[str]) -> bool:
    """Events of an OMS lack labels now and then: they are paired by their account and what the rule names."""
    if one.oms is None and other.oms is None:
        return set(one.labels) == set(other.labels)
    return {"account", *named} <= set(one.labels) & set(other.labels)

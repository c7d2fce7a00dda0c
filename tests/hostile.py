"""Payloads that are no readings, each by the way it is made, as hypothesis finds them: the same ones in each run.

The readings are those of feeds whose value is at "v", whose label account is at "acct" and whose time is at "ts".
"""

from __future__ import annotations

import json

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.sampled_from([b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"+1", b"01", b".5", b"1.", b"1e", b"0x10", b"1_0"]),
    st.sampled_from([b"1e400", b"-1e999999999999", b"9" * 400, b"1" + b"0" * 5000, b"0." + b"3" * 100, b"1e-301"]),
    st.sampled_from([b"true", b"false", b"null", b"[]", b"{}", b"[[51]]", b'{"v":51}', b'""', b'" 51"', b'"51 "']),
    st.sampled_from([b'"0x33"', b'"1,5"', b'"NaN"', b'"inf"', b'"51e"', b'"\\u0665\\u0661"', b'"five"']),
)
"""What stands where a number belongs and is none that a reading can have."""
TIMES = st.sampled_from([b"0", b"-1", b"1e300", b'"yesterday"', b'"2026-13-01T00:00:00Z"', b'"2026-01-01T00:00:00"'])
ACCOUNTS = st.one_of(
    st.sampled_from([b"14.0", b"null", b"true", b"[14]", b"{}", b'""', b"1e1", b'"\\u0000"', b"9" * 30]),
    st.integers(201, 1000).map(lambda n: b'"' + b"1" * n + b'"'),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text().filter(lambda k: k != "v"), inner)),
    max_leaves=20,
)
"""Anything that can be JSON, without a value in it."""
GOOD = b'{"v": 51, "acct": 14, "ts": 1767225600000}'


def _object(value=b"51", account=b"14", time=b"1767225600000"):
    return b'{"v": ' + value + b', "acct": ' + account + b', "ts": ' + time + b"}"


MALFORMED = st.one_of(
    NUMBERS.map(lambda number: _object(value=number)),
    ACCOUNTS.map(lambda account: _object(account=account)),
    TIMES.map(lambda time: _object(time=time)),
    JSON.map(lambda said: json.dumps(said).encode()),
    st.binary(min_size=1).map(lambda data: b"\xff" + data),
    st.binary().map(lambda data: GOOD[:-1] + data + b"\xfe"),
    st.integers(0, len(GOOD) - 1).map(lambda end: GOOD[:end]),
    st.integers(1, 3).map(lambda n: GOOD + b"}" * n),
    st.sampled_from([b"v", b"acct", b"ts"]).map(lambda key: GOOD[:-1] + b', "' + key + b'": 52}'),
    st.just(b'{"v": 51, "v": 51, "acct": 14, "ts": 1767225600000}'),
    st.just(b'{"v": 51, "\\u0076": 52, "acct": 14, "ts": 1767225600000}'),
    st.integers(10, 30_000).map(lambda deep: b"[" * deep + b"51" + b"]" * deep),
    st.integers(10, 5000).map(lambda deep: b'{"v":' * deep + b"51" + b"}" * deep),
    st.integers(70_000, 200_000).map(lambda size: _object(account=b'"' + b"x" * size + b'"')),
    st.just(GOOD.decode().encode("utf-16")),
    st.just(b"\xef\xbb\xbf" + GOOD),
)


def malformed(count):
    """So many different ones."""
    found = {}

    @settings(
        max_examples=20 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(MALFORMED)
    def collect(payload):
        if len(found) < count and payload:
            found[payload] = None

    collect()
    assert len(found) == count
    return list(found)

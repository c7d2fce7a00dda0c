"""A kept window's bytes: what was written comes back, and nothing else does."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import Keep, KeptWindow, Slice
from killswitch.wire.kept import KeptError, decode, encode, key_of

D = Decimal
LABELS = (("account", "14"), ("product", "BTC"))
WINDOW = KeptWindow(
    "r", "('rate',)", "var", "var", LABELS, 1.5, (Slice(2.0, 3.25, 2, D("-0.10")), Slice(4.0, 4.0, 1, D(7)))
)
ROW = json.loads(encode(WINDOW, 1_700_000_000.5, 5.0))
TIMES = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


def test_a_window_has_one_row_and_its_bytes_say_all_of_it():
    assert key_of(WINDOW) == '["r","var","var",[["account","14"],["product","BTC"]]]'
    assert ROW == {
        "version": 1,
        "wall": 1_700_000_000.5,
        "clock_s": 5.0,
        "rule": "r",
        "definition": "('rate',)",
        "feed": "var",
        "reading": "var",
        "labels": [["account", "14"], ["product", "BTC"]],
        "since": 1.5,
        "slices": [[2.0, 3.25, 2, "-0.10"], [4.0, 4.0, 1, "7"]],
    }
    assert decode(json.dumps(ROW).encode()) == Keep(1_700_000_000.5, 5.0, (WINDOW,))


@given(
    st.lists(st.tuples(st.text(), st.text())),
    TIMES,
    st.lists(
        st.tuples(TIMES, st.integers(min_value=1, max_value=2**62), st.decimals(allow_nan=False, allow_infinity=False))
    ),
)
def test_whatever_was_written_comes_back(labels, clock_s, parts):
    slices = tuple(Slice(min(at, clock_s), min(at, clock_s), count, total) for at, count, total in parts)
    window = KeptWindow("a rule", "so", "f", "v", tuple(labels), clock_s, slices)
    assert decode(encode(window, 5.0, clock_s)) == Keep(5.0, clock_s, (window,))


def test_the_widest_sum_of_readings_comes_back_digit_by_digit():
    total = D("9" * 64 + "E+236") + D(0)
    widest = D((0, (1,) * 700, -364))
    window = KeptWindow("r", "d", "f", "v", (), 1.0, (Slice(1.0, 1.0, 2, total), Slice(1.0, 1.0, 2, widest)))
    (back,) = decode(encode(window, 1.0, 1.0)).windows
    assert [s.total.as_tuple() for s in back.slices] == [total.as_tuple(), widest.as_tuple()]


def test_a_label_that_is_no_unicode_stops_nobody():
    window = KeptWindow("r", "d", "f", "v", (("account", "\ud800"),), 1.0, ())
    assert decode(encode(window, 1.0, 1.0)).windows[0].labels == (("account", "?"),)
    assert key_of(window) == '["r","f","v",[["account","?"]]]'


@pytest.mark.parametrize(
    "other",
    [
        {"version": 2},
        {"more": 1},
        {"wall": None},
        {"wall": "5"},
        {"since": 1e999},
        {"labels": [["a"]]},
        {"slices": [[2.0, 3.0, 1]]},
        {"slices": [[2.0, 3.0, 1, "1", 5]]},
        {"slices": [[3.0, 2.0, 1, "1"]]},
        {"slices": [[2.0, 5.5, 1, "1"]]},
        {"slices": [[2.0, 3.0, 0, "1"]]},
        {"slices": [[2.0, 3.0, 1, "NaN"]]},
        {"slices": [[2.0, 3.0, 1, "-Infinity"]]},
        {"slices": [[2.0, 3.0, 1, "1E+999999"]]},
        {"slices": [[2.0, 3.0, 1, "1" * 3000]]},
        {"slices": [[2.0, 3.0, 1, "a lot"]]},
    ],
    ids=str,
)
def test_what_is_no_window_of_this_version_is_refused(other):
    text = json.dumps(ROW | other)
    with pytest.raises(KeptError) as error:
        decode(text.encode())
    assert "a lot" not in str(error.value)


@given(st.binary())
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(KeptError):
        decode(data)


@given(st.data())
def test_a_damaged_byte_is_refused_or_read_but_raises_nothing_else(data):
    good = bytearray(encode(WINDOW, 5.0, 5.0))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        (window,) = decode(bytes(good)).windows
    except KeptError:
        return
    assert all(s.total.is_finite() and s.began <= s.at for s in window.slices)

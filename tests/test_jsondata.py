import enum
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import models
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from sisy.errors import InvalidUserdata
from sisy.jsondata import canonical, checked, checked_userdata


class Text(str, enum.Enum):  # noqa: UP042 - as many projects still write it; str() of it is not its value
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Choice(models.TextChoices):
    YES = "yes"


def userdata(value, max_bytes=65536):
    return checked_userdata(value, max_bytes=max_bytes)


def refusal(value, **options):
    with pytest.raises(InvalidUserdata) as caught:
        userdata(value, **options)
    assert caught.value.field == "userdata"
    return str(caught.value)


def nested(levels, innermost=None):
    """Return a dict that contains a dict that ..., with so many dicts in all."""
    value = {"end": innermost}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


# What may be stored


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"": ""},
        {"a": None, "b": True, "c": False},
        {"a": 0, "b": -1, "c": 2**63, "d": -(2**64)},
        {"a": 0.1, "b": -0.0, "c": 1e-300},
        {"a": "", "b": "é € 🦊", "c": "\t\n\r\x01\x7f", "d": '"\\'},
        {"a": [], "b": [[], {}, [None]], "c": {"d": {"e": []}}},
        {"é[0]": 1, 'a"b': 2, "a.b": 3, " ": 4},
    ],
)
def test_what_json_can_hold_is_given_back_as_it_is(value):
    assert userdata(value) == value == json.loads(json.dumps(userdata(value)))


def test_tuples_become_lists():
    assert userdata({"a": (1, (2, ()))}) == {"a": [1, [2, []]]}


def test_the_value_is_copied_all_the_way_down():
    inner = {"list": [1]}
    copied = userdata({"inner": inner, "again": inner})
    inner["list"].append(2)
    assert copied == {"inner": {"list": [1]}, "again": {"list": [1]}}
    copied["inner"]["list"].append(3)
    assert copied["again"] == {"list": [1]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Text.RED, "red"),
        (Choice.YES, "yes"),
        (Number.ONE, 1),
        (mark_safe("<b>"), "<b>"),
        (type("Celsius", (float,), {})(0.5), 0.5),
    ],
)
def test_children_of_plain_types_are_stored_as_their_value(value, plain):
    stored = userdata({"a": value, "b": [value]})
    assert stored == {"a": plain, "b": [plain]}
    assert type(stored["a"]) is type(stored["b"][0]) is type(plain)


def test_keys_that_are_children_of_str_are_stored_as_their_value():
    (key,) = userdata({Text.RED: 1})
    assert (type(key), key) == (str, "red")


def test_any_value_can_be_checked_for_a_result():
    for value in (None, True, 1, 0.5, "text", [1, "a"], {"a": 1}):
        assert checked(value, name="result", max_bytes=100) == value
    with pytest.raises(InvalidUserdata, match=r"^result\[1\] is nan, ") as caught:
        checked([0, float("nan")], name="result", max_bytes=100)
    assert caught.value.field == "result"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_what_is_accepted_is_what_json_gives_back(value):
    try:
        stored = userdata(value)
    except InvalidUserdata as error:
        assert "NUL character" in str(error) or "lone surrogate" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert stored == json.loads(json.dumps(stored, allow_nan=False)) == value


# What may not, and the path to it


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None (NoneType)"),
        ([], "[] (list)"),
        ([("a", 1)], "[('a', 1)] (list)"),
        ("{}", "'{}' (str)"),
        (7, "7 (int)"),
    ],
)
def test_userdata_is_a_dict(value, shown):
    assert refusal(value) == f"userdata must be a dict, not {shown}. Wrap it: userdata={{'value': ...}}."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_refused(value):
    assert refusal({"a": [0, {"b": value}]}) == (
        f'userdata["a"][1]["b"] is {value!r}, which JSON cannot hold. Use None or a string.'
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"bytes", "b'bytes' (bytes)"),
        ({1}, "{1} (set)"),
        (frozenset(), "frozenset() (frozenset)"),
        (Decimal("1.5"), "Decimal('1.5') (Decimal)"),
        (UUID(int=0), "UUID('00000000-0000-0000-0000-000000000000') (UUID)"),
        (date(2026, 1, 1), "datetime.date(2026, 1, 1) (date)"),
        (2j, "2j (complex)"),
        (range(2), "range(0, 2) (range)"),
    ],
)
def test_other_types_are_refused(value, shown):
    text = f'userdata["a"]["b"] is {shown}, which JSON cannot hold. Use a string, number, list or dict'
    assert refusal({"a": {"b": value}}).startswith(text)


def test_functions_instants_and_lazy_texts_are_refused():
    for value in (len, datetime(2026, 1, 1, tzinfo=UTC), gettext_lazy("label"), object()):
        assert refusal({"a": value}).startswith('userdata["a"] is ')


def test_what_is_refused_is_shown_shortened():
    assert len(refusal({"a": b"x" * 10_000})) < 300
    assert len(refusal(["x" * 10_000])) < 300


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1, 2), b"a"])
def test_keys_are_strings(key):
    assert refusal({"a": [{key: 1}]}) == (
        f'userdata["a"][0] has the key {key!r} ({type(key).__name__}); JSON knows only strings as keys. Use str(key).'
    )


def test_nul_characters_are_refused_in_values_and_keys():
    assert refusal({"a": "x\x00"}) == 'userdata["a"] contains a NUL character, which databases refuse. Remove it.'
    assert "the key 'x\\x00' of userdata contains a NUL character" in refusal({"x\x00": 1})


def test_lone_surrogates_are_refused_in_values_and_keys():
    assert refusal({"a": ["x\ud800"]}).startswith('userdata["a"][0] contains a lone surrogate')
    assert "the key '\\ud800' of userdata[\"a\"] contains a lone surrogate" in refusal({"a": {"\ud800": 1}})


def test_a_number_with_more_digits_than_python_reads_is_refused():
    assert 'userdata["a"]' in refusal({"a": 10**5000})


def test_what_contains_itself_is_refused():
    value = {"list": []}
    value["list"].append(value)
    assert refusal(value).startswith("userdata contains itself or is nested deeper than ")


def test_deep_nesting_is_refused_and_deeper_than_pythons_recursion_too():
    for levels in (102, 5000):
        assert refusal(nested(levels)).startswith("userdata contains itself or is nested deeper than ")


def test_moderate_nesting_is_accepted():
    assert userdata(nested(30, [1])) == nested(30, [1])


def test_what_is_accepted_is_not_too_deep_for_mariadb():
    # The CHECK (JSON_VALID(...)) of a JSON column in MariaDB 10.11 fails from 32 levels on, as an IntegrityError.
    assert "nested deeper than" in refusal(nested(32))


# Its size


@pytest.mark.parametrize("text", ["", "x" * 80, "é" * 40, "€" * 26 + "xx", "🦊" * 20, "\n" * 40])
def test_the_size_is_counted_in_bytes_of_utf8_json(text):
    value = {"text": text}
    size = len('{"text": ""}') + (80 if text else 0)
    assert userdata(value, max_bytes=size) == value
    assert refusal(value, max_bytes=size - 1) == (
        f"userdata is {size} bytes of JSON, and at most {size - 1} are allowed "
        '(SISY["USERDATA_MAX_BYTES"]). Store the data in a model and pass its key.'
    )


def test_the_smallest_limit_holds_an_empty_dict():
    assert userdata({}, max_bytes=2) == {}
    assert "3 bytes" not in refusal({"a": 1}, max_bytes=2)


# canonical


def test_equal_values_have_equal_canonical_texts():
    assert canonical({"b": [1, {"d": 1, "c": 2}], "a": None}) == canonical({"a": None, "b": [1, {"c": 2, "d": 1}]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": "é"}, {"a": "e"}),
    ],
)
def test_different_values_have_different_canonical_texts(one, other):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": datetime(2026, 1, 1, tzinfo=UTC)},
        {"a": "\ud800"},
        {1: "a", "b": 2},
        {None: 1, "a": 2},
        {("a", 1): 2},
        {"deep": nested(5000)},
        {"huge": 10**5000},
    ],
    ids=["nan", "set", "bytes", "instant", "surrogate", "int key", "none key", "tuple key", "deep", "huge"],
)
def test_canonical_takes_whatever_a_function_put_into_its_userdata(value):
    assert canonical(value) != canonical({})


def test_canonical_takes_what_contains_itself():
    value = {}
    value["self"] = value
    assert canonical(value) != canonical({})

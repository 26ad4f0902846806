"""The admin's field for userdata: strict JSON, refused with the place of what is wrong."""

import json

import pytest
from django.core.exceptions import ValidationError

from sisy.admin.fields import UserdataField


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": [1, NaN]}', 'userdata["a"][1] is nan'),
        ('{"a": 1e999}', 'userdata["a"] is inf'),
        ('{"a": "\\u0000"}', 'userdata["a"] contains a NUL'),
        ('{"a": {"b": "\\ud800"}}', 'userdata["a"]["b"] contains a lone surrogate'),
        ('{"a": 1, "a": 2}', 'the key "a" twice'),
        ("[1]", "must be a dict"),
        ('"text"', "must be a dict"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": 1', "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 150 + "1" + "}" * 150, "nested deeper than"),
        ('{"a": ' + "9" * 5000 + "}", "can't be read"),
        (json.dumps({"a": "x" * 65536}), "65545 bytes"),
    ],
)
def test_what_is_no_userdata_is_refused_where_it_is(text, reason):
    with pytest.raises(ValidationError) as caught:
        UserdataField(required=False).clean(text)
    assert reason in caught.value.messages[0]


@pytest.mark.parametrize(("text", "value"), [("", {}), (" \n", {}), ('{"a": [1, null, "é"]}', {"a": [1, None, "é"]})])
def test_userdata_is_read(text, value):
    assert UserdataField(required=False).clean(text) == value


def test_what_it_writes_it_reads():
    value = {"a": {"b": [1.5, True, None, "Zoë"]}, "c": "x\n\t"}
    assert UserdataField().to_python(UserdataField().prepare_value(value)) == value


def test_a_row_with_a_lone_surrogate_can_be_shown():
    assert UserdataField().prepare_value({"a": "\ud800"}).encode() == b'{\n  "a": "\\ud800"\n}'


def test_other_spaces_and_another_order_are_no_change():
    field = UserdataField()
    assert not field.has_changed({"a": 1, "b": 2}, ' {"b":2,\r\n"a":1}')
    assert field.has_changed({"a": 1}, '{"a": 2}')
    assert field.has_changed({"a": 1}, "nonsense")

"""The form field for userdata: strict JSON in a text area, refused with the path of what is wrong."""

import json
from collections import Counter
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from sisy import conf, jsondata
from sisy.errors import InvalidUserdata


class UserdataField(forms.Field):
    """A dict of strict JSON, shown indented; an empty text is an empty dict.

    Django's own JSONField takes NaN and doubled keys, and breaks on deep nesting and on very long numbers.
    """

    widget = forms.Textarea(attrs={"rows": 8, "cols": 80, "spellcheck": "false", "class": "sisy-json vLargeTextField"})

    def prepare_value(self, value: Any) -> str:
        """Write a value for the text area; what was typed stays as it was typed."""
        if isinstance(value, str):
            return value
        text = json.dumps({} if value is None else value, indent=2, ensure_ascii=False)
        return text.encode(errors="backslashreplace").decode()  # lone surrogates, as the escapes that JSON knows

    def to_python(self, value: Any) -> dict[str, Any]:
        """Read what was typed.

        Raises:
            ValidationError: it says where and why.
        """
        parsed = _parsed(value) if isinstance(value, str) else value
        try:
            return jsondata.checked_userdata({} if parsed is None else parsed, max_bytes=_limit())
        except InvalidUserdata as error:
            raise ValidationError(str(error)) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether what was typed means something else than the first value."""
        try:
            return jsondata.canonical({} if initial is None else initial) != jsondata.canonical(self.to_python(data))
        except ValidationError:
            return True


def _parsed(text: str) -> Any:
    if not text.strip():
        return {}
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno, "problem": error.msg}
        raise ValidationError(
            _("userdata is not JSON: %(problem)s at line %(line)d, column %(column)d.") % where
        ) from error
    except RecursionError as error:
        raise ValidationError(_("userdata is nested too deeply.")) from error
    except ValueError as error:  # a number of thousands of digits
        raise ValidationError(_("userdata can't be read: %(problem)s.") % {"problem": error}) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        doubled = Counter(key for key, _value in pairs).most_common(1)[0][0]
        raise ValidationError(_('userdata has the key "%(key)s" twice in the same object.') % {"key": doubled})
    return found


def _limit() -> int:
    return conf.current().userdata_max_bytes

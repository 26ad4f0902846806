"""Strict JSON: what may go into userdata and into a run's result.

Models check userdata with it when a task is created, the executor checks results. An error names the path of the bad
value, so that it is found in a large dict.
"""

import json
import math
from typing import Any

from sisy.errors import InvalidUserdata

_MAX_BITS = 3300  # about 1,000 digits: Python refuses to read back more than 4,300
_MAX_DEPTH = 30  # levels; what MariaDB can hold


def checked_userdata(value: object, *, max_bytes: int) -> dict[str, Any]:
    """Return userdata as it will be read back from the database.

    Args:
        value: a dict of strings, numbers, booleans, None, lists, tuples (become lists) and such dicts.
        max_bytes: the largest size allowed, in bytes of UTF-8 JSON.

    Raises:
        InvalidUserdata: names the path of the bad value.

    >>> checked_userdata({"a": (1, 2)}, max_bytes=100)
    {'a': [1, 2]}
    >>> checked_userdata({"a": {"b": float("nan")}}, max_bytes=100)
    Traceback (most recent call last):
        ...
    sisy.errors.InvalidUserdata: userdata["a"]["b"] is nan, which JSON cannot hold. Use None or a string.
    """
    if not isinstance(value, dict):
        raise InvalidUserdata(
            f"userdata must be a dict, not {_short(value)}. Wrap it: userdata={{'value': ...}}.", field="userdata"
        )
    return dict(checked(value, name="userdata", max_bytes=max_bytes))


def checked(value: object, *, name: str, max_bytes: int) -> Any:
    """Return any value as strict JSON gives it back; otherwise as `checked_userdata`.

    >>> checked([1, "a"], name="result", max_bytes=100)
    [1, 'a']
    """
    plain = _plain(value, path=name, depth=0)
    size = len(json.dumps(plain, ensure_ascii=False).encode())
    if size > max_bytes:
        raise InvalidUserdata(
            f"{name} is {size} bytes of JSON, and at most {max_bytes} are allowed "
            '(SISY["USERDATA_MAX_BYTES"]). Store the data in a model and pass its key.',
            field=name,
        )
    return plain


_in_order = json.JSONEncoder(sort_keys=True, allow_nan=False)


def canonical(value: object) -> str | None:
    """Return JSON text that is equal for equal values, to tell whether userdata was changed in place; None if it can't.

    >>> canonical({"b": 1, "a": 2})
    '{"a": 2, "b": 1}'
    """
    try:
        return _in_order.encode(value)
    except Exception:  # a circle, keys that can't be sorted, an object: it is not what was loaded
        return None


def printable(text: object, *, limit: int) -> str:
    r"""Return any text as a database can store it: no NUL, no lone surrogates, cut to a number of characters.

    >>> printable("a" + chr(0), limit=10)
    'a\\x00'
    """
    try:
        plain = str(text)
    except BaseException:  # somebody's __str__; even SystemExit must not get past here
        plain = f"a {type(text).__name__} that cannot be shown"
    return plain.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()[:limit]


def _plain(value: object, *, path: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise _refused(f"{path} is a number of more than 1,000 digits. Use a string.", path)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(f"{path} is {float(value)!r}, which JSON cannot hold. Use None or a string.", path)
        return float(value)
    if isinstance(value, str):
        return _plain_text(value, path=path, what=path)
    if depth > _MAX_DEPTH:
        raise _refused(f"{path.split('[')[0]} contains itself or is nested deeper than {_MAX_DEPTH} levels.", path)
    if isinstance(value, list | tuple):
        return [_plain(item, path=f"{path}[{index}]", depth=depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {_plain_key(key, path=path): _plain(item, path=f'{path}["{key}"]', depth=depth + 1)
                for key, item in value.items()}  # fmt: skip
    raise _refused(
        f"{path} is {_short(value)}, which JSON cannot hold. Use a string, number, list or dict: str(), isoformat().",
        path,
    )


def _plain_key(key: object, *, path: str) -> str:
    if not isinstance(key, str):
        raise _refused(f"{path} has the key {_short(key)}; JSON knows only strings as keys. Use str(key).", path)
    return _plain_text(key, path=path, what=f"the key {key!r} of {path}")


def _plain_text(value: str, *, path: str, what: str) -> str:
    if "\x00" in value:
        raise _refused(f"{what} contains a NUL character, which databases refuse. Remove it.", path)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _refused(f"{what} contains a lone surrogate ({error.reason}). Decode the text first.", path) from None
    return str.__str__(value)  # str() of a member of a str Enum is its name


def _refused(text: str, path: str) -> InvalidUserdata:
    return InvalidUserdata(text, field=path.split("[")[0])


def _short(value: object) -> str:
    try:
        text = f"{value!r:.80}"
    except BaseException:  # somebody's __repr__
        text = "an object that cannot be shown"
    return f"{text} ({type(value).__name__})"

"""A decorator as people write them: it says please, keeps the name, and passes everything on."""

import functools
from collections.abc import Callable
from typing import Any

from . import ledger


def please(function: Callable[..., Any]) -> Callable[..., Any]:
    """Say please first; what an async function's call returns is passed on to be awaited."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ledger.append(kind="please", function=function.__name__)
        return function(*args, **kwargs)

    return wrapper

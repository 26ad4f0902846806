"""The bars of the last hour as numbers that a template writes into an SVG: no script, no style attribute."""

from collections.abc import Sequence
from typing import Any, Final

from django.utils.translation import gettext as _

from sisy.admin import shown
from sisy.admin.overview import Minute

WIDTH: Final = 720
HEIGHT: Final = 120
_GAP: Final = 2
_LEAST: Final = 3  # a single run beside a thousand must be seen


def chart(minutes: Sequence[Minute]) -> dict[str, Any]:
    """Return what throughput.html draws.

    Args:
        minutes: from the oldest to the present one.
    """
    highest = max((minute.good + minute.bad + minute.other for minute in minutes), default=0)
    top = _rounded(highest)
    step = WIDTH / max(1, len(minutes))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "top": top,
        "middle": HEIGHT / 2,
        "bars": [_bar(minute, x=n * step, width=step - _GAP, top=top) for n, minute in enumerate(minutes)],
        "good": sum(minute.good for minute in minutes),
        "bad": sum(minute.bad for minute in minutes),
        "other": sum(minute.other for minute in minutes),
        "total": sum(minute.good + minute.bad + minute.other for minute in minutes),
    }


def _bar(minute: Minute, *, x: float, width: float, top: int) -> dict[str, Any]:
    y, parts = float(HEIGHT), []
    for name, count in (("good", minute.good), ("other", minute.other), ("bad", minute.bad)):
        if count:
            height = max(_LEAST, HEIGHT * count / top)
            y = max(0.0, y - height)
            parts.append({"name": name, "y": f"{y:.1f}", "height": f"{height:.1f}"})
    at = shown.local(minute.at)[11:16]
    numbers = {"time": at, "good": minute.good, "bad": minute.bad, "other": minute.other}
    title = _("%(time)s: %(good)d successful, %(bad)d failed, %(other)d others") % numbers
    return {"x": f"{x:.1f}", "width": f"{width:.1f}", "parts": parts, "title": title}


def _rounded(number: int) -> int:
    """Return the next number that is easy to read: 1, 2, 5, 10, 20, 50 ...

    >>> [_rounded(number) for number in (0, 1, 3, 7, 11, 480)]
    [1, 1, 5, 10, 20, 500]
    """
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if number <= factor * scale:
                return factor * scale
        scale *= 10

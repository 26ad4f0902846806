"""How values look on the admin's pages: instants, durations, states, JSON and text that may be hostile.

Everything here returns escaped HTML or plain text. Labels, userdata and tracebacks are written by anybody: they go
through `visible` where they are shown, and through Django's escaping always.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext_lazy as _
from django.views.debug import SafeExceptionReporterFilter

from sisy.models import RunStatus

NOTHING: Final = "–"
_LONGEST_JSON: Final = 20_000  # characters; a page with more than that is of no use to anybody
_INVISIBLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

MARKS: Final[Mapping[str, str]] = {
    RunStatus.READY: "…",
    RunStatus.RUNNING: "▶",
    RunStatus.SUCCESSFUL: "✓",
    RunStatus.FAILED: "✗",
    RunStatus.CANCELLED: "■",
    RunStatus.SKIPPED: "»",
    RunStatus.MISSED: "?",
    RunStatus.LOST: "!",
}
"""A shape for each state of a run: colours alone say nothing to many people."""


def visible(text: object) -> str:
    r"""Write out characters that would not be seen, or would turn the text around them.

    >>> visible("\x1b[31mred"), visible("a\u202eb"), visible("two\nlines")
    ('\\x1b[31mred', 'a\\u202eb', 'two\nlines')
    """
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def short(text: object, length: int = 120) -> str:
    """Return visible text, cut to a length."""
    return Truncator(visible(text)).chars(length)


def name(text: str, *, below: str) -> SafeString:
    """Show a name that may be broken anywhere, and smaller text below it."""
    html = '<span class="sisy-name">{}</span><span class="sisy-quiet">{}</span>'
    return format_html(html, short(text), breakable(short(below)))


def breakable(path: str) -> SafeString:
    """Let a dotted path be broken after its dots."""
    *most, last = path.split(".")
    return format_html("{}{}", format_html_join("", "{}.<wbr>", ((part,) for part in most)), last)


def instant(value: datetime | None, *, text: str = "") -> str:
    """Show an instant in the site's zone, to the second; its title says it in UTC and how far away it is too.

    Args:
        value: the instant, or None.
        text: what to show in place of it.
    """
    if value is None:
        return NOTHING
    title = f"{local(value)}, {utc(value)} ({distance(value)})"
    html = '<time class="sisy-time" datetime="{}" title="{}">{}</time>'
    return format_html(html, value.isoformat(), title, text or local(value))


def instant_of(text: str) -> str:
    """Show an instant that is written in ISO 8601, or whatever is written instead."""
    try:
        return instant(datetime.fromisoformat(text))
    except (ValueError, TypeError, OverflowError):  # no instant, naive, or at the end of time
        return text


def brief_instant(value: datetime | None) -> str:
    """Show an instant in little space: without the date if it is today's; its title says all."""
    if value is None:
        return NOTHING
    date, _space, time = local(value).partition(" ")
    today, _space, _now = local(timezone.now()).partition(" ")
    return instant(value, text=time if date == today else "")


def instant_and_distance(value: datetime | None) -> str:
    """Show an instant in little space, and below it how far away it is."""
    if value is None:
        return NOTHING
    return format_html('{}<span class="sisy-quiet">{}</span>', brief_instant(value), distance(value))


def day_or_time(value: datetime | None) -> str:
    """Show an instant in very little space: the time if it is today, else the day; below it how far away it is."""
    if value is None:
        return NOTHING
    date, _space, time = local(value).partition(" ")
    today, _space, _now = local(timezone.now()).partition(" ")
    shown = instant(value, text=time if date == today else date)
    return format_html('{}<span class="sisy-quiet">{}</span>', shown, distance(value))


def local(value: datetime) -> str:
    """Say an instant in the site's zone."""
    local_time = timezone.localtime(value) if timezone.is_aware(value) else value
    return local_time.replace(tzinfo=None).isoformat(" ", "seconds")


def utc(value: datetime) -> str:
    """Say an instant in UTC.

    >>> utc(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02 03:04:05 UTC'
    """
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def distance(value: datetime) -> str:
    """Say how far an instant is away: in 5 minutes, 2 hours ago."""
    now = timezone.now()
    if abs(value - now) < timedelta(minutes=1):
        seconds = round((value - now).total_seconds())
        return str(_("in %(n)d s") if seconds > 0 else _("%(n)d s ago")) % {"n": abs(seconds)}
    if value > now:
        return str(_("in %(time)s")) % {"time": timeuntil(value, now, depth=1)}
    return str(_("%(time)s ago")) % {"time": timesince(value, now, depth=1)}


def duration(value: timedelta | None) -> str:
    """Say a duration in the units that fit it.

    >>> duration(timedelta(milliseconds=42)), duration(timedelta(seconds=75)), duration(timedelta(hours=50))
    ('42 ms', '1 min 15 s', '2 d 2 h')
    """
    if value is None:
        return NOTHING
    seconds = value.total_seconds()
    if seconds < 10:
        return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    if hours >= 48:  # as live.js
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def mark(status: str) -> SafeString:
    """Show the shape of a run's state in its colour."""
    return format_html('<span class="sisy-mark sisy-{}" aria-hidden="true">{}</span>', status.lower(), MARKS[status])


def status(value: str) -> SafeString:
    """Show a run's state: shape, colour and word."""
    return format_html('<span class="sisy-status">{} {}</span>', mark(value), RunStatus(value).label)


def state(name: str, *, sign: str, word: Any) -> SafeString:
    """Show the state of a task or a worker: its sign, in the colour that admin.css has for the name, and its word."""
    html = (
        '<span class="sisy-state sisy-{}"><span aria-hidden="true">{}</span> <span class="sisy-word">{}</span></span>'
    )
    return format_html(html, name, sign, word)


def json_block(value: Any) -> str:
    """Show JSON, indented, without what looks secret."""
    if value is None:
        return NOTHING
    text = json.dumps(redacted(value), indent=2, ensure_ascii=False)
    return format_html('<pre class="sisy-pre">{}</pre>', short(text, _LONGEST_JSON))


def redacted(value: Any) -> Any:
    """Return JSON in which the values of keys that look secret are hidden, by the names that Django itself hides.

    >>> redacted({"user": "ada", "api": [{"token": "t"}], "list": [{"password": "p"}]})
    {'user': 'ada', 'api': '********************', 'list': [{'password': '********************'}]}
    """
    return SafeExceptionReporterFilter().cleanse_setting("", value)
